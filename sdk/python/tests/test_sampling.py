"""Which spans are kept: all that is worth telling with what it was part of, a share of the rest, and figures of everything."""

from __future__ import annotations

import random

import pytest

from sdk.python.tests.end_to_end.calling import COST_NUSD, spend
from sdk.python.tests.lending.lender import COST, PRICED, Lender
from tidegate import RateLimited, Sampling
from tidegate.sampling import Sampler, in_share
from tidegate.testing import FakeControlPlane
from tidegate.trace import MAX_SPANS, Attributes, Span, Tracer

SECOND_NS = 10**9
NOTHING = Sampling(share=0.0, slow_s=2.0)


@pytest.fixture
def lender() -> Lender:
    return Lender()


def span(
    number: int, *, of: int = 7, parent: int = 0, error: str | None = None, took_ns: int = 1, **told: str | int
) -> Span:
    attributes: Attributes = {f"tidegate.{name}": value for name, value in told.items()}
    return Span(of, number, parent, "chat", 0, took_ns, attributes, error)


@pytest.mark.parametrize(
    ("spans", "why"),
    [
        ([span(1, error="ValueError")], "error"),
        ([span(1, error="no money", refused="budget_exhausted")], "refused"),
        ([span(1, took_ns=2 * SECOND_NS)], "slow"),
        ([span(1, arm="canary")], "canary"),
        ([span(2, parent=1, error="TimeoutError"), span(1)], "error"),
    ],
    ids=["error", "refused", "slow", "canary", "an attempt that was retried"],
)
def test_sift__worth_telling__all_kept_and_says_why(spans: list[Span], why: str) -> None:
    kept = Sampler(NOTHING).sift(spans)

    assert [each.span_id for each in kept] == [each.span_id for each in spans]
    assert {each.attributes["tidegate.kept"] for each in kept} == {why}


@pytest.mark.parametrize(
    "dull",
    [span(1), span(1, took_ns=2 * SECOND_NS - 1), span(1, arm="stable"), span(1, arm="baseline")],
    ids=["plain", "just not slow", "stable", "baseline"],
)
def test_sift__nothing_worth_telling__left_out_and_counted(dull: Span) -> None:
    sampler = Sampler(NOTHING)

    assert sampler.sift([dull]) == []
    assert sampler.left_out == 1


def test_sift__share__that_many_of_the_rest_and_the_same_ones_everywhere() -> None:
    ids = [random.Random(5).getrandbits(128) for _ in range(1)]
    dice = random.Random(5)
    ids = [dice.getrandbits(128) for _ in range(20_000)]
    one, other = Sampler(Sampling(share=0.05)), Sampler(Sampling(share=0.05))

    kept = {each for each in ids if one.sift([span(1, of=each)])}

    assert kept == {each for each in ids if other.sift([span(9, of=each)])}
    assert 0.045 < len(kept) / len(ids) < 0.055
    assert one.left_out == len(ids) - len(kept)
    assert kept == {each for each in ids if in_share(each, 0.05)} <= {each for each in ids if in_share(each, 0.2)}


def test_sift__inner_call_failed__the_calls_around_it_and_before_it_are_kept_too() -> None:
    sampler = Sampler(NOTHING)

    assert sampler.sift([span(2, parent=1)]) == []
    assert [each.span_id for each in sampler.sift([span(3, parent=1, error="ValueError")])] == [2, 3]
    assert [each.span_id for each in sampler.sift([span(1)])] == [1]
    assert sampler.left_out == 0


def test_sift__outer_call_failed__what_it_called_is_kept_too() -> None:
    sampler = Sampler(NOTHING)
    sampler.sift([span(2, parent=1)])

    assert [each.span_id for each in sampler.sift([span(1, error="ValueError")])] == [2, 1]


def test_sift__first_call_ended_well__what_was_held_back_is_let_go() -> None:
    sampler = Sampler(NOTHING)
    sampler.sift([span(2, parent=1)])
    sampler.sift([span(1)])

    assert sampler.left_out == 2
    assert [each.span_id for each in sampler.sift([span(3, parent=1, error="late")])] == [3]


