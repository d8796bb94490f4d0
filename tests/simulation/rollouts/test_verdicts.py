"""The promise: a harmless release is rolled back with a chance of at most α, however often anybody looks. And harm is caught."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from controlplane.domain.verdict import EMPTY, MISMATCH_ALPHA, Size, log_mismatch, with_sizes
from tests.simulation.rollouts.counting import count, most_by_chance, peaks
from tests.simulation.rollouts.rules import Argo, Canary, Flagger, GrowthBook, Ours, Reaching, RepeatedZ, mann_whitney
from tests.simulation.rollouts.worlds import HARMFUL, HARMLESS, WRONG_UNIT, World, binomial

RUNS, RUNS_AS_SERVED = 2000, 250


@pytest.mark.slow
@pytest.mark.parametrize("world", HARMLESS, ids=lambda world: world.name)
def test_verdict__harmless_release_watched_at_every_tick__is_rolled_back_at_most_alpha(world: World) -> None:
    _at_most_alpha(peaks(Ours, world, runs=RUNS))


@pytest.mark.slow
@pytest.mark.parametrize("world", HARMLESS, ids=lambda world: world.name)
def test_canary__harmless_release_beside_a_baseline__is_rolled_back_at_most_alpha(world: World) -> None:
    _at_most_alpha(peaks(Canary, world, runs=RUNS_AS_SERVED))


def _at_most_alpha(reached: Sequence[float]) -> None:
    runs = len(reached)
    for alpha in (0.01, 0.05):
        rolled_back = sum(peak >= math.log(1 / alpha) for peak in reached)
        assert rolled_back / runs <= most_by_chance(alpha, runs), (alpha, rolled_back)


@pytest.mark.parametrize(("alpha", "world"), [(alpha, world) for alpha in (0.01, 0.05) for world in HARMFUL[1:3]])
def test_canary__five_times_the_errors_beside_a_baseline__is_caught_within_400_requests(
    alpha: float, world: World
) -> None:
    outcome = count(lambda: Reaching(Canary(), alpha), world, runs=100)

    assert outcome.rate > 0.99
    assert outcome.median is not None
    assert outcome.median <= 400


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25])
def test_canary__arms_as_chance_makes_them__are_held_at_most_once_in_a_thousand(share: float) -> None:
    held = 0
    for number in range(RUNS):
        dice, evidence, most = random.Random(f"{share}/{number}"), EMPTY, 0.0
        for _ in range(40):
            canary = binomial(dice, 400, share)
            baseline = binomial(dice, 400 - canary, share / (1 - share))
            sizes = {"canary": Size(share, canary, 400 - canary), "baseline": Size(share, baseline, 400 - baseline)}
            evidence = with_sizes(evidence, sizes, copies=1)
            most = max(most, log_mismatch(evidence))
        held += most >= math.log(1 / MISMATCH_ALPHA)
    assert held / RUNS <= most_by_chance(MISMATCH_ALPHA, RUNS)


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "world"), [(alpha, world) for alpha in (0.01, 0.05) for world in HARMFUL[1:3]])
def test_verdict__five_times_the_errors__is_caught_within_400_canary_requests(alpha: float, world: World) -> None:
    outcome = count(lambda: Reaching(Ours(), alpha), world, runs=400)

    assert outcome.rate > 0.99
    assert outcome.median is not None
    assert outcome.median <= 400


def test_verdict__five_times_the_errors_where_half_has_it__takes_longer_and_is_caught() -> None:
    outcome = count(lambda: Reaching(Ours(), 0.01), HARMFUL[4], runs=100)

    assert outcome.rate > 0.99
    assert outcome.median is not None
    assert 400 < outcome.median <= 1000


def test_verdict__twice_the_errors__is_mostly_caught() -> None:
    assert count(lambda: Reaching(Ours(), 0.05), HARMFUL[0], runs=200).rate > 0.8


def test_verdict__unit_that_is_wrong__nothing_saves_it() -> None:
    assert count(lambda: Reaching(Ours(), 0.01), WRONG_UNIT, runs=200).rate > 0.1


@pytest.mark.parametrize(
    ("make", "world", "least"),
    [(RepeatedZ, HARMLESS[1], 0.2), (GrowthBook, HARMLESS[5], 0.9), (lambda: Argo(0.99, 0), HARMLESS[1], 0.9), (lambda: Flagger(0.99, 10), HARMLESS[1], 0.9)],
)  # fmt: skip
def test_baseline__rules_of_others__roll_back_harmless_releases(make: type, world: World, least: float) -> None:
    assert count(make, world, runs=100).rate >= least


# Small cases of Kayenta's own ClassifierSuite (Apache-2.0): what a baseline must say to be the one it stands for.
@pytest.mark.parametrize(
    ("control", "experiment", "expected"),
    [
        ([0.0, 0.0, 0.0, 0.0, 0.0], [10.0, 10.0, 10.0, 10.0, 10.0], "High"),
        ([10.0, 10.0, 10.0, 10.0, 10.0], [10.0, 10.0, 10.0, 10.0, 10.0], "Pass"),
        ([10.0, 20.0, 30.0, 40.0, 50.0], [1.0, 2.0, 3.0, 4.0, 5.0], "Low"),
        ([10.0, 20.0], [], "Nodata"),
    ],
)
def test_mann_whitney__small_cases__are_classified(
    control: list[float], experiment: list[float], expected: str
) -> None:
    assert mann_whitney(control, experiment, confidence=0.95, tolerance=0.1) == expected
