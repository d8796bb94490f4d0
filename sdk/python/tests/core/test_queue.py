"""Lines: who runs, who waits, in which order, and that places are claimed once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.policy import QueueRule
from tidegate.core.queue import Entry, Line

RULE = QueueRule(max_concurrent=2, max_waiting=3, max_wait_ms=1000)


def entered(line: Line, owner: str, *, now: float = 0.0, priority: int = 0, rule: QueueRule | None = RULE) -> Entry:
    entry = line.enter(rule, owner, now=now, priority=priority)
    assert entry is not None
    return entry


def test_enter__slots_taken__waits_until_one_leaves() -> None:
    line = Line()
    first, _, third = (entered(line, owner) for owner in "abc")
    assert third.state == "waiting"

    line.leave(first)
    promoted = line.promote(RULE)

    assert promoted == [third]
    assert (line.running, line.waiting) == (2, 0)


def test_enter__line_full__refused() -> None:
    line = Line()
    for owner in "abcde":
        entered(line, owner)

    assert line.enter(RULE, "f", now=0.0, priority=0) is None


def test_promote__priorities__higher_first_then_older() -> None:
    line = Line()
    running = [entered(line, owner) for owner in "ab"]
    for owner, priority in (("low", 0), ("high", 5), ("high too", 5)):
        entered(line, owner, priority=priority)

    order = []
    for entry in running:
        line.leave(entry)
        order += [promoted.owner for promoted in line.promote(RULE)]

    assert order == ["high", "high too"]


def test_promote__long_wait__outranks_a_later_higher_priority() -> None:
    line = Line()
    running = [entered(line, owner) for owner in "ab"]
    entered(line, "old", now=0.0, priority=0)
    entered(line, "new", now=5.5, priority=5)

    line.leave(running[0])

    assert [entry.owner for entry in line.promote(RULE)] == ["old"]


def test_promote__limit_raised__all_who_fit_run() -> None:
    line = Line()
    for owner in "abcde":
        entered(line, owner)

    assert [entry.owner for entry in line.promote(RULE._replace(max_concurrent=4))] == ["c", "d"]
    assert [entry.owner for entry in line.promote(None)] == ["e"]


def test_leave__twice__counted_once() -> None:
    line = Line()
    entry = entered(line, "a")

    line.leave(entry)
    line.leave(entry)

    assert line.running == 0


def test_estimate__calls_have_ended__grows_with_the_line() -> None:
    line = Line()
    assert line.estimate_s(RULE) is None
    line.took(4.0)
    for owner in "abcd":
        entered(line, owner)

    assert line.estimate_s(RULE) == 4.0 * 3 / 2


def test_congestion__line_did_not_empty_for_half_of_the_wait__newest_first() -> None:
    line, rule = Line(), RULE._replace(congestion="lifo")
    running = [entered(line, owner, rule=rule) for owner in "ab"]
    for at, owner in enumerate("cde"):
        entered(line, owner, now=at / 10, rule=rule)
    assert not line.congested(rule, 0.499)

    line.leave(running[0])
    assert [entry.owner for entry in line.promote(rule, now=0.4)] == ["c"]
    line.leave(running[1])

    assert [entry.owner for entry in line.promote(rule, now=0.5)] == ["e"]


def test_congestion__newest_has_given_up__the_next_newest() -> None:
    line, rule = Line(), RULE._replace(congestion="lifo")
    running = [entered(line, owner, rule=rule) for owner in "ab"]
    waiting = [entered(line, owner, rule=rule) for owner in "cde"]
    line.leave(waiting[2])
    line.leave(running[0])

    assert [entry.owner for entry in line.promote(rule, now=9.0)] == ["d"]


def test_codel__congested__newcomers_wait_for_a_tenth() -> None:
    line, rule = Line(), RULE._replace(congestion="codel")
    for owner in "abc":
        entered(line, owner, rule=rule)

    assert line.patience_s(rule, 0.4) == 1.0
    assert line.patience_s(rule, 0.5) == 0.1
    assert line.patience_s(RULE, 0.5) == 1.0


def test_hopeless__line_moves_too_slowly__said_at_once() -> None:
    line = Line()
    for owner in "abcd":
        entered(line, owner)
    assert not line.hopeless(RULE, slots=2, priority=0, patience_s=0.0)
    line.took(4.0)  # a newcomer waits for about six seconds

    assert line.hopeless(RULE, slots=2, priority=0, patience_s=2.9)
    assert not line.hopeless(RULE, slots=2, priority=0, patience_s=3.0)
    assert not line.hopeless(RULE, slots=2, priority=1, patience_s=1.0)


def test_slots__fewer_than_the_rule_says__fewer_run() -> None:
    line = Line()

    entered(line, "a")

    assert line.enter(RULE, "b", now=0.0, priority=0, slots=1) is not None
    assert (line.running, line.waiting, line.peak) == (1, 1, 2)
    assert line.promote(RULE, slots=1) == []
    assert len(line.promote(RULE, slots=2)) == 1


@settings(max_examples=200)
@given(steps=st.lists(st.tuples(st.sampled_from(["enter", "leave", "give up"]), st.integers(0, 20)), max_size=120))
def test_line__any_history__never_too_many_run_and_nobody_is_lost(steps: list[tuple[str, int]]) -> None:
    line = Line()
    alive: list[Entry] = []

    for now, (step, pick) in enumerate(steps):
        if step == "enter":
            entry = line.enter(RULE, pick, now=float(now), priority=pick % 3)
            alive.extend([entry] if entry else [])
        else:
            state = "running" if step == "leave" else "waiting"
            chosen = [entry for entry in alive if entry.state == state]
            if chosen:
                line.leave(chosen[pick % len(chosen)])
                line.promote(RULE)
        alive = [entry for entry in alive if entry.state != "gone"]
        assert line.running == sum(entry.state == "running" for entry in alive) <= RULE.max_concurrent
        assert line.waiting == sum(entry.state == "waiting" for entry in alive) <= RULE.max_waiting
        assert line.running == RULE.max_concurrent or not line.waiting
