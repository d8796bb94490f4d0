"""Breakers in a guard: whose fault it was, whom they shut out, what they say."""

from __future__ import annotations

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from sdk.python.tests.guard.spending import Turned, fail, spend


def test_breaker__provider_fails__open_for_route_and_model_alone(bench: Bench) -> None:
    bench.policy({"breaker": {"min_calls": 4, "open_s": 20}})
    for _ in range(4):
        fail(bench, TimeoutError(), model="a")

    with pytest.raises(tidegate.BreakerOpen) as refused:
        bench.call(model="a").admit()

    assert refused.value.blocked_by == "chat a"
    assert refused.value.retry_after_s == pytest.approx(20)
    assert "4 of 4 calls failed (timeout)" in str(refused.value)
    spend(bench, model="b")
    spend(bench, route="embed", model="a")


@pytest.mark.parametrize(
    "error", [Turned(400), TypeError("ours"), KeyboardInterrupt(), tidegate.RateLimited("elsewhere")]
)
def test_breaker__not_the_providers_fault__stays_closed(bench: Bench, error: BaseException) -> None:
    bench.policy({"breaker": {"min_calls": 2}})

    for _ in range(5):
        fail(bench, error)

    spend(bench)

    assert bench.row().refused == 0


def test_breaker__probe_refused_by_a_later_gate__another_may_probe(bench: Bench) -> None:
    limits = [{"unit": "requests", "amount": 4, "per_s": 1000, "scope": "instance"}]
    bench.policy({"breaker": {"min_calls": 4, "open_s": 20, "half_open_calls": 1}, "limits": limits})
    for _ in range(4):
        fail(bench, TimeoutError())
    bench.clock.advance(20)
    with pytest.raises(tidegate.RateLimited):
        bench.call().admit()

    bench.clock.advance(1000)

    spend(bench, model=None)
    assert bench.guard.breakers["chat", ""].provider.phase == "closed"


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_breaker__one_tenants_credential_is_turned_down__shut_for_it_alone(bench: Bench, status: int) -> None:
    bench.policy({"breaker": {"min_calls": 4, "open_s": 20}})
    for _ in range(4):
        fail(bench, Turned(status), tenant="acme")

    with pytest.raises(tidegate.BreakerOpen) as refused:
        bench.call(tenant="acme").admit()

    assert refused.value.blocked_by == "chat of acme"
    spend(bench, tenant="globex")
    spend(bench, tenant="acme", credential="another key")


def test_breaker__credential_recovers__closed_and_forgotten(bench: Bench) -> None:
    bench.policy({"breaker": {"min_calls": 4, "open_s": 20, "window_s": 10, "half_open_calls": 1}})
    for _ in range(4):
        fail(bench, Turned(401))
    bench.clock.advance(20)

    spend(bench, model=None)
    bench.clock.advance(11)
    request, _ = bench.sync()

    assert request["breakers"] == []
    assert not bench.guard.breakers["chat", ""].credentials


def test_breaker__target_named__shared_by_routes_and_apart_from_others(bench: Bench) -> None:
    bench.policy({"breaker": {"min_calls": 4}})
    for _ in range(4):
        fail(bench, Turned(503), model="m", target="provider/eu")

    with pytest.raises(tidegate.BreakerOpen) as refused:
        bench.call("embed", model="m", target="provider/eu").admit()

    assert refused.value.blocked_by == "provider/eu m"
    spend(bench, model="m", target="provider/us")
    spend(bench, model="m")


def test_breaker__calls_hang__opens_while_they_do(bench: Bench) -> None:
    bench.policy({"breaker": {"min_calls": 4, "slow_call_ms": 1000, "slow_call_rate": 1.0}})
    hanging = [bench.call() for _ in range(4)]
    for call in hanging:
        call.admit()
    spend_in_time = bench.call()
    bench.clock.advance(1.0)
    spend_in_time.admit()
    bench.clock.advance(0.5)

    with pytest.raises(tidegate.BreakerOpen) as refused:
        bench.call().admit()

    assert "4 of 4 calls took longer than 1000 ms, 4 of them still hang" in str(refused.value)


def test_breaker__provider_says_when_to_come_back__not_probed_before(bench: Bench) -> None:
    bench.policy({"breaker": {"min_calls": 1, "open_s": 5, "max_open_s": 60}})
    error = Turned(503)
    error.retry_after_s = 45.0  # type: ignore[attr-defined]  # as some libraries have it
    fail(bench, error)

    with pytest.raises(tidegate.BreakerOpen) as refused:
        bench.call().admit()

    assert refused.value.retry_after_s == pytest.approx(45.0)


def test_breaker__opens_while_a_call_waits_in_line__not_sent(bench: Bench) -> None:
    bench.policy({"breaker": {"min_calls": 2}, "queue": {"max_concurrent": 2, "max_wait_ms": 60_000}})
    running = [bench.call(), bench.call()]
    for call in running:
        call.admit()
    waiting = bench.call()
    assert bench.guard.advance(waiting) is not None
    for call in running:
        call.settle(TimeoutError(), last=True)

    with pytest.raises(tidegate.BreakerOpen):
        bench.guard.advance(waiting)

    assert not bench.guard.running


def test_breaker__operator_resets_it__closed(bench: Bench) -> None:
    bench.policy({"breaker": {"min_calls": 4}})
    for _ in range(4):
        fail(bench, TimeoutError())

    bench.policy({"breaker": {"min_calls": 4}, "breaker_resets": 1})

    spend(bench)

    assert bench.row().refused == 0


def test_breaker__open__said_in_the_sync_with_its_cause(bench: Bench) -> None:
    bench.policy({"breaker": {"min_calls": 4}})
    for _ in range(4):
        fail(bench, Turned(503), model="m")
    bench.clock.advance(3)

    request, _ = bench.sync()

    assert request["breakers"] == [
        {
            "route": "chat", "model": "m", "phase": "open", "mode": "auto", "since_ms": bench.clock.wall_ms() - 3000,
            "calls": 4, "failures": 4, "slow": 0, "hung": 0, "refused": 0, "credential": "",
            "cause": "4 of 4 calls failed (server)",
        }
    ]  # fmt: skip


def test_breaker__host_makes_up_models__quiet_ones_are_forgotten(bench: Bench) -> None:
    bench.policy({"breaker": {"window_s": 10}})
    slow = bench.call(model="m-0")
    slow.admit()
    for number in range(1, 1500):
        with bench.call(model=f"m-{number}"):
            pass
    made_up = len(bench.guard.breakers)
    bench.clock.advance(11)

    bench.sync()
    slow.settle(TimeoutError(), last=True)

    assert made_up > 1000
    assert not bench.guard.breakers
