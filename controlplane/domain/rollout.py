"""The life of a rollout: what people may do to it, and what it does by itself. Old state in, new state out.

    draft → approval → scheduled → running (ring by ring: bake, analysis, gate) → promoting → complete
                                      ↕ paused, held (with a reason)            ↘ rolled_back, aborted

Safety comes first and in every phase in which the candidate is served, waiting ones too. A human's approval is the last gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from controlplane.domain.verdict import Verdict
from tidegate.core.bucketing import PARTS

STRATEGIES = ("rings", "canary", "shadow", "blue_green")
GATES = ("verdict", "manual", "time")
SERVED = frozenset({"running", "paused", "held", "promoting"})
WAITING = frozenset({"draft", "approval", "scheduled"})
OPEN = SERVED | WAITING
ENDED = frozenset({"complete", "rolled_back", "aborted"})
PROMOTING_AT_MOST = timedelta(seconds=60)
NO_TRAFFIC = "No units were compared in this ring: there is nothing to judge by."


class RingPlan(NamedTuple):
    """``share`` is in parts per million of the units that the ring names. ``patience_s`` ends the analysis, ``bake_s`` may.

    ``gate``: ``verdict`` goes on by evidence, ``manual`` asks a person as well, ``time`` goes on when nothing speaks against it.
    ``shadow``: nobody gets the candidate, copies of the ring's calls do; such rings come before those that serve.
    """

    name: str
    share: int
    tenants: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    bake_s: int = 60
    patience_s: int = 3600
    gate: str = "verdict"
    shadow: bool = False


class Plan(NamedTuple):
    strategy: str
    rings: tuple[RingPlan, ...]
    needs_approval: bool = False


class State(NamedTuple):
    """``step`` numbers the rules of assignment of a deployment: every change of who gets what has its own."""

    phase: str = "draft"
    ring: int = -1
    step: int = 0
    entered_at: datetime | None = None
    extended_s: int = 0
    skipped: bool = False
    asks: bool = False  # all that is missing is a person's approval
    flipped: bool = False  # blue-green: the candidate is live
    starts_at: datetime | None = None
    reason: str = ""
    bad: bool = False
    attempt: int = 1
    version: int = 1


class Facts(NamedTuple):
    """What is known at a tick. ``refused`` says why clients would not take the config, ``frozen`` until when nothing may go on."""

    verdict: Verdict | None = None
    compared: int = 0
    refused: str = ""
    converged: bool = False
    frozen: str = ""


class Impossible(Exception):
    """The verb does not fit the phase."""


class Serving(NamedTuple):
    """Who gets the candidate: nobody, the rings below ``reached``, or everybody."""

    candidate: bool
    everybody: bool
    reached: int


def serving(state: State, plan: Plan) -> Serving:
    """Return what the state means for assignment."""
    if state.phase in {"promoting", "complete"}:
        return Serving(True, True, len(plan.rings))
    if state.phase not in SERVED:
        return Serving(False, False, 0)
    if plan.strategy == "blue_green":
        return Serving(True, state.flipped, 0)
    return Serving(True, False, state.ring + 1)


def in_shadow(state: State, plan: Plan) -> bool:
    """Tell whether only copies of calls get the candidate now."""
    return state.phase in SERVED - {"promoting"} and bool(plan.rings) and ring_of(state, plan).shadow


# What people do.


def start(state: State, plan: Plan, now: datetime) -> State:
    """Begin: ask for approval where that is needed, wait for the time that is set, or enter the first ring."""
    _only(state, "start", "draft")
    if plan.needs_approval:
        return _changed(state, phase="approval", reason="Waits for another person's approval.")
    return _begin_or_wait(state, now)


def edit(state: State, starts_at: datetime | None) -> State:
    """Change what has not begun: it is a draft again, so what was approved is what runs."""
    _only(state, "take changes", *WAITING)
    return _changed(state, phase="draft", starts_at=starts_at)


def approve(state: State, plan: Plan, now: datetime) -> State:
    """Let a rollout begin, or past the gate at which it asks."""
    if state.phase == "approval":
        return _begin_or_wait(state, now)
    if state.phase == "running" and state.asks:
        return _next_ring(state, plan, now)
    raise Impossible("Nothing here waits for an approval.")


def _begin_or_wait(state: State, now: datetime) -> State:
    if state.starts_at is not None and state.starts_at > now:
        return _changed(state, phase="scheduled", reason=f"Starts at {state.starts_at:%Y-%m-%d %H:%M} UTC.")
    return begin(state, now)


def begin(state: State, now: datetime) -> State:
    """Enter the first ring."""
    return _entered(state, phase="running", ring=0, now=now)


def pause(state: State, _: Plan, __: datetime) -> State:
    """Stop going on by itself. Who has the candidate keeps it, and safety goes on."""
    _only(state, "pause", "running")
    return _changed(state, phase="paused", reason="Paused.")


def resume(state: State, plan: Plan, now: datetime) -> State:
    """Go on. A rollout that was held gets its ring's patience once more."""
    _only(state, "resume", "paused", "held")
    if state.phase == "held":
        more = (
            0
            if plan.strategy == "blue_green"
            else max(0, _seconds_over(state, plan, now)) + ring_of(state, plan).patience_s
        )
        return _changed(state, phase="running", extended_s=state.extended_s + more)
    return _changed(state, phase="running")


