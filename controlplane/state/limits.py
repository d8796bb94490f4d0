"""What a tenant may keep in all: looked at before a write that could be too much, counted exactly when it comes close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from controlplane.problems import Problem
from controlplane.state.placement import Rules

FRESH_S = 2.0
_MOST_TENANTS = 10_000


class Full(Problem):
    """The tenant keeps as much as its rule allows."""

    status, kind, title = 507, "state-full", "There is no room for more state"


@dataclass(slots=True)
class _Known:
    """What was counted, and what may have come since."""

    keys: int
    bytes: int
    counted_at: float

    def takes(self, rules: Rules, keys: int, size: int) -> bool:
        fits_keys = rules.max_keys is None or self.keys + keys <= rules.max_keys
        return fits_keys and (rules.max_bytes is None or self.bytes + size <= rules.max_bytes)


Count = Callable[[str], Awaitable[tuple[int, int]]]
Present = Callable[[], Awaitable[int | None]]


class Limits:
    """One per process. ``count`` returns the keys and bytes of a tenant on all nodes.

    Of several edges each learns within two seconds what the others let in: so much a tenant may go over.
    """

    def __init__(self, count: Count) -> None:
        self._count = count
        self._known: dict[str, _Known] = {}
        self._counting: dict[str, asyncio.Lock] = {}

    async def room(self, tenant: str, rules: Rules, size: int, present: Present) -> None:
        """Let a write of ``size`` bytes through; ``Full`` when the tenant has no room for it.

        ``present`` tells how many bytes the value has now, ``None`` for none: what is replaced makes room.
        """
        if rules.max_keys is None and rules.max_bytes is None:
            return
        known = self._known.get(tenant)
        if known is None or time.monotonic() - known.counted_at > FRESH_S or not known.takes(rules, 1, size):
            known = await self._counted(tenant)
        keys, more = 1, size
        if not known.takes(rules, keys, more):
            old = await present()
            if old is not None:
                keys, more = 0, size - old
            grows = keys > 0 or more > 0
            if grows and not known.takes(rules, keys, more):
                raise Full(f"The tenant keeps {known.keys:,} values of {known.bytes:,} bytes; {_allowed(rules)}.")
        known.keys += keys
        known.bytes += more

    async def _counted(self, tenant: str) -> _Known:
        """Count a tenant anew; of those who want to know at the same time, one counts."""
        asked_at = time.monotonic()
        async with self._counting.setdefault(tenant, asyncio.Lock()):
            known = self._known.get(tenant)
            if known is None or known.counted_at < asked_at:
                keys, held = await self._count(tenant)
                if len(self._known) > _MOST_TENANTS:
                    self._known, self._counting = {}, {}
                known = self._known[tenant] = _Known(keys, held, time.monotonic())
            return known


def _allowed(rules: Rules) -> str:
    """Say what a rule allows: "its rule allows 3 values and 2,000 bytes"."""
    limits = ((rules.max_keys, "values"), (rules.max_bytes, "bytes"))
    return "its rule allows " + " and ".join(f"{most:,} {unit}" for most, unit in limits if most is not None)
