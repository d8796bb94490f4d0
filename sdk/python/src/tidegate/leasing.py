"""The leases that one incarnation holds, per path of budgets. The arithmetic is ``core.budget``'s; the guard holds the lock.

``now`` is the guard's monotonic clock, ``boot`` the one that counts suspend, by which leases live and die.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate.core import budget
from tidegate.core.budget import Lease, Pace
from tidegate.core.snapshot import BudgetRef
from tidegate.errors import BudgetExhausted, Refused, Stale
from tidegate.journal import Journal

if TYPE_CHECKING:
    from tidegate.ticket import Ticket

IDLE_S = 300.0  # a path that nobody used for so long gives up its lease
READY_S = 60.0  # a path that was used within this keeps room for one call
LATE_S = 5.0  # to wait for an answer of a server that is slow, but not gone: the lease lives
RECALL_S = 0.2  # between two questions for what others were told to give back
MAX_LINES = 500
MAX_SHORT_CALLS = 32
MAX_WISH_NUSD = 20_000  # a fiftieth of a cent
MANY = 16_384


class Denial(NamedTuple):
    """Why the server granted nothing, and to which need; ``recalling``: others were told to give back what they hold idle."""

    kind: str
    blocked_by: str | None
    retry_at: float | None
    at: float
    asked: int
    recalling: bool = False

    def holds(self, ticket: Ticket, now: float, interval_s: float) -> bool:
        """Whether a ticket is refused for it: it is news to the ticket, or not old, and no money is on its way back any more."""
        recent = self.at >= ticket.asked_at or now - self.at < interval_s
        return recent and (not self.recalling or now >= ticket.wait_until)


class Slip:
    """One lease, from its opening until the server has confirmed that it is closed."""

    __slots__ = ("closed", "deadline", "denied", "ends", "lease", "number", "path", "retiring", "said")

    def __init__(self, number: int, path: Path) -> None:
        self.number = number
        self.path = path
        self.lease = Lease()
        self.deadline = -math.inf
        self.ends = math.inf
        self.closed = False
        self.retiring = False
        self.denied = 0
        self.said = 0  # the sync that spoke of it last

    def live(self, boot: float) -> bool:
        """Whether calls may be let through on it: it has not expired, or all its budgets let it be finished."""
        if self.retiring or boot >= self.ends:
            return False
        return boot < self.deadline or (self.path.finishes and self.deadline > -math.inf)

    def ends_in(self, boot: float) -> float:
        """Return the seconds for which the lease may be spent from."""
        return min(self.deadline, self.ends) - boot


class Path:
    """The budgets that a kind of call touches, and what is known of how it spends."""

    __slots__ = (
        "denial",
        "finishes",
        "freed",
        "grows",
        "heard_at",
        "ids",
        "only_warns",
        "pace",
        "peak_held",
        "refs",
        "scarce",
        "short",
        "slip",
        "spent",
        "step",
        "typical",
        "used_at",
        "waiting",
        "warned_by",
        "wish",
    )  # fmt: skip

    def __init__(self, refs: tuple[BudgetRef, ...], slip_number: int) -> None:
        self.ids = tuple(ref.id for ref in refs)
        self.follow(refs)
        self.slip = Slip(slip_number, self)
        self.pace = Pace()
        self.peak_held = 0
        self.spent = 0  # settled on all leases of the path
        self.short = 0  # bounds denied since the last sync, nano-USD
        self.grows = 0  # what a stream lacks to go on for a while, nano-USD, since the last sync
        self.step = 0  # the least of it that is of use
        self.heard_at = -math.inf  # when the last question was sent that was answered
        self.freed = 0  # times that there may have come more room
        self.typical = 0
        self.wish = 0  # what it takes to lend to cells, where that is next to nothing
        self.used_at = -math.inf
        self.denial: Denial | None = None
        self.scarce = False  # others are denied what is held idle here
        self.warned_by: str | None = None  # a budget that only warns, and is spent
        self.waiting: dict[Any, int] = {}  # tickets that wait for funding, with their bounds

    def asks_again_at(self, now: float) -> float | None:
        """Return when to ask for what waits, ``None``: at once. What others hold comes back with their syncs, in a while."""
        denial = self.denial
        return denial.at + RECALL_S if denial is not None and denial.recalling and now < denial.at + RECALL_S else None

    def lack(self, step: int, ahead: int) -> None:
        """A stream lacks ``step`` for what comes next, and ``ahead`` to go on for a while."""
        step = max(1, step)
        self.step = min(self.step, step) if self.grows else step
        self.grows = max(self.grows, ahead)

    def follow(self, refs: tuple[BudgetRef, ...]) -> None:
        """Take up what a new snapshot says of the same budgets."""
        self.refs = refs
        self.only_warns = all(ref.on_exhausted == "warn" for ref in refs)
        self.finishes = all(ref.on_disconnect == "finish_lease" or ref.on_exhausted == "warn" for ref in refs)


class Line(NamedTuple):
    """A lease as it was sent, to be held against what is answered."""

    slip: Slip
    sent: Lease
    final: bool
    min_useful: int


class Leases:
    """All leases of one incarnation. Numbers start at 1 and are never used twice."""

    def __init__(self) -> None:
        self.paths: dict[tuple[int, ...], Path] = {}
        self.slips: dict[int, Slip] = {}
        self.journal: Journal | None = None
        self._number = 0
        self._syncs = 0

    def path(self, refs: tuple[BudgetRef, ...]) -> Path:
        """Return the path of ``refs``, known or new."""
        ids = tuple([ref.id for ref in refs])
        path = self.paths.get(ids)
        if path is None:
            path = self.paths[ids] = Path(refs, self._next())
            self.slips[path.slip.number] = path.slip
        elif path.refs is not refs and path.refs != refs:
            path.follow(refs)
        return path

    def _next(self) -> int:
        self._number += 1
        return self._number

    def hold(self, path: Path, bound: int, *, now: float, boot: float, force: bool = False) -> Slip | None:
        """Hold ``bound`` on the path's lease and return its slip, or ``None`` when the lease is dead or has no room."""
        slip = self._current(path, boot)
        path.used_at = now
        path.typical = max(bound, (7 * path.typical + bound) // 8)
        if force:
            slip.lease = budget.hold_unfunded(slip.lease, bound)
        else:
            held = budget.hold(slip.lease, bound) if slip.live(boot) else None
            if held is None:
                return None
            slip.lease = held
        path.peak_held = max(path.peak_held, slip.lease.held)
        self.keep(slip)
        return slip

    def keep(self, slip: Slip) -> None:
        """Have the journal know what is settled and held, before anything comes of it."""
        if self.journal is not None and self.slips.get(slip.number) is slip:
            self.journal.note(slip)

    def _current(self, path: Path, boot: float) -> Slip:
        """Return the path's lease, a new one when its period is over or the server has closed it."""
        slip = path.slip
        if slip.retiring or boot >= slip.ends:
            slip.retiring = True
            path.slip = slip = Slip(self._next(), path)
            self.slips[slip.number] = slip
        return slip

    def settle(self, slip: Slip, *, bound: int, cost: int) -> None:
        slip.lease = budget.settle(slip.lease, bound=bound, cost=cost)
        slip.path.spent += cost
        slip.path.freed += 1
        self.keep(slip)

    def correct(self, slip: Slip, nusd: int) -> None:
        """Say that so much was settled by mistake. It makes room on the budgets, not on the lease."""
        slip.lease = budget.correct(slip.lease, nusd)

    def owe(self, path: Path, cost: int, *, boot: float) -> None:
        """Settle what a call did cost whose lease is not spoken of any more, on the one that its budgets have now."""
        self.settle(self._current(self.path(path.refs), boot), bound=0, cost=cost)

    def lendable(self, path: Path, bound: int, calls: float) -> float:
        """Return for how many of ``calls`` at ``bound`` there is plenty of room. Calls of unknown cost hold next to nothing: the
        next sync asks for what they need; for others, the pace at which they spend does."""
        path.wish = max(path.wish, min(MAX_WISH_NUSD, MANY * bound))
        return min(calls, path.slip.lease.room // (4 * bound))

    def lend(self, slip: Slip, nusd: int) -> None:
        """Hold for calls that are expected; the room for them is there."""
        slip.lease = budget.hold_unfunded(slip.lease, nusd)
        slip.path.peak_held = max(slip.path.peak_held, slip.lease.held)
        self.keep(slip)

    def deny(self, path: Path, bound: int, calls: int = 1) -> None:
        """Remember that a call was denied for lack of room, so that the next sync asks for it.

        A caller that asks again and again must not ask for everything: only so many calls' worth is remembered.
        """
        path.slip.denied += calls
        path.short = min(path.short + bound * calls, max(bound, MAX_SHORT_CALLS * path.typical))

    def lines(self, *, now: float, boot: float, interval_s: float, closing: bool) -> list[Line]:
        """Settle what each lease needs, retire those that nobody needs, and return them as they are to be sent.

        Of more than a sync carries, those that calls wait for go first, then those that were not spoken of for longest.
        """
        for path in self.paths.values():
            self._prepare(path, now=now, boot=boot, interval_s=interval_s, closing=closing)
        slips = list(self.slips.values())
        if len(slips) > MAX_LINES:
            slips = sorted(slips, key=lambda slip: (not slip.path.waiting, slip.said))[:MAX_LINES]
        self._syncs += 1
        for slip in slips:
            slip.said = self._syncs
            self.keep(slip)
        return [
            Line(slip, slip.lease, slip.retiring and slip.lease.held == 0, self._min_useful(slip.path))
            for slip in slips
        ]

    def _prepare(self, path: Path, *, now: float, boot: float, interval_s: float, closing: bool) -> None:
        slip = path.slip
        path.pace = budget.paced(path.pace, settled=path.spent, now=now)
        if closing or boot >= slip.ends or (now - path.used_at > IDLE_S and not slip.lease.held and not path.waiting):
            slip.retiring = True
        if not slip.retiring:
            spare = self.want(path, now=now, interval_s=interval_s) - slip.lease.held
            if slip.lease.room > 2 * spare:
                slip.lease = budget.keep_at_most(slip.lease, spare)

    def want(self, path: Path, *, now: float, interval_s: float) -> int:
        """Return what the path asks for above G − S − R, in nano-USD."""
        return budget.wanted(
            per_s=path.pace.per_s,
            interval_s=interval_s,
            held=max(path.peak_held, path.slip.lease.held),
            denied=path.short + path.grows + sum(path.waiting.values()),
            typical=path.typical + path.wish if now - path.used_at < READY_S else 0,
        )

    def _min_useful(self, path: Path) -> int:
        least = min(path.waiting.values(), default=path.typical)
        return max(1, min(least, path.step) if path.grows else least)

    def as_sent(self, lines: Sequence[Line], *, now: float, interval_s: float) -> list[dict[str, Any]]:
        """Return ``lines`` as docs/protocol.md has them, and start counting anew what was denied."""
        sent = []
        for slip, lease, final, min_useful in lines:
            current = slip.path.slip is slip and not slip.retiring
            sent.append(
                {
                    "number": slip.number,
                    "budgets": list(slip.path.ids),
                    "seen": lease.granted,
                    "settled": lease.settled,
                    "returned": lease.returned,
                    "corrected": lease.corrected,
                    "held": max(0, lease.held),
                    "want": self.want(slip.path, now=now, interval_s=interval_s) if current else 0,
                    "min_useful": min_useful if current else 0,
                    "denied": slip.denied,
                    "waiting": sum(slip.path.waiting.values()) + slip.path.grows if current else 0,
                    "final": final,
                }
            )
        for slip, *_ in lines:
            slip.path.short = slip.path.grows = 0
            slip.path.peak_held = slip.path.slip.lease.held
        return sent

    def answered(
        self, lines: Iterable[Line], answers: Iterable[dict[str, Any]], *, now: float, boot: float, sent_boot: float
    ) -> bool:
        """Merge what the server said of ``lines``, which were sent at ``sent_boot``; return whether rights were given back that it should hear of at once."""
        asked = {line.slip.number: line for line in lines}
        returned = False
        for answer in answers:
            line = asked.get(answer["number"])
            if line is not None and line.slip.number in self.slips:
                line.slip.path.heard_at = now - max(0.0, boot - sent_boot)
                returned |= self._merge(line, answer, now=now, sent_boot=sent_boot)
        return returned

    def _merge(self, line: Line, answer: dict[str, Any], *, now: float, sent_boot: float) -> bool:
        slip, path = line.slip, line.slip.path
        path.freed += 1
        if answer["closed"]:
            slip.closed = slip.retiring = True
            if line.final and slip.lease == line.sent:
                self._forget(slip)
        elif not slip.retiring:
            slip.lease = budget.merge_grant(slip.lease, answer["granted"])
            slip.deadline = max(slip.deadline, sent_boot + answer["ttl_ms"] / 1000)
            period_ms = answer["period_ms"]
            slip.ends = math.inf if period_ms is None else sent_boot + period_ms / 1000
        path.denial = self._denial(line, answer, now)
        path.warned_by = answer["warned_by"]
        before = slip.lease.returned
        path.scarce = answer["cap"] < path.typical
        if not slip.retiring:
            slip.lease = budget.keep_at_most(slip.lease, answer["cap"])
        return slip.lease.returned > before

    def _denial(self, line: Line, answer: dict[str, Any], now: float) -> Denial | None:
        path = line.slip.path
        if line.slip is not path.slip:
            return path.denial
        if answer["denied"] is None or answer["denied"] == "closed":
            return None
        retry_ms = answer["retry_after_ms"]
        retry_at = None if retry_ms is None else now + retry_ms / 1000
        return Denial(
            answer["denied"], answer["blocked_by"], retry_at, now, line.min_useful, answer["recalling"] is True
        )

    def _forget(self, slip: Slip) -> None:
        del self.slips[slip.number]
        if self.journal is not None:
            self.journal.forget(slip.number)
        path = slip.path
        if path.slip is slip and not path.waiting and self.paths.get(path.ids) is path:
            del self.paths[path.ids]

    @property
    def pressed(self) -> bool:
        """Whether others wait for what calls in flight leave over here: the sooner it is given back, the better."""
        return any(
            path.scarce and path.slip.lease.granted > path.slip.lease.settled + path.slip.lease.returned
            for path in self.paths.values()
        )

    @property
    def settled(self) -> bool:
        """Whether nothing is left for the server to confirm."""
        return not self.slips

    def let_go(self) -> None:
        """Forget all leases: nobody hears of them any more. Calls in flight settle on them all the same; paths open new ones."""
        for slip in self.slips.values():
            slip.closed = slip.retiring = True
            if self.journal is not None:
                self.journal.forget(slip.number)
        self.slips = {}
        self.paths = {ids: path for ids, path in self.paths.items() if path.waiting}

    def give_up(self) -> None:
        """Retire every lease: the gate closes."""
        for slip in self.slips.values():
            slip.retiring = True


def waits_longer(ticket: Ticket, now: float) -> bool:
    """Give a call whose question was not answered yet more time, once; return whether it has any left."""
    until = ticket.asked_at + LATE_S
    ticket.wait_until = until if ticket.deadline is None else min(until, ticket.deadline)
    return now < ticket.wait_until


def denied(denial: Denial, path: Path, now: float) -> Refused:
    """Return what a call is told that the server has denied funds."""
    name = denial.blocked_by or path.refs[0].name
    after = None if denial.retry_at is None else max(0.0, denial.retry_at - now)
    if denial.kind == "unknown":
        text = f"{name}: the control plane does not know this budget any more."
        return Stale(text, blocked_by=name, retry_after_s=1.0)
    return BudgetExhausted(f"{name} has nothing left that pays for this call.", blocked_by=name, retry_after_s=after)
