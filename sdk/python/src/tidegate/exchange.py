"""What a sync says and what its answer changes. The guard's lock is held while counters are read or merged, not for I/O."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tidegate.core.catalog import DAY_S
from tidegate.early import EARLY_S
from tidegate.guard import Guard
from tidegate.lanes import Share
from tidegate.leasing import Line
from tidegate.report import checked_leases

MAX_BREAKERS = 200
MANY_BREAKERS = 1000
MAX_DEMAND = 1000
MIN_INTERVAL_S, MAX_INTERVAL_S = 0.05, 60.0
PRESSED = 4  # times as often, while others wait for what is held here
SHARE_TTL_MS = 10_000
MUCH_LESS = 0.05


class Sent(NamedTuple):
    """A sync on its way, to be held against its answer."""

    seq: int
    lines: list[Line]
    sent_boot: float
    sent_ms: int


class Answer(NamedTuple):
    """What an answer asks the client to do."""

    config_etag: str | None
    hurry: bool  # something should be said at once


class Exchange:
    """The conversation of one incarnation with the control plane."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._seq = 0
        self._measured_at = guard.clock.now()

    def request(
        self, identity: dict[str, Any], config: dict[str, Any], *, dropped_spans: int, closing: bool
    ) -> tuple[dict[str, Any], Sent]:
        """Return the body of the next sync as docs/protocol.md has it, and what to remember of it."""
        guard = self._guard
        clock = guard.clock
        guard.catch_up()
        with guard.lock:
            guard.gather()
            now, boot, wall_ms = clock.now(), clock.boot(), clock.wall_ms()
            if guard.early:
                guard.book_early(math.inf if closing else now - EARLY_S)
            interval_s = guard.link.interval_s
            self._seq += 1
            guard.book.turn((wall_ms + guard.report.skew_ms) // 1000 % DAY_S)
            lines = guard.leases.lines(now=now, boot=boot, interval_s=interval_s, closing=closing)
            guard.releases.close(now, guard.arm, everything=closing)
            windows, _ = guard.report.to_send()
            final = closing and guard.report.all_sent
            body = {
                **identity,
                "seq": self._seq,
                "sent_ms": wall_ms,
                "config": config,
                "leases": guard.leases.as_sent(lines, now=now, interval_s=interval_s),
                "windows": windows,
                "sessions": guard.report.sessions(now),
                "breakers": self._breakers(now, wall_ms),
                "demand": self._demand(now),
                "gauges": {
                    "queue_depth": sum(lane.line.waiting for lane in guard.lanes.values()),
                    "dropped_windows": guard.report.dropped_windows,
                    "dropped_spans": dropped_spans,
                },
                "final": final,
            }
        return body, Sent(self._seq, lines, boot, wall_ms)

    def _breakers(self, now: float, wall_ms: int) -> list[dict[str, Any]]:
        """Return the breakers that have something to say; of very many, forget those that have not."""
        breakers = self._guard.breakers
        crowded = len(breakers) > MANY_BREAKERS
        said = []
        for (target, model), circuit in list(breakers.items()):
            for credential, state, rule in circuit.all(now):
                view = state.view(rule, now)
                if view.phase == "closed" and rule.mode == "auto" and not view.calls:
                    if crowded and not credential and not circuit.credentials:
                        del breakers[target, model]
                    continue
                said.append(
                    {
                        "route": target,
                        "model": model,
                        "credential": credential,
                        "phase": view.phase,
                        "mode": rule.mode,
                        "since_ms": wall_ms - max(0, int((now - view.since) * 1000)),
                        "calls": view.calls,
                        "failures": view.failures,
                        "slow": view.slow,
                        "hung": view.hung,
                        "refused": view.refused,
                        "cause": view.cause,
                    }
                )
        return said[:MAX_BREAKERS]

    def _demand(self, now: float) -> list[dict[str, Any]]:
        elapsed_s, self._measured_at = now - self._measured_at, now
        boot = self._guard.clock.boot()
        for lane in self._guard.lanes.values():
            if boot >= lane.shares_until:
                lane.share_out(lane.shares, now=now, boot=boot)
        return [
            {
                "tenant": lane.tenant or "",
                "route": lane.route,
                "unit": unit,
                "per_s": round(per_s, 6),
                "capacity": lane.capacity(unit),
                "share": lane.used_share(unit),
            }
            for lane in self._guard.lanes.values()
            if lane.unmet or lane.demand or lane.line.peak
            for unit, per_s in lane.measure(elapsed_s).items()
        ][:MAX_DEMAND]

    def answered(self, sent: Sent, answer: Any) -> Answer:
        """Merge an answer; ``ValueError`` when it is not one, and then nothing is changed."""
        if not isinstance(answer, dict) or answer.get("seq") != sent.seq:
            raise ValueError("the answer to a sync is not an object with the seq of its request")
        leases = checked_leases(_listed(answer, "leases"))
        shares = [_checked_share(share) for share in _listed(answer, "shares")]
        acked = _whole(answer, "windows_acked")
        interval_s = min(MAX_INTERVAL_S, max(MIN_INTERVAL_S, _whole(answer, "next_sync_ms") / 1000))
        server_ms = _whole(answer, "server_ms")
        guard = self._guard
        with guard.lock:
            guard.gather()
            now = guard.clock.now()
            guard.report.acked(acked)
            guard.report.see_server_clock(server_ms=server_ms, sent_ms=sent.sent_ms, received_ms=guard.clock.wall_ms())
            hurry = guard.leases.answered(
                sent.lines, leases, now=now, boot=guard.clock.boot(), sent_boot=sent.sent_boot
            )
            guard.link.interval_s = max(MIN_INTERVAL_S, interval_s / PRESSED) if guard.leases.pressed else interval_s
            guard.link.next_try_at = float("-inf")
            less = self._share_out(shares, sent.sent_boot)
            guard.wake_unfunded()
            hurry = hurry or less or guard.report.backlog
        etag = answer.get("config_etag")
        return Answer(etag if isinstance(etag, str) else None, hurry)

    def _share_out(self, shares: list[tuple[str, str, str, float, float]], sent_boot: float) -> bool:
        """Use these shares from now on; return whether one is so much smaller that others had better know at once."""
        guard = self._guard
        less = False
        for tenant, route, unit, part, ttl_s in shares:
            known = guard.shares.setdefault((tenant, route), {})
            less = less or (unit in known and known[unit].part - part > MUCH_LESS)
            known[unit] = Share(part, sent_boot + ttl_s)
        now, boot = guard.clock.now(), guard.clock.boot()
        for lane in guard.lanes.values():
            mine = guard.shares.get((lane.tenant or "", lane.route))
            if mine is None:
                continue
            lane.share_out(mine, now=now, boot=boot)
            if lane.line.waiting and "calls" in mine:
                guard.promote(lane)
        return less

    def turned_down(self, status: int) -> None:
        """A sync was answered with an error: one that is too large goes in parts, one that is malformed never again."""
        with self._guard.lock:
            if status == 413:
                self._guard.report.too_large()
            elif status in (400, 422):
                self._guard.report.refused()

    def given_up(self) -> None:
        """The server has given this incarnation up, which was silent for so long. Another one goes on: it has no leases yet."""
        guard = self._guard
        with guard.lock:
            guard.gather()
            guard.leases.let_go()
            guard.wake_unfunded()

    def failed(self, *, next_try_s: float) -> None:
        """A sync got no answer that can be used; the next attempt comes after ``next_try_s``."""
        guard = self._guard
        with guard.lock:
            now = guard.clock.now()
            guard.link.failed_at = now
            guard.link.next_try_at = now + next_try_s
            guard.wake_unfunded()


def _listed(answer: dict[str, Any], name: str) -> list[Any]:
    value = answer.get(name, [])
    if not isinstance(value, list):
        raise ValueError(f"{name} in the answer to a sync is not a list")
    return value


def _whole(answer: dict[str, Any], name: str) -> int:
    value = answer.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} in the answer to a sync is {value!r}, not a whole number")
    return value


def _checked_share(share: Any) -> tuple[str, str, str, float, float]:
    try:
        tenant, route, unit, part = share["tenant"] or "", share["route"], share["unit"], float(share["share"])
        ttl_s = float(share.get("ttl_ms", SHARE_TTL_MS)) / 1000
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"a share in the answer to a sync is malformed: {error}") from None
    if not 0 <= part <= 1 or not 0 <= ttl_s <= 86_400:
        raise ValueError(f"a share in the answer to a sync is {part} for {ttl_s} s, not from 0 to 1 for a while")
    return tenant, route, unit, part, ttl_s