def promote(state: State, plan: Plan, now: datetime) -> State:
    """Go into the next ring at once; after the last one, to everybody. Blue-green: make the candidate live."""
    _only(state, "promote", "running", "paused", "held")
    if plan.strategy == "blue_green":
        return _changed(state, phase="running", flipped=True, step=state.step + 1, entered_at=now, asks=False)
    return _next_ring(state, plan, now)


def promote_fully(state: State, _: Plan, now: datetime) -> State:
    """Give the candidate to everybody at once."""
    _only(state, "promote fully", "running", "paused", "held")
    return _entered(state, phase="promoting", ring=state.ring, now=now)


def switch(state: State, plan: Plan, now: datetime) -> State:
    """Blue-green: make the other side live, in either direction, as often as wanted."""
    if plan.strategy != "blue_green":
        raise Impossible("Only a blue-green rollout has two sides to switch.")
    _only(state, "switch", "running", "paused", "held")
    return _changed(state, phase="running", flipped=not state.flipped, step=state.step + 1, entered_at=now)


def skip(state: State, plan: Plan, now: datetime) -> State:
    """Skip what is left of this ring's bake and analysis. Its gate stays."""
    _only(state, "skip", "running", "held")
    if plan.strategy == "blue_green":
        raise Impossible("A blue-green rollout has nothing to skip: switch it.")
    if ring_of(state, plan).gate == "manual":
        return _changed(state, phase="running", skipped=True, asks=True, reason="Waits for a person's approval.")
    return _next_ring(state, plan, now)


def abort(state: State, _: Plan, now: datetime) -> State:
    """Give up without blame: everybody is back on the stable release, and the candidate may be tried again."""
    _only(state, "abort", "draft", "approval", "scheduled", "running", "paused", "held")
    return _entered(state, phase="aborted", ring=state.ring, now=now)


def rollback(state: State, _: Plan, now: datetime) -> State:
    """Take the candidate back and mark it bad. Also after completion."""
    _only(state, "roll back", "running", "paused", "held", "promoting", "complete")
    return _entered(state, phase="rolled_back", ring=state.ring, now=now)._replace(bad=True, flipped=False)


def retry(state: State, _: Plan, now: datetime) -> State:
    """Begin again at the first ring, with fresh evidence. A release that was marked bad is never tried again."""
    if state.bad:
        raise Impossible("The release is marked bad: it is never returned to. Make a new one.")
    _only(state, "retry", "held", "aborted")
    return begin(state, now)._replace(attempt=state.attempt + 1, flipped=False)


def extend(state: State, _: Plan, __: datetime, *, seconds: int) -> State:
    """Give the ring's analysis ``seconds`` more; one that was held goes on."""
    _only(state, "extend", "running", "paused", "held")
    if not 1 <= seconds <= 30 * 86400:
        raise Impossible("A ring can be extended by 1 second to 30 days.")
    phase = "running" if state.phase == "held" else state.phase
    return _changed(
        state, phase=phase, extended_s=state.extended_s + seconds, reason=state.reason if phase == "paused" else ""
    )


Act = Callable[[State, Plan, datetime], State]
VERBS: Mapping[str, Act] = {
    "start": start,
    "approve": approve,
    "pause": pause,
    "resume": resume,
    "promote": promote,
    "promote_fully": promote_fully,
    "switch": switch,
    "skip": skip,
    "abort": abort,
    "rollback": rollback,
    "retry": retry,
}
# What a freeze forbids.
GOES_ON = frozenset({"start", "approve", "promote", "promote_fully", "skip", "retry", "switch"})


# What it does by itself.


class Decision(NamedTuple):
    """``verb`` is what ``carried_out`` does; ``reason`` is for people."""

    verb: str
    reason: str


