"""From totals to evidence: every count once, limits set before the counts are seen."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.arms import FRESH, Memory, Total, kept, limits_of, pairs_of, part_of, remembered, since, ticked
from controlplane.domain.verdict import Pair
from tidegate.core.window import Distribution


def packed(*values: int) -> list[int]:
    made = Distribution()
    for value in values:
        made.add(value)
    return made.packed()


def counts(units: int, bad: int = 0, *, latency: list[int] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "units": units,
        "asked": units,
        "bad": bad,
        "exposed": units,
        "unit_latency_us": packed(*(latency or [])),
        **more,
    }


def tick(memory: Memory, *totals: Total, step: int = 1) -> Memory:
    return ticked(memory, totals, step=step, shares=[0.05, 0.25], copies=1, at_s=0)


def test_since__two_looks__adds_what_came_between() -> None:
    before, now = counts(10, 1, latency=[100, 200]), counts(15, 3, latency=[100, 200, 200, 9000])

    added = since(before, now)

    assert (added["units"], added["bad"]) == (5, 2)
    assert sum(added["unit_latency_us"].values()) == 2


def test_ticked__same_totals_again__changes_no_evidence() -> None:
    totals = [Total(1, 0, True, counts(50, 2)), Total(1, 0, False, counts(950, 4))]

    once = tick(FRESH, *totals)
    twice = tick(once, *totals)

    assert twice.evidence == once.evidence
    assert once.rates["errors"] == (50, 2, 950, 4)
    assert part_of(once) == 0.05


def test_ticked__uncompared_units__are_no_evidence() -> None:
    assert tick(FRESH, Total(1, -1, True, counts(50, 50))).evidence.canary == 0


def test_ticked__next_step__late_counts_of_the_one_before_are_harm_and_nothing_else() -> None:
    first = tick(FRESH, Total(1, 0, True, counts(50, 2)), Total(1, 0, False, counts(950, 4)))

    late = tick(first, Total(1, 0, True, counts(60, 9)), Total(1, 0, False, counts(1140, 5)), step=2)

    assert late.evidence.harm != first.evidence.harm
    assert late.evidence.promotion == {}
    assert late.rates == {}


def test_ticked__latency__is_judged_by_a_limit_from_before() -> None:
    slow = [10_000] * 20
    first = tick(
        FRESH, Total(1, 0, True, counts(20, latency=slow)), Total(1, 0, False, counts(100, latency=[1000] * 100))
    )
    assert "latency" not in first.rates

    more = [10_000] * 30
    second = tick(
        first, Total(1, 0, True, counts(30, latency=more)), Total(1, 0, False, counts(110, latency=[1000] * 110))
    )

    assert second.rates["latency"] == (10, 10, 10, 0)


def test_limits__few_units__are_none() -> None:
    assert limits_of({"1:0:0": counts(49, latency=[5] * 49)}, 1) == {}
    assert set(limits_of({"1:0:0": counts(50, latency=[5] * 50)}, 1)) == {"latency"}
    assert limits_of({"1:0:1": counts(50, latency=[5] * 50)}, 1) == {}


def test_pairs__scores__are_sums_of_losses() -> None:
    pairs = pairs_of({"scored": 4, "loss_ppm": 1_500_000}, {"scored": 6, "loss_ppm": 600_000}, {})

    assert pairs == {"score": Pair(4, 1.5, 6, 0.6)}


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 950)), max_size=5))
def test_kept__and_remembered__is_the_same(batches: list[tuple[int, int]]) -> None:
    memory, canary, stable = FRESH, 0, 0
    for more, more_stable in batches:
        canary, stable = canary + more, stable + more_stable
        memory = tick(memory, Total(1, 0, True, counts(canary)), Total(1, 0, False, counts(stable)))

    again = remembered(orjson.loads(orjson.dumps(kept(memory))))

    assert again == memory._replace(curve=list(memory.curve))
