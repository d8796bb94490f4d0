"""What the guard knows of one call: what the caller said, what was taken for it, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from tidegate.core.circuit import Circuit, Pass
from tidegate.core.policy import NOTHING, Policy
from tidegate.core.queue import Entry
from tidegate.core.release import Assignment
from tidegate.report import RowKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.cells import CellKey
    from tidegate.lanes import BucketKey, Lane
    from tidegate.leasing import Path, Slip
    from tidegate.reserving import Hold
    from tidegate.waiting import Waiter

Stage = Literal["new", "queued", "funding", "running", "over"]


class Usage(NamedTuple):
    """What the caller recorded of one attempt. Costs are nano-USD."""

    input_tokens: int
    output_tokens: int | None
    cached_input_tokens: int
    cost_nusd: int | None
    model: str | None


SLOTS = (
    "amended", "arrived", "asked_at", "assignment", "attempts", "beyond", "bound", "category", "cell_key", "charged", "circuit",
    "counted_as", "credential", "deadline", "declared_nusd", "entry", "epoch", "estimate", "final", "first_at",
    "fixed", "hedge", "input_tokens", "key", "lane", "leave", "max_output_tokens", "model", "path", "paused_s", "policy", "priority",
    "reach", "route", "score", "seen", "session", "since", "slip", "stage", "started", "stride", "taken", "target", "tenant", "total_cached",
    "total_cost", "total_input", "total_output", "ungoverned", "usage", "user", "wait_until", "waiter", "watched",
)  # fmt: skip


class Ticket:
    """One call. The first group is the caller's, the second lasts as long as the call, the third as long as one attempt."""

    if not TYPE_CHECKING:
        __slots__ = ()  # OwnCall has SLOTS; a swift call makes do with a few of them

    def __init__(self) -> None:
        self.tenant: str | None = None
        self.route = ""
        self.user = self.session = self.category = self.model = ""
        self.target = ""  # whom the call depends on, when it is not its route that says so
        self.credential = ""  # by what name it is known there
        self.input_tokens: int | None = None
        self.max_output_tokens: int | None = None
        self.declared_nusd: int | None = None
        self.priority = 0
        self.cell_key: CellKey | None = None  # which calls are like this one, where any may be
        self.fixed = False  # whether these have the same tokens, too
        self.epoch = 0
        self.lane: Lane | None = None
        self.policy: Policy = NOTHING
        self.key = RowKey("", "", "", "")
        self.ungoverned = False  # it arrived before there was a policy
        self.arrived: float | None = None
        self.started: float | None = None  # the first attempt was let through
        self.deadline: float | None = None
        self.assignment: Assignment | None = None
        self.counted_as = ("", 0.0)  # unit of the deployment, and how long one is watched
        self.score: float | None = None
        self.attempts = 0
        self.watched: frozenset[str] = frozenset()  # reasons for which it would have been refused
        self.amended: Callable[[], None] | None = None  # told, under the guard's lock, when it was charged otherwise
        self.paused_s = 0.0  # before the last attempt
        self.hedge = False  # an attempt beside another call's, which counts for both
        self.total_cost = self.total_input = self.total_cached = self.total_output = 0
        self.renew()

    def renew(self) -> None:
        """Get ready for an attempt."""
        self.stage: Stage = "new"
        self.since = 0.0  # this attempt was let through
        self.first_at: float | None = None  # the first of its answer arrived
        self.asked_at = 0.0  # funding was missing since then
        self.wait_until = 0.0
        self.waiter: Waiter | None = None
        self.entry: Entry | None = None
        self.circuit: Circuit | None = None
        self.leave: Pass | None = None  # the permits of its breakers
        self.taken: list[tuple[BucketKey, float]] = []
        self.path: Path | None = None
        self.slip: Slip | None = None
        self.bound = 0
        self.estimate = 0
        self.usage: Usage | None = None
        self.charged: int | None = None  # nano-USD, once it has ended
        self.beyond: dict[str, int] | None = None  # usage of classes that the three counts don't tell apart
        self.seen: int | None = None  # output tokens so far, as far as the caller said
        self.stride = 0  # the most that came at once
        self.reach: Hold | None = None  # how far its hold reaches, once it said something
        self.final = False  # the caller said that this attempt must not be repeated

    @property
    def payer(self) -> str:
        """The credential that a provider would turn down: each tenant is taken to have its own unless the caller says."""
        return self.credential or self.key.tenant

    def wait(self, until: float) -> Waiter:
        """Return a way to wait that suits the caller, a thread or an event loop."""
        raise NotImplementedError
