"""Evidence: that it is what the formula says, is fair on average, and that the meters tell the truth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.verdict import (
    EMPTY,
    HARM_RATIOS,
    METRIC,
    METRICS,
    MISMATCH_FACTORS,
    PROMOTION_BASES,
    Evidence,
    Pair,
    Rules,
    Size,
    absorbed,
    errors_to_rollback,
    for_next_ring,
    harm_steps,
    judge,
    log_harm,
    log_promotion,
    promotion_steps,
    requests_to_promote,
    size_steps,
    with_sizes,
)

RULES = Rules(alpha=0.01, beta=0.05)


def fed(*pairs: Pair) -> Evidence:
    evidence = EMPTY
    for pair in pairs:
        evidence = absorbed(evidence, [{"errors": pair}])
    return evidence


def test_metrics__weights__are_an_average() -> None:
    assert math.isclose(sum(metric.weight for metric in METRICS), 1.0)


def binomial(n: int, k: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize("p", [0.0, 0.003, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("n", "n_stable"), [(1, 1), (3, 12), (10, 4)])
def test_harm_steps__equal_chances__expect_at_most_one(p: float, n: int, n_stable: int) -> None:
    for which in range(len(HARM_RATIOS)):
        expected = sum(
            binomial(n, e, p) * binomial(n_stable, s, p) * math.exp(harm_steps(Pair(n, e, n_stable, s))[which])
            for e in range(n + 1)
            for s in range(n_stable + 1)
        )
        assert expected <= 1 + 1e-9


@pytest.mark.parametrize("q", [0.0, 0.02, 0.3])
def test_promotion_steps__as_much_worse_as_must_not_pass__expect_at_most_one(q: float) -> None:
    metric = METRIC["errors"]
    p = q * metric.ratio + metric.slack
    n, n_stable = 6, 9
    for which in range(len(PROMOTION_BASES)):
        expected = sum(
            binomial(n, e, p)
            * binomial(n_stable, s, q)
            * math.exp(promotion_steps(Pair(n, e, n_stable, s), metric)[which])
            for e in range(n + 1)
            for s in range(n_stable + 1)
        )
        assert expected <= 1 + 1e-9


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(HARM_RATIOS))
def test_harm__fractions_of_a_loss__are_below_the_line_of_the_proof(loss: float, part: float, ratio: float) -> None:
    mean = 1 + (ratio - 1) * part
    for base in (ratio / mean, 1 / mean):
        assert base**loss <= 1 + (base - 1) * loss + 1e-12


def test_harm__no_comparison__is_no_evidence() -> None:
    assert log_harm(fed(Pair(100, 50, 0, 0))) == pytest.approx(0.0)
    assert log_promotion(fed(Pair(100, 0, 0, 0))) == pytest.approx(0.0)


def test_judge__five_times_the_errors__is_harmful_and_says_in_what() -> None:
    evidence = fed(*[Pair(50, 2, 950, 4)] * 10)

    verdict = judge(evidence, RULES)

    assert verdict.harmful
    assert verdict.worst == "errors"
    assert "errors" in verdict.reason
    assert verdict.harm == 1.0


def test_judge__one_tick__is_never_enough() -> None:
    evidence = fed(Pair(500, 250, 9500, 40))

    assert not judge(evidence, RULES).harmful
    assert judge(absorbed(evidence, [{"errors": Pair(1, 0, 1, 0)}]), RULES).harmful


def test_judge__no_errors_anywhere__is_promising_after_some_hundred_requests() -> None:
    assert not judge(fed(*[Pair(10, 0, 190, 0)] * 10), RULES).promising
    assert judge(fed(*[Pair(10, 0, 190, 0)] * 120), RULES).promising


def test_judge__one_metric_worse__is_not_promising() -> None:
    evidence = EMPTY
    for _ in range(200):
        evidence = absorbed(evidence, [{"errors": Pair(10, 0, 190, 0), "cost": Pair(10, 2, 190, 9)}])

    verdict = judge(evidence, RULES)

    assert not verdict.promising
    assert verdict.slowest == "costly calls"


def sized(**sizes: Size) -> Evidence:
    return with_sizes(EMPTY, sizes, copies=1)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("at_most", [False, True])
def test_size_steps__arms_as_chance_makes_them__expect_at_most_one(share: float, at_most: bool) -> None:
    for which in range(len(MISMATCH_FACTORS)):
        expected = sum(
            binomial(20, k, share) * math.exp(size_steps(Size(share, k, 20 - k, at_most))[which]) for k in range(21)
        )
        assert expected == pytest.approx(1.0)


@pytest.mark.parametrize("left_out", [0.1, 0.5, 1.0])
def test_size_steps__copies_left_out__expect_at_most_one(left_out: float) -> None:
    share = 0.25 * (1 - left_out)
    for which in range(len(MISMATCH_FACTORS)):
        expected = sum(
            binomial(20, k, share) * math.exp(size_steps(Size(0.25, k, 20 - k, at_most=True))[which]) for k in range(21)
        )
        assert expected <= 1 + 1e-9


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.9])
def test_judge__arms_of_the_wrong_size__is_mismatched(share: float) -> None:
    right, units = round(10_000 * share), round(10_000 * share * 0.8)

    assert not judge(sized(canary=Size(share, right, 10_000 - right)), RULES).mismatched
    assert judge(sized(canary=Size(share, units, 10_000 - units)), RULES).mismatched


def test_judge__baseline_of_the_wrong_size_only__is_mismatched() -> None:
    canary = Size(0.05, 500, 9500)

    assert not judge(sized(canary=canary, baseline=Size(0.05, 500, 9500)), RULES).mismatched
    assert judge(sized(canary=canary, baseline=Size(0.05, 330, 9670)), RULES).mismatched


def test_judge__copies__fewer_are_no_fault_and_more_are() -> None:
    assert not judge(sized(canary=Size(0.25, 10, 7500, at_most=True)), RULES).mismatched
    assert judge(sized(canary=Size(0.25, 5000, 7500, at_most=True)), RULES).mismatched


@pytest.mark.parametrize("copies", [1, 4])
def test_with_sizes__a_unit_seen_by_several__counts_once(copies: int) -> None:
    one = with_sizes(EMPTY, {"canary": Size(0.05, 70, 930)}, copies=1)
    seen = with_sizes(EMPTY, {"canary": Size(0.05, 70 * copies, 930 * copies)}, copies=copies)

    assert seen.sizes["canary"] == pytest.approx(one.sizes["canary"])


def test_judge__guardrail__is_apart_and_labelled() -> None:
    rules = RULES._replace(max_error_rate=0.2)

    assert not judge(EMPTY, rules, canary_calls=49, canary_failed=49).breached
    verdict = judge(EMPTY, rules, canary_calls=100, canary_failed=21)
    assert verdict.breached
    assert "without a guarantee" in verdict.reason


def test_for_next_ring__harm_is_remembered__the_right_to_go_on_is_not() -> None:
    evidence = for_next_ring(fed(*[Pair(50, 2, 950, 4)] * 10, *[Pair(10, 0, 190, 0)] * 100))

    assert evidence.harm
    assert not evidence.promotion


def test_absorbed__late_counts__speak_of_harm_only() -> None:
    evidence = absorbed(EMPTY, [{"errors": Pair(50, 2, 950, 4)}], current=False)

    assert evidence.harm
    assert not evidence.promotion


def test_errors_to_rollback__that_many_more__roll_back_and_one_less_does_not() -> None:
    evidence = fed(*[Pair(50, 1, 950, 4)] * 5)

    more = errors_to_rollback(evidence, RULES, part=0.05)

    assert more is not None
    assert more > 1
    for errors, harmful in ((more - 1, False), (more, True)):
        assert judge(absorbed(evidence, [{"errors": Pair(0.05, errors, 0.95, 0)}]), RULES).harmful is harmful
    assert errors_to_rollback(evidence, RULES, part=0.0) is None


def test_requests_to_promote__that_many_more__promote_and_worse_rates_never_do() -> None:
    evidence = fed(*[Pair(10, 0, 190, 1)] * 5)

    alike, worse = Pair(1000, 5, 19_000, 95), Pair(1000, 200, 19_000, 95)
    more = requests_to_promote(evidence, RULES, so_far={"errors": alike})

    assert more is not None
    after = absorbed(evidence, [{"errors": Pair(more, 0.005 * more, more * 19, 0.005 * more * 19)}])
    assert judge(after, RULES).promising
    assert requests_to_promote(evidence, RULES, so_far={"errors": worse}) is None
    assert requests_to_promote(evidence, RULES, so_far={}) is None


def test_requests_to_promote__metric_with_an_arm_of_its_own_size__is_waited_for() -> None:
    errors, cost = Pair(100, 0, 1900, 0), Pair(100, 8, 100, 5)
    evidence = fed(errors)

    alone = requests_to_promote(evidence, RULES, so_far={"errors": errors})
    both = requests_to_promote(evidence, RULES, so_far={"errors": errors, "cost": cost})

    assert alone is not None
    assert both is not None
    assert both > alone
