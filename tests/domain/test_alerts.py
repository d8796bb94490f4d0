"""The life of alerts: held against tables that promtool confirms, and laws over any course of conditions."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.alerts import (
    ON,
    Comparison,
    NoData,
    Standing,
    State,
    Timing,
    Told,
    backtest,
    compares,
    failed,
    resumed,
    step,
    to_tell,
    usual,
)

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SHOWN = {State.RESOLVED: "inactive", State.KEEP_FIRING: "firing"}
conditions = st.lists(st.sampled_from([True, False, None]), max_size=40)
timings = st.builds(Timing, st.integers(0, 300), st.integers(0, 300), st.sampled_from(NoData))


def course(conditions: list[bool | None], timing: Timing, every_s: int = 60) -> list[Standing]:
    standing, found = Standing(), []
    for number, holds in enumerate(conditions):
        standing = step(standing, holds, timing, NOW + timedelta(seconds=number * every_s))
        found.append(standing)
    return found


def test_step__every_case_of_the_table__is_in_the_states_that_promtool_says(shared: Path) -> None:
    cases = json.loads((shared / "suites" / "tables" / "alert_states.json").read_text())["cases"]
    wrong = []
    for case in cases:
        rule = case["rule"]
        timing = Timing(rule["for_s"], rule["keep_firing_for_s"])
        for name, values in case["series"].items():
            held = [None if value is None else compares(value, Comparison.ABOVE, rule["above"]) for value in values]
            found = [SHOWN.get(each.state, each.state.value) for each in course(held, timing, rule["interval_s"])]
            if found != [expected[name] for expected in case["expect"]]:
                wrong.append((case["id"], name, found))

    assert len(cases) == 35
    assert wrong == []


@given(conditions, timings)
def test_step__any_course__fires_only_after_it_held_for_long_enough(held: list[bool | None], timing: Timing) -> None:
    found = course(held, timing)

    for number, standing in enumerate(found):
        if standing.state is State.FIRING and (number == 0 or found[number - 1].state not in ON):
            assert standing.active_at is not None
            assert standing.since - standing.active_at >= timedelta(seconds=timing.for_s)  # type: ignore[operator]
            assert held[number] is True


@given(conditions, timings)
def test_step__any_course__never_skips_from_firing_to_inactive(held: list[bool | None], timing: Timing) -> None:
    found = [Standing(), *course(held, timing)]

    pairs = {(a.state, b.state) for a, b in pairwise(found)}
    assert not pairs & {
        (State.FIRING, State.INACTIVE),
        (State.FIRING, State.PENDING),
        (State.INACTIVE, State.KEEP_FIRING),
    }


@given(conditions, timings, st.lists(st.booleans(), min_size=40, max_size=40))
def test_to_tell__any_course_and_silences__tells_each_change_once_and_resolves_only_what_was_told(
    held: list[bool | None], timing: Timing, silences: list[bool]
) -> None:
    told, said = Told.NOTHING, []
    for standing, silenced in zip(course(held, timing), silences, strict=False):
        news = to_tell(standing.state, told, silenced=silenced)
        if news is not None:
            said.append(news)
            told = news
        assert to_tell(standing.state, told, silenced=silenced) is None

    assert all(a is not b for a, b in pairwise(said))
    assert said[:1] != [Told.RESOLVED]


def test_to_tell__silenced_while_it_began__is_told_when_the_silence_ends() -> None:
    assert to_tell(State.FIRING, Told.NOTHING, silenced=True) is None
    assert to_tell(State.FIRING, Told.NOTHING, silenced=False) is Told.FIRING
    assert to_tell(State.RESOLVED, Told.NOTHING, silenced=False) is None
    assert to_tell(State.PENDING, Told.FIRING, silenced=False) is None


@pytest.mark.parametrize(
    ("mode", "states"),
    [
        (NoData.OK, ["firing", "resolved", "firing"]),
        (NoData.ALERT, ["firing", "no-data", "firing"]),
        (NoData.KEEP, ["firing", "firing", "firing"]),
    ],
)
def test_step__nothing_to_measure__is_what_the_rule_says_it_means(mode: NoData, states: list[str]) -> None:
    assert [each.state.value for each in course([True, None, True], Timing(no_data=mode))] == states


def test_failed__a_rule_that_can_not_be_evaluated__is_a_state_and_ends() -> None:
    broken = failed(Standing(State.FIRING, NOW, NOW), NOW + timedelta(seconds=1))

    assert broken.state is State.ERROR
    assert failed(broken, NOW + timedelta(seconds=9)) == broken
    assert step(broken, False, Timing(), NOW + timedelta(seconds=20)).state is State.INACTIVE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Standing(State.PENDING, NOW, NOW), Standing(State.PENDING, NOW, NOW + timedelta(minutes=5))),
        (Standing(State.KEEP_FIRING, NOW, NOW, NOW), Standing(State.KEEP_FIRING, NOW, NOW, NOW + timedelta(minutes=5))),
        (Standing(State.FIRING, NOW, NOW), Standing(State.FIRING, NOW, NOW)),
        (Standing(), Standing()),
    ],
)
def test_resumed__nobody_looked_for_a_time__it_does_not_count(before: Standing, after: Standing) -> None:
    assert resumed(before, 300) == after
    assert resumed(before, 0) == before


def test_backtest__a_course__tells_when_it_would_have_fired() -> None:
    minutes = [NOW + timedelta(minutes=n) for n in range(8)]
    held: list[bool | None] = [True, True, True, False, False, True, True, True]

    episodes = backtest(zip(minutes, held, strict=True), Timing(for_s=60))

    assert episodes == [(minutes[1], minutes[3]), (minutes[6], None)]


def test_usual__values_with_an_outlier__are_judged_by_median_and_spread() -> None:
    found = usual([10, 11, 9, 10, 500])

    assert found is not None
    assert (found.median, found.spread) == (10, 1)
    assert found.score(10) == 0
    assert found.score(40) > 10
    assert usual([1, 2]) is None


def test_usual__an_hour_unlike_those_beside_it__is_judged_by_itself() -> None:
    found = usual([300, 301, 299], [100, 120, 80, 140], [100, 130, 70, 160])

    assert found is not None
    assert (found.median, found.spread) == (300, 22.5)


@pytest.mark.parametrize("weeks", [3, 4, 5])
def test_usual__hours_that_vary_alike__are_hardly_ever_beyond_four_deviations(weeks: int) -> None:
    chance = random.Random(7)

    def of_an_hour(weeks: int = weeks) -> list[float]:
        return [chance.gauss(100, 4) for _ in range(weeks)]

    scores = []
    for _ in range(4 * 168):
        found = usual(of_an_hour(), of_an_hour(), of_an_hour())
        assert found is not None
        scores.append(found.score(*of_an_hour(1)))

    assert sum(score >= 4 for score in scores) <= 8  # in four weeks


def test_usual__an_hour_that_varies_more_than_those_beside_it__spreads_as_it_does() -> None:
    found = usual([100, 200, 300, 400], [10, 10, 10, 10], [10, 10, 10, 10], [7])

    assert found is not None
    assert (found.median, found.spread) == (250, 150)