def test_sift__traces_that_never_end_here__held_up_to_a_limit() -> None:
    sampler = Sampler(NOTHING)
    for number in range(MAX_SPANS + 10):
        sampler.sift([span(1, of=number + 1, parent=5)])

    assert sampler.left_out == 10
    assert len(sampler.sift([span(2, of=1, parent=5, error="late")])) == 1
    assert len(sampler.sift([span(2, of=MAX_SPANS, parent=5, error="in time")])) == 2


def test_tracer__without_a_sampler__sends_everything_as_it_is() -> None:
    tracer = Tracer(enabled=True)
    tracer.ended([span(1)])

    assert tracer.batch() == [span(1)]


@pytest.mark.parametrize(
    "wrong", [Sampling(share=1.1), Sampling(share=-0.1), Sampling(slow_s=0), Sampling(slow_s=float("nan"))]
)
def test_connect__sampling_that_cannot_be__told_at_once(plane: FakeControlPlane, wrong: Sampling) -> None:
    with pytest.raises(ValueError, match=r"share is|slow_s is"):
        plane.connect(traces=wrong)


def test_connect__sampling__figures_count_every_call_and_spans_only_those_worth_telling(
    plane: FakeControlPlane,
) -> None:
    plane.put_policy(
        {"limits": [{"unit": "requests", "amount": 30, "per_s": 3600, "scope": "instance"}]}, route="tight"
    )
    gate = plane.connect(traces=Sampling(share=0.0))

    for _ in range(50):
        spend(gate)
    with pytest.raises(KeyError), gate.call("chat"):
        raise KeyError
    refused = 0
    for _ in range(40):
        try:
            with gate.call("tight"):
                pass
        except RateLimited:
            refused += 1
    gate.close()

    assert refused > 0
    assert plane.total("calls") == 51 + 40 - refused
    assert plane.total("errors") == 1
    assert plane.total("refused") == refused
    assert plane.total("cost_nusd") >= 50 * COST_NUSD
    kept = [
        next(each["value"]["stringValue"] for each in told["attributes"] if each["key"] == "tidegate.kept")
        for told in plane.spans
    ]
    assert kept.count("error") == 1
    assert kept.count("refused") >= 1  # those that come at once after one have a count, but no span of their own
    assert {*kept} == {"error", "refused"}
    assert gate.status()["sampled_out_spans"] > 0


@pytest.mark.parametrize("slow_s", [5.0, 0.5])
def test_swift_call__slow__has_a_span_that_tells_what_it_used(lender: Lender, slow_s: float) -> None:
    lender.guard.tracer = lender.tracer = Tracer(enabled=True, sampler=Sampler(Sampling(share=0.0, slow_s=slow_s)))
    lender.policy({})
    call = lender.swift(user="u", **PRICED)
    call.record(input_tokens=400, output_tokens=100)
    lender.clock.advance(1.0)
    call.settle(None, last=True)

    kept = lender.tracer.batch()
    if slow_s > 1:
        assert not kept
        return
    (slow,) = kept
    assert slow.end_ns - slow.start_ns >= SECOND_NS
    told = {
        name: slow.attributes[name]
        for name in ("tidegate.kept", "user.id", "gen_ai.usage.output_tokens", "tidegate.cost_nusd")
    }
    assert told == {
        "tidegate.kept": "slow",
        "user.id": "u",
        "gen_ai.usage.output_tokens": 100,
        "tidegate.cost_nusd": COST,
    }


def test_guarded_function__slow_on_credit__has_a_span(lender: Lender) -> None:
    lender.guard.tracer = lender.tracer = lender.caller.tracer = Tracer(
        enabled=True, sampler=Sampler(Sampling(share=0.0, slow_s=0.5))
    )
    lender.policy({})
    pause = 0.0
    work = lender.guarded(lambda: lender.clock.advance(pause))
    for _ in range(3):
        work()
    assert not lender.tracer.batch()

    pause = 1.0
    work()

    assert [span.attributes["tidegate.kept"] for span in lender.tracer.batch()] == ["slow"]
