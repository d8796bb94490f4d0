"""A lease report meets the accounts on its path: what is counted, what is granted, what is answered.

The server calls this on rows under lock, the simulator of tests/simulation on rows in memory: the same code, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from controlplane.domain.grants import Account, Ask, Counters, cap, decide
from controlplane.domain.periods import PeriodRule

LeaseKey = tuple[UUID, int]
Denial = Literal["exhausted", "unknown", "closed", "excessive"]

# So much of what was spent beyond leases, and of what is taken back, counts on one account in all, and so many denied calls;
# and so much is leased where nothing blocks. A billion dollars: the sums of any number of liars stay inside a bigint.
MOST_NUSD = 10**18
# No account is exposed to more by what is granted, whatever its budgets come to.
MOST_EXPOSED_NUSD = 4 * MOST_NUSD


class Crowd(NamedTuple):
    """The holders of open leases on an account that are heard of, those that are short of something, and what all may still spend."""

    live: int = 0
    wanting: int = 0
    left: int = 0


NOBODY = Crowd()


class Stood(NamedTuple):
    """What an account had counted since it was opened, before the group that is being merged."""

    settled: int = 0
    denied: int = 0
    overage: int = 0
    corrected: int = 0


NEVER = Stood()


class Line(Protocol):
    """What a report says of a lease. Amounts are nano-USD."""

    @property
    def settled(self) -> int: ...
    @property
    def returned(self) -> int: ...
    @property
    def corrected(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def want(self) -> int: ...
    @property
    def min_useful(self) -> int: ...
    @property
    def denied(self) -> int: ...
    @property
    def waiting(self) -> int | None: ...
    @property
    def final(self) -> bool: ...


class Report(Line, Protocol):
    """What an SDK says of one lease (docs/protocol.md, "Leases"), and who says it. Amounts are nano-USD.

    ``allowed`` are the slugs of the tenants whose budgets the key may touch; ``None``: all.
    """

    @property
    def incarnation(self) -> UUID: ...
    @property
    def seq(self) -> int: ...
    @property
    def allowed(self) -> frozenset[str] | None: ...
    @property
    def number(self) -> int: ...
    @property
    def budgets(self) -> tuple[int, ...]: ...


class Answer(NamedTuple):
    """What the SDK hears of a lease. ``period_ms`` is ``None`` when no period on the path ends.

    ``recalling``: it was denied what others may still spend; what they hold idle is called back. ``warned_by``: a budget that
    only warns, and would refuse the next call if it did not.
    """

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


@dataclass(slots=True)
class BudgetTerms:
    """What does not change of a budget while reports are merged. ``name`` is ``tenant/slug``."""

    id: int
    name: str
    tenant: str | None
    rule: PeriodRule
    archived: bool


@dataclass(slots=True)
class OpenAccount:
    """An account under lock: how it stands now, and how it differs from its row."""

    id: int
    budget: BudgetTerms
    ends_at: datetime | None
    state: Account
    outstanding: int = 0
    settled: int = 0
    denied: int = 0
    false_denied: int = 0
    presumed: int = 0
    overage: int = 0
    blocked: bool = False
    frees_at: datetime | None = None  # when the oldest charge leaves a rolling window
    here: int = 0  # reports of live leases in the group that is being merged
    asking: int = 0  # of these, those that are short of something and have not been answered yet
    crowd: Crowd = NOBODY  # all holders, as they were counted last
    counted_at: datetime | None = None
    recounted: bool = False
    carried: int | None = None  # from the period before, when it is not what the row says
    corrected: int = 0
    stood: Stood = NEVER

    @property
    def changed(self) -> bool:
        """Whether the account differs from its row."""
        counted = self.outstanding, self.settled, self.denied, self.presumed, self.overage, self.corrected
        return any(counted) or self.blocked or self.recounted or self.carried is not None

    @property
    def to_claim(self) -> int:
        """How much more may be said to have been spent beyond leases."""
        return max(0, MOST_NUSD - self.stood.overage - self.overage)

    @property
    def to_correct(self) -> int:
        """How much more may be taken back."""
        return max(0, MOST_NUSD - self.stood.corrected - self.corrected)

    @property
    def to_deny(self) -> int:
        """How many more denied calls are counted."""
        return max(0, MOST_NUSD - self.stood.denied - self.denied)

    def to_lease(self, *, most: int) -> int:
        """How much more may be leased so that no sum exceeds ``most``: in a rolling window, and since there is the account."""
        settled = max(self.state.settled, self.stood.settled + self.settled)
        return most - settled - self.state.outstanding

    def look_around(self) -> None:
        """Take in how many others there are: by the last count, and in this group."""
        crowd = self.crowd
        self.state = self.state.among(wanting=max(1, crowd.wanting, self.asking), live=max(1, crowd.live, self.here))

    def deny(self) -> None:
        """It has no room for a call: what is idle elsewhere is called back."""
        self.blocked = True
        self.state = self.state._replace(scarce=True)

    def retry_after_ms(self, now: datetime) -> int | None:
        """Return when there will be room again, as far as time alone makes it: the next period, or the next slot to leave."""
        at = self.ends_at or self.frees_at
        return None if at is None else max(0, _ms(at - now))

    def move(self, outstanding: int, added: int, taken_back: int = 0) -> None:
        """Change what is outstanding, add what was charged, and take back what had been charged by mistake.

        What is taken back makes no room in a rolling window before the next report: only its slots know whether the
        charge was still inside.
        """
        if not (outstanding or added or taken_back):
            return
        self.outstanding += outstanding
        self.settled += added - taken_back
        settled = added if self.budget.rule.kind == "rolling" else added - taken_back
        self.state = self.state.moved(outstanding=outstanding, settled=settled)


@dataclass(slots=True)
class OpenLease:
    """A lease under lock, or a new one. ``path`` are ids of accounts, leaf first."""

    key: LeaseKey
    path: list[int]
    counters: Counters = field(default_factory=Counters)
    held: int = 0
    denied: int = 0
    seq: int = 0
    closed: bool = False
    opened_at: datetime | None = None
    presumed: int = 0  # charged for a lease whose holder was lost, until the holder says what it spent
    false_denied: int = 0
    overage: int = 0  # settled beyond what had been granted
    asks: bool = False  # whether the report that is being merged is short of something
    short: int = 0  # what the last report was short of when it had been answered
    revoked: bool = False  # grants no more; what is left stays exposed until the holder's final report
    row: int = 0  # where it is kept; none yet when it is new

    @property
    def outstanding(self) -> int:
        return 0 if self.closed else self.counters.outstanding

    @property
    def charged(self) -> int:
        """What the accounts on the path are charged for the lease."""
        return self.counters.charged + self.presumed

    @property
    def exposure(self) -> int:
        """What the lease may come to at most. A report can't raise it but by an overage."""
        return self.outstanding + self.counters.settled + self.presumed