def decide(state: State, plan: Plan, facts: Facts, now: datetime) -> Decision | None:
    """Return what is to be done now, safety first; ``None``: nothing."""
    if state.phase in SERVED:
        danger = _danger(state, facts)
        if danger is not None:
            return danger
    if state.phase == "scheduled":
        return (
            None
            if facts.frozen or state.starts_at is None or now < state.starts_at
            else Decision("begin", "Its time has come.")
        )
    if state.phase == "promoting":
        late = state.entered_at is not None and now - state.entered_at > PROMOTING_AT_MOST
        if facts.converged:
            return Decision("complete", "Every client runs it.")
        return Decision("complete", "Some clients are silent; those that report run it.") if late else None
    if state.phase == "running" and plan.strategy != "blue_green" and not state.asks:
        return _progress(state, plan, facts, now)
    return None


def _danger(state: State, facts: Facts) -> Decision | None:
    verdict = facts.verdict
    if verdict is not None and (verdict.harmful or verdict.breached):
        return Decision("rollback", verdict.reason)
    if state.phase == "held":
        return None
    if facts.refused:
        return Decision("hold", f"Clients refused the config: {facts.refused}")
    if verdict is not None and verdict.mismatched:
        return Decision("hold", verdict.reason)
    return None


def _progress(state: State, plan: Plan, facts: Facts, now: datetime) -> Decision | None:
    ring = ring_of(state, plan)
    baked = state.skipped or _age_s(state, now) >= ring.bake_s
    if not baked:
        return None
    if ring.gate == "time":
        return _go_on(state, plan, facts, "Baked without harm.")
    if ring.gate == "manual" and ring.share >= PARTS:
        return Decision("ask", "Baked without harm. Waits for a person's approval.")
    if facts.verdict is not None and facts.verdict.promising:
        if ring.gate == "manual":
            return Decision("ask", f"Waits for a person's approval. {facts.verdict.reason}")
        return _go_on(state, plan, facts, facts.verdict.reason)
    if _seconds_over(state, plan, now) < 0:
        return None
    if not facts.compared:
        return Decision("hold", NO_TRAFFIC)
    slowest = facts.verdict.slowest if facts.verdict is not None else "errors"
    return Decision(
        "hold", f"The time for analysis is over without a verdict; {slowest} speak neither for it nor clearly against."
    )


def _go_on(state: State, plan: Plan, facts: Facts, reason: str) -> Decision | None:
    if facts.frozen:
        return None
    return Decision("finish" if state.ring + 1 >= len(plan.rings) else "advance", reason)


def carried_out(state: State, plan: Plan, decision: Decision, now: datetime) -> State:
    """Return the state after a decision of ``decide``."""
    does: Mapping[str, Callable[[], State]] = {
        "rollback": lambda: rollback(state, plan, now),
        "hold": lambda: _changed(state, phase="held"),
        "ask": lambda: _changed(state, asks=True),
        "begin": lambda: begin(state, now),
        "advance": lambda: _next_ring(state, plan, now),
        "finish": lambda: _next_ring(state, plan, now),
        "complete": lambda: _changed(state, phase="complete"),
    }
    return does[decision.verb]()._replace(reason=decision.reason)


def next_at(state: State, plan: Plan) -> datetime | None:
    """Return when the ring's analysis is over at the latest."""
    if state.entered_at is None or state.phase not in {"running", "paused"} or plan.strategy == "blue_green":
        return None
    ring = ring_of(state, plan)
    if ring.gate == "time":
        return state.entered_at + timedelta(seconds=ring.bake_s)
    return state.entered_at + timedelta(seconds=max(ring.bake_s, ring.patience_s) + state.extended_s)


def ring_of(state: State, plan: Plan) -> RingPlan:
    """Return the ring that a rollout with rings is in, or was in last."""
    return plan.rings[min(max(0, state.ring), len(plan.rings) - 1)]


def _age_s(state: State, now: datetime) -> float:
    return (now - state.entered_at).total_seconds() if state.entered_at is not None else 0.0


def _seconds_over(state: State, plan: Plan, now: datetime) -> int:
    ring = ring_of(state, plan)
    return int(_age_s(state, now) - max(ring.bake_s, ring.patience_s) - state.extended_s)


def _next_ring(state: State, plan: Plan, now: datetime) -> State:
    if state.ring + 1 >= len(plan.rings):
        return _entered(state, phase="promoting", ring=state.ring, now=now)
    return _entered(state, phase="running", ring=state.ring + 1, now=now)


def _entered(state: State, *, phase: str, ring: int, now: datetime) -> State:
    return state._replace(
        phase=phase, ring=ring, step=state.step + 1, entered_at=now, extended_s=0, skipped=False, asks=False, reason="",
        version=state.version + 1,
    )  # fmt: skip


def _changed(state: State, **parts: object) -> State:
    return state._replace(**{"reason": "", "version": state.version + 1, **parts})  # type: ignore[arg-type]  # names are State's


def _only(state: State, verb: str, *phases: str) -> None:
    if state.phase not in phases:
        raise Impossible(f"A rollout that is {state.phase.replace('_', ' ')} can't be told to {verb}.")
