"""The life of a rollout: verbs, what it does by itself, and that safety comes first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.rollout import (
    ENDED,
    SERVED,
    VERBS,
    Decision,
    Facts,
    Impossible,
    Plan,
    RingPlan,
    State,
    carried_out,
    decide,
    edit,
    extend,
    next_at,
    serving,
)
from controlplane.domain.verdict import Verdict
from tidegate.core.bucketing import PARTS

NOW = datetime(2026, 11, 25, tzinfo=UTC)
CANARY = RingPlan("Canary", 50_000, bake_s=60, patience_s=600)
EVERYONE = RingPlan("Everyone", PARTS, bake_s=30, gate="time")
PLAN = Plan("rings", (CANARY, RingPlan("Early", 250_000, bake_s=60, patience_s=600), EVERYONE))
BLUE_GREEN = Plan("blue_green", ())


def verdict(**parts: Any) -> Verdict:
    made = Verdict(
        harmful=False, mismatched=False, breached=False, promising=False, reason="", harm=0.0, promotion=0.0,
        worst="errors", slowest="errors",
    )  # fmt: skip
    return made._replace(**parts)


PROMISING = Facts(verdict=verdict(promising=True, reason="No worse."), compared=100)
NOTHING = Facts(verdict=verdict(), compared=100)
HARMFUL = Facts(verdict=verdict(harmful=True, reason="More errors."), compared=100)


def do(state: State, *verbs: str, plan: Plan = PLAN, now: datetime = NOW) -> State:
    for verb in verbs:
        state = VERBS[verb](state, plan, now)
    return state


def ticked(state: State, facts: Facts, after_s: float, plan: Plan = PLAN) -> tuple[State, Decision | None]:
    now = NOW + timedelta(seconds=after_s)
    decision = decide(state, plan, facts, now)
    return (carried_out(state, plan, decision, now) if decision else state), decision


def test_start__draft__enters_the_first_ring() -> None:
    state = do(State(), "start")

    assert (state.phase, state.ring, state.step, state.version) == ("running", 0, 1, 2)
    assert serving(state, PLAN) == (True, False, 1)


def test_start__needs_approval__waits_for_another_person() -> None:
    plan = PLAN._replace(needs_approval=True)
    state = do(State(), "start", plan=plan)

    assert state.phase == "approval"
    assert not serving(state, plan).candidate
    assert do(state, "approve", plan=plan).phase == "running"


def test_start__at_a_time__begins_then_and_not_while_frozen() -> None:
    state = do(State(starts_at=NOW + timedelta(hours=1)), "start")

    assert state.phase == "scheduled"
    assert ticked(state, Facts(), 3599)[1] is None
    assert ticked(state, Facts(frozen="Frozen."), 3600)[1] is None
    assert ticked(state, Facts(), 3600)[0].phase == "running"


def test_decide__promising_after_the_bake__advances_ring_by_ring_to_everybody() -> None:
    state = do(State(), "start")
    assert ticked(state, PROMISING, 59)[1] is None

    state, _ = ticked(state, PROMISING, 60)
    assert (state.phase, state.ring, state.step) == ("running", 1, 2)
    state, _ = ticked(state, PROMISING, 120)
    assert state.ring == 2
    state, decision = ticked(state, NOTHING, 150)
    assert decision is not None
    assert (decision.verb, state.phase) == ("finish", "promoting")
    assert serving(state, PLAN).everybody
    state, _ = ticked(state, Facts(converged=True), 151)
    assert state.phase == "complete"


def test_decide__no_verdict_at_the_end_of_patience__is_held_never_promoted() -> None:
    state = do(State(), "start")

    assert ticked(state, NOTHING, 599)[1] is None
    state, decision = ticked(state, NOTHING, 600)

    assert state.phase == "held"
    assert decision is not None
    assert "without a verdict" in state.reason


def test_decide__nothing_to_compare__is_held_for_that() -> None:
    state, _ = ticked(do(State(), "start"), Facts(verdict=verdict()), 600)

    assert state.phase == "held"
    assert "nothing to judge by" in state.reason


@pytest.mark.parametrize("waiting", ["running", "paused", "held", "promoting"])
def test_decide__harm__rolls_back_in_every_phase_that_serves(waiting: str) -> None:
    state = do(State(), "start")._replace(phase=waiting, asks=waiting == "running")

    state, decision = ticked(state, HARMFUL, 1)

    assert decision == Decision("rollback", "More errors.")
    assert (state.phase, state.bad) == ("rolled_back", True)
    assert serving(state, PLAN) == (False, False, 0)


def test_decide__guardrail_breached__rolls_back() -> None:
    state, _ = ticked(do(State(), "start"), Facts(verdict=verdict(breached=True, reason="Guardrail")), 1)

    assert state.phase == "rolled_back"


def test_decide__config_refused__holds_its_ring_at_once() -> None:
    state, _ = ticked(do(State(), "start"), Facts(refused="rings[0]: too large"), 1)

    assert state.phase == "held"
    assert "too large" in state.reason


def test_decide__arms_of_the_wrong_size__holds() -> None:
    state, _ = ticked(do(State(), "start"), Facts(verdict=verdict(mismatched=True, reason="sizes")), 1)

    assert (state.phase, state.reason) == ("held", "sizes")


def test_decide__frozen__neither_advances_nor_keeps_from_rolling_back() -> None:
    state = do(State(), "start")

    assert ticked(state, PROMISING._replace(frozen="Frozen."), 60)[1] is None
    assert ticked(state, HARMFUL._replace(frozen="Frozen."), 60)[0].phase == "rolled_back"


def test_decide__manual_gate__approval_is_the_last_gate() -> None:
    plan = Plan("canary", (CANARY._replace(gate="manual"), EVERYONE))
    state = do(State(), "start", plan=plan)
    with pytest.raises(Impossible):
        do(state, "approve", plan=plan)

    state, decision = ticked(state, PROMISING, 60, plan)

    assert decision is not None
    assert (decision.verb, state.phase, state.asks) == ("ask", "running", True)
    assert ticked(state, PROMISING, 10_000, plan)[1] is None
    assert do(state, "approve", plan=plan).ring == 1


def test_pause__promising__does_not_go_on_until_resumed() -> None:
    state = do(State(), "start", "pause")

    assert ticked(state, PROMISING, 600)[1] is None
    assert ticked(do(state, "resume"), PROMISING, 600)[0].ring == 1


def test_resume__held_without_verdict__gets_its_patience_once_more() -> None:
    state, _ = ticked(do(State(), "start"), NOTHING, 700)
    state = do(state, "resume", now=NOW + timedelta(seconds=800))

    assert ticked(state, NOTHING, 1399)[1] is None
    assert ticked(state, NOTHING, 1400)[0].phase == "held"


def test_extend__held__goes_on_for_as_long() -> None:
    state, _ = ticked(do(State(), "start"), NOTHING, 600)
    state = extend(state, PLAN, NOW, seconds=100)

    assert state.phase == "running"
    assert next_at(state, PLAN) == NOW + timedelta(seconds=700)
    with pytest.raises(Impossible):
        extend(state, PLAN, NOW, seconds=0)


def test_skip__verdict_gate__is_in_the_next_ring_and_a_manual_gate_stays() -> None:
    assert do(State(), "start", "skip").ring == 1
    plan = Plan("canary", (CANARY._replace(gate="manual"), EVERYONE))
    assert do(State(), "start", "skip", plan=plan).asks


def test_promote_fully__running__everybody_gets_it() -> None:
    state = do(State(), "start", "promote_fully")

    assert state.phase == "promoting"
    assert serving(state, PLAN).everybody


def test_retry__aborted__begins_again_but_never_with_a_bad_release() -> None:
    again = do(State(), "start", "abort", "retry")
    assert (again.phase, again.ring, again.attempt) == ("running", 0, 2)

    with pytest.raises(Impossible, match="bad"):
        do(State(), "start", "rollback", "retry")


def test_switch__blue_green__flips_either_way_as_often_as_wanted() -> None:
    state = do(State(), "start", plan=BLUE_GREEN)
    assert serving(state, BLUE_GREEN) == (True, False, 0)

    there = do(state, "switch", plan=BLUE_GREEN)
    assert serving(there, BLUE_GREEN).everybody
    assert not serving(do(there, "switch", plan=BLUE_GREEN), BLUE_GREEN).everybody
    assert decide(there, BLUE_GREEN, NOTHING, NOW + timedelta(days=9)) is None
    with pytest.raises(Impossible):
        do(State(), "start", "switch")


def test_rollback__complete__goes_back_too() -> None:
    state = State(phase="complete", ring=2, step=5)

    assert do(state, "rollback").phase == "rolled_back"


@given(st.lists(st.sampled_from(sorted(VERBS)), max_size=12), st.sampled_from([PLAN, BLUE_GREEN]))
def test_verbs__any_order__the_version_grows_and_nobody_is_served_after_the_end(verbs: list[str], plan: Plan) -> None:
    state = State()
    for verb in verbs:
        try:
            after = VERBS[verb](state, plan, NOW)
        except Impossible:
            continue
        assert after.version > state.version
        assert after.step >= state.step
        assert serving(after, plan) == serving(state, plan) or after.step > state.step
        assert after.phase in SERVED or not serving(after, plan).candidate or after.phase == "complete"
        assert not (state.bad and after.phase in SERVED)
        state = after
    assert state.phase in ENDED or not state.bad


@pytest.mark.parametrize("phase", ["draft", "approval", "scheduled"])
def test_edit__not_begun__is_a_draft_again(phase: str) -> None:
    state = edit(State(phase=phase, reason="Waits."), NOW)

    assert (state.phase, state.starts_at, state.reason, state.version) == ("draft", NOW, "", 2)


def test_edit__begun__is_impossible() -> None:
    with pytest.raises(Impossible):
        edit(do(State(), "start"), None)