def may_touch(report: Report, budgets: Mapping[int, BudgetTerms]) -> bool:
    """Return whether a lease may be opened on the budgets that ``report`` names; ``budgets`` are those that there are."""

    def allowed(budget: BudgetTerms | None) -> bool:
        if budget is None or budget.archived:
            return False
        return budget.tenant is None or report.allowed is None or budget.tenant in report.allowed

    return len(set(report.budgets)) == len(report.budgets) and all(allowed(budgets.get(key)) for key in report.budgets)


def drop_strangers(
    reports: Sequence[Report], leases: dict[LeaseKey, OpenLease], accounts: Mapping[int, OpenAccount]
) -> None:
    """Take out of ``leases`` those of which a report speaks whose key may not touch every budget on their paths.

    Who hears of another's incarnation, in a trace say, can't end its leases or charge them.
    """
    for report in reports:
        allowed = report.allowed
        if allowed is None:
            continue
        lease = leases.get((report.incarnation, report.number))
        owners = [accounts[key].budget.tenant for key in lease.path] if lease is not None else []
        if not all(owner is None or owner in allowed for owner in owners):
            del leases[report.incarnation, report.number]


def merge_report(
    report: Report, lease: OpenLease, accounts: Mapping[int, OpenAccount], *, now: datetime, ttl_ms: int
) -> Answer:
    """Merge ``report`` into ``lease`` and the accounts on its path, grant what is right, and return the answer.

    Doing it twice, or with an older report after a newer, changes nothing.
    """
    path = [accounts[key] for key in lease.path]
    denied = _count_denied(report, lease, path)
    own = lease.outstanding
    stood, before, presumed = lease.counters, lease.outstanding, lease.presumed
    lease.counters = counters = _merged(report, lease, path)
    settled = counters.settled - stood.settled
    if presumed:
        lease.presumed = 0 if report.final else max(0, presumed - settled)
    lease.closed = lease.closed or report.final
    outstanding, proven = lease.outstanding - before, presumed - lease.presumed
    overage = max(0, outstanding + settled - proven)  # what the lease may come to at most grew by that
    lease.overage += overage
    corrected = counters.corrected - stood.corrected
    for account in path:
        account.move(outstanding, settled, corrected + proven)
        account.corrected += corrected
        account.presumed -= proven
        account.overage += overage
    if report.seq >= lease.seq:
        lease.seq, lease.held = report.seq, report.held
    ask = Ask(report.want, report.min_useful, report.held, report.waiting, denied > 0)
    answer = _answer(report, ask, lease, path, now, ttl_ms, own)
    if report.seq == lease.seq:
        lease.short = 0 if answer.closed else max(0, report.want - lease.outstanding)
    if lease.asks:
        for account in path:
            account.asking -= 1
    return answer


