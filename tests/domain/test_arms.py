"""From totals to evidence: every count once, limits set before the counts are seen."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.arms import (
    FRESH,
    Memory,
    Shares,
    Side,
    Total,
    kept,
    limits_of,
    pairs_of,
    part_of,
    remembered,
    since,
    sizes_of,
    ticked,
)
from controlplane.domain.verdict import Pair, Size
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
    return ticked(memory, totals, step=step, shares=[Shares(0.05), Shares(0.25)], copies=1, at_s=0)


def test_since__two_looks__adds_what_came_between() -> None:
    before, now = counts(10, 1, latency=[100, 200]), counts(15, 3, latency=[100, 200, 200, 9000])

    added = since(before, now)

    assert (added["units"], added["bad"]) == (5, 2)
    assert sum(added["unit_latency_us"].values()) == 2


def test_ticked__same_totals_again__changes_no_evidence() -> None:
    totals = [Total(1, 0, Side.CANARY, counts(50, 2)), Total(1, 0, Side.STABLE, counts(950, 4))]

    once = tick(FRESH, *totals)
    twice = tick(once, *totals)

    assert twice.evidence == once.evidence
    assert once.so_far["errors"] == (50, 2, 950, 4)
    assert part_of(once) == 0.05


def test_ticked__uncompared_units__are_no_evidence() -> None:
    assert tick(FRESH, Total(1, -1, Side.CANARY, counts(50, 50))).evidence.canary == 0


def test_ticked__next_step__late_counts_of_the_one_before_are_harm_and_nothing_else() -> None:
    first = tick(FRESH, Total(1, 0, Side.CANARY, counts(50, 2)), Total(1, 0, Side.STABLE, counts(950, 4)))

    late = tick(first, Total(1, 0, Side.CANARY, counts(60, 9)), Total(1, 0, Side.STABLE, counts(1140, 5)), step=2)

    assert late.evidence.harm != first.evidence.harm
    assert late.evidence.promotion == {}
    assert late.so_far == {}


def test_ticked__latency__is_judged_by_a_limit_from_before() -> None:
    slow = [10_000] * 20
    first = tick(
        FRESH,
        Total(1, 0, Side.CANARY, counts(20, latency=slow)),
        Total(1, 0, Side.STABLE, counts(100, latency=[1000] * 100)),
    )
    assert "latency" not in first.so_far

    more = [10_000] * 30
    second = tick(
        first,
        Total(1, 0, Side.CANARY, counts(30, latency=more)),
        Total(1, 0, Side.STABLE, counts(110, latency=[1000] * 110)),
    )

    assert second.so_far["latency"] == (10, 10, 10, 0)


def test_limits__few_units__are_none() -> None:
    assert limits_of({"1:0:0": counts(49, latency=[5] * 49)}, 1) == {}
    assert set(limits_of({"1:0:0": counts(50, latency=[5] * 50)}, 1)) == {"latency"}
    assert limits_of({"1:0:1": counts(50, latency=[5] * 50)}, 1) == {}


def test_pairs__scores__are_sums_of_losses() -> None:
    sides = {Side.CANARY: {"scored": 4, "loss_ppm": 1_500_000}, Side.STABLE: {"scored": 6, "loss_ppm": 600_000}}

    pairs = pairs_of(sides, {})

    assert pairs == {"score": Pair(4, 1.5, 6, 0.6)}


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 950)), max_size=5))
def test_kept__and_remembered__is_the_same(batches: list[tuple[int, int]]) -> None:
    memory, canary, stable = FRESH, 0, 0
    for more, more_stable in batches:
        canary, stable = canary + more, stable + more_stable
        memory = tick(memory, Total(1, 0, Side.CANARY, counts(canary)), Total(1, 0, Side.STABLE, counts(stable)))

    again = remembered(orjson.loads(orjson.dumps(kept(memory))))

    assert again == memory._replace(curve=list(memory.curve))


def test_ticked__baseline__errors_beside_everybody_and_latency_beside_the_baseline() -> None:
    def arms(times: int) -> list[Total]:
        return [
            Total(1, 0, Side.CANARY, counts(50 * times, times, latency=[1000] * 50 * times)),
            Total(1, 0, Side.BASELINE, counts(50 * times, 0, latency=[1000] * 50 * times)),
            Total(1, 0, Side.STABLE, counts(900 * times, 4 * times, latency=[10] * 900 * times)),
        ]

    def tick(memory: Memory, times: int) -> Memory:
        return ticked(memory, arms(times), step=1, shares=[Shares(0.05, 0.05)], copies=1, at_s=0)

    memory = tick(tick(FRESH, 1), 2)

    assert memory.so_far["errors"] == (100, 2, 1900, 8)
    assert memory.so_far["latency"] == (50, 0, 50, 0)
    assert part_of(memory) == 0.05


def test_sizes__three_arms__each_beside_all_others() -> None:
    sides = {Side.CANARY: counts(5), Side.BASELINE: counts(7), Side.STABLE: counts(90)}

    assert sizes_of(sides, Shares(0.05, 0.05)) == {"canary": Size(0.05, 5, 97), "baseline": Size(0.05, 7, 95)}
    assert sizes_of({}, Shares(0.25, at_most=True))["canary"] == Size(0.25, 0, 0, at_most=True)
