"""What SDKs say of their leases, and what they are answered (docs/protocol.md, "Leases")."""

from __future__ import annotations

from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Meta

from controlplane.domain.leases import Denial

# $1,000,000,000 in nano-USD: no lease gets near it, and sums of many stay inside a bigint.
MAX_LEASE_NUSD = 10**18

Nusd = Annotated[int, Meta(ge=0, le=MAX_LEASE_NUSD)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class LeaseLine(msgspec.Struct, frozen=True, gc=False):
    """One lease in a sync request. Amounts are nano-USD; ``budgets`` are the ids of the path, leaf first."""

    number: Count
    budgets: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=64)]
    seen: Nusd = 0
    settled: Nusd = 0
    returned: Nusd = 0
    corrected: Nusd = 0
    held: Nusd = 0
    want: Nusd = 0
    min_useful: Nusd = 0
    denied: Count = 0
    waiting: Nusd | None = None
    final: bool = False

    def reported_by(self, incarnation: UUID, *, seq: int, allowed: frozenset[str] | None) -> LeaseReport:
        """Return this line with what the rest of the request says of its sender."""
        return LeaseReport(*msgspec.structs.astuple(self), incarnation=incarnation, seq=seq, allowed=allowed)


class LeaseReport(LeaseLine, frozen=True, kw_only=True, gc=False):
    """A line with its sender.

    ``allowed`` are the slugs of the tenants whose budgets the key may touch: those of its scope **and their ancestors**
    (the installation's own budgets need no leave). ``None``: all.
    """

    incarnation: UUID
    seq: Count
    allowed: frozenset[str] | None = None


class Told(NamedTuple):
    """A line and its sender, as they are kept until somebody has to look closer: most reports are merged as they are."""

    line: LeaseLine
    incarnation: UUID
    seq: int
    allowed: frozenset[str] | None

    @property
    def report(self) -> LeaseReport:
        if isinstance(self.line, LeaseReport):
            return self.line
        return self.line.reported_by(self.incarnation, seq=self.seq, allowed=self.allowed)


class LeaseAnswer(msgspec.Struct, frozen=True, gc=False):
    """One lease in a sync response, as it goes over the wire. ``period_ms`` is null when no period on the path ends."""

    number: int
    granted: int
    cap: int
    ttl_ms: int
    period_ms: int | None
    closed: bool
    denied: Denial | None = None
    blocked_by: str | None = None
    retry_after_ms: int | None = None
    recalling: bool = False
    warned_by: str | None = None