def _merged(report: Report, lease: OpenLease, path: list[OpenAccount]) -> Counters:
    """Return the counters of ``lease`` with what ``report`` says, as far as every account on the path takes it."""
    stood, settled, corrected = lease.counters, report.settled, report.corrected
    backed = stood.settled + lease.outstanding + lease.presumed
    if settled > backed:
        settled = min(settled, backed + min([account.to_claim for account in path]))
    if corrected > stood.corrected:
        corrected = min(corrected, stood.corrected + min([account.to_correct for account in path]))
    return stood.merge(settled=settled, returned=report.returned, corrected=corrected)


def _count_denied(report: Report, lease: OpenLease, path: list[OpenAccount]) -> int:
    """Count calls that the holder denied, and how many of them the accounts had room for when the report came.

    So many as fit, at what the next call needs, into what was free on the whole path before the report is merged. It is an
    estimate: the room at the time of the call, up to one sync before, nobody knows.
    """
    denied = min([report.denied - lease.denied, *(account.to_deny for account in path)])
    if denied <= 0:
        return 0
    lease.denied += denied
    rooms = [account.state.room for account in path if account.state.blocks]
    false = min([denied, *(max(0, room) // max(1, report.min_useful) for room in rooms)])
    lease.false_denied += false
    for account in path:
        account.denied += denied
        account.false_denied += false
    return denied


def _answer(
    report: Report, ask: Ask, lease: OpenLease, path: list[OpenAccount], now: datetime, ttl_ms: int, own: int
) -> Answer:
    ends = [account.ends_at for account in path if account.ends_at is not None]
    period_ms = max(0, _ms(min(ends) - now)) if ends else None
    over = lease.closed or lease.revoked
    denied: Denial | None = None
    name = retry_after_ms = None
    recalling = False
    if over:
        denied = "closed" if not report.final else None
    elif any(account.budget.archived for account in path):
        denied = "unknown"
    elif period_ms != 0:
        blocked_by = _grant(lease, ask, path)
        if blocked_by is not None:
            blocker = path[blocked_by]
            denied, name, retry_after_ms = "exhausted", blocker.budget.name, blocker.retry_after_ms(now)
            recalling = _comes_back(ask, path, own)
            blocker.deny()
    # Less than the next call needs is of no use to whom is denied it, and may be what another lacks.
    kept = 0 if over or denied == "exhausted" else cap(ask, [account.state for account in path])
    granted, warned_by = lease.counters.granted, _warned_by(ask, path)
    return Answer(granted, kept, ttl_ms, period_ms, over, denied, name, retry_after_ms, recalling, warned_by)


def _warned_by(ask: Ask, path: list[OpenAccount]) -> str | None:
    """Return the budget that would refuse the next call if it did not only warn, by what was spent and what the asking holder holds."""
    need = ask.held + max(1, ask.min_useful)
    for account in path:
        state = account.state
        if not state.blocks and not account.budget.archived and state.amount - state.settled < need:
            return account.budget.name
    return None


def _comes_back(ask: Ask, path: list[OpenAccount], own: int) -> bool:
    """Return whether there would be room for the next call on every account, once others have given back all they can.

    ``own`` is what the asking lease had left when all were counted.
    """
    need = max(1, ask.min_useful)
    return all(
        account.state.room + max(0, account.crowd.left - own) >= need for account in path if account.state.blocks
    )


def _grant(lease: OpenLease, ask: Ask, path: list[OpenAccount]) -> int | None:
    """Grant what is right; return the index on the path of the account that denies the next call."""
    most = MOST_EXPOSED_NUSD if any(account.state.blocks for account in path) else MOST_NUSD
    if ask.want - lease.outstanding > min([account.to_lease(most=most) for account in path]):
        return None
    for account in path:
        account.look_around()
    grant = decide(lease.counters, ask, [account.state for account in path])
    if grant.amount:
        before = lease.outstanding
        granted, settled, returned, corrected = lease.counters
        lease.counters = Counters(granted + grant.amount, settled, returned, corrected)
        outstanding = lease.outstanding - before
        for account in path:
            account.move(outstanding, 0)
    return grant.blocked_by


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
