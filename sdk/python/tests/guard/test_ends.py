"""Ends: of guards, of processes, of calls that were described wrongly."""

from __future__ import annotations

from typing import Any

import pytest

from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import BOUND, COST, PRICED, Turned, fail, spend
from tidegate.errors import Closed


def test_closed__new_calls_and_those_that_wait__refused(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 1000}})
    running, waiting = bench.call(), bench.call()
    running.admit()
    bench.guard.advance(waiting)

    bench.guard.stop()

    with pytest.raises(Closed):
        bench.guard.advance(waiting)
    with pytest.raises(Closed):
        bench.call().admit()
    running.settle(None, last=True)
    assert bench.row().calls == 1


def test_presume__calls_still_in_flight__settled_at_their_bound_once(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(BOUND, **PRICED)
    call = bench.call(**PRICED)
    call.admit()

    bench.guard.presume()
    call.record(input_tokens=400, output_tokens=100)
    call.settle(None, last=True)

    request, _ = bench.sync(closing=True)
    assert (request["leases"][0]["settled"], request["leases"][0]["corrected"]) == (BOUND, BOUND - COST)
    assert request["leases"][0]["final"]
    assert request["final"]
    assert request["windows"][0]["rows"][0]["kinds"] == {"cancelled": 1, "late": 1, "late.corrected_nusd": BOUND - COST}


def test_reborn__call_of_the_parent_process__settles_nothing_in_the_child(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(BOUND, **PRICED)
    call = bench.call(**PRICED)
    call.admit()

    bench.guard.reborn()
    call.settle(None, last=True)

    assert bench.row().calls == 0
    assert not bench.guard.leases.slips


def test_kinds__errors_and_refusals__by_their_names(bench: Bench) -> None:
    bench.publish()
    for error in (TimeoutError(), Turned(429), Turned(502), RuntimeError(), KeyboardInterrupt()):
        fail(bench, error)

    row = bench.row()

    assert row.kinds == {
        "error.timeout": 1, "error.rate_limited": 1, "error.server": 1, "error.other": 1, "cancelled": 1,
    }  # fmt: skip
    assert (row.calls, row.errors) == (5, 4)


def test_sessions__seen_lately__counted_per_tenant_and_route(bench: Bench) -> None:
    bench.policy({})
    for session in ("s-1", "s-2", "s-1"):
        spend(bench, session=session)
    assert bench.sync()[0]["sessions"] == [{"tenant": "acme", "route": "chat", "active": 2}]

    bench.clock.advance(301)

    assert bench.sync()[0]["sessions"] == []


@pytest.mark.parametrize(
    "options",
    [
        {"route": ""}, {"route": "a b"}, {"tenant": ""}, {"tenant": "x" * 65}, {"input_tokens": -1}, {"max_output_tokens": 1.5},
        {"cost_usd": "-1"}, {"cost_usd": "much"}, {"cost_usd": float("nan")}, {"priority": "high"}, {"user": 7},
    ],
    ids=str,
)  # fmt: skip
def test_call__described_wrongly__value_error(bench: Bench, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"[a-z]"):
        bench.call(**options)


def test_record__what_cannot_be_true__logged_and_the_bound_is_settled(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.policy({})

    with bench.call(**PRICED) as call:
        call.record(input_tokens=10, cached_input_tokens=20)

    assert "call.record was ignored" in caplog.text
    assert bench.row().cost_nusd == BOUND


def test_call__entered_twice__misuse_is_said(bench: Bench) -> None:
    call = bench.call()
    with call:
        pass

    with pytest.raises(RuntimeError, match="once"):
        call.admit()


def test_call__names_that_no_database_takes__cleaned_rather_than_lost(bench: Bench) -> None:
    with bench.call(user="a\0b", category="\ud800", model="m" * 500) as call:
        pass

    assert (call.user, call.category, call.model) == ("a\ufffdb", "?", "m" * 120)
