"""Gates in order, what a refusal says and gives back, and what calls come to. No network, no sleeping: the clock is the test's."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import tidegate
from sdk.python.tests.bench import Bench
from tidegate.caller import Caller
from tidegate.errors import Closed
from tidegate.running import run

PRICED = {"model": "gpt-4o-mini", "input_tokens": 400, "max_output_tokens": 800}
BOUND, COST = 540_000, 120_000


class Turned(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


def spend(bench: Bench, **options: Any) -> None:
    with bench.call(**{**PRICED, **options}) as call:
        call.record(input_tokens=400, output_tokens=100)


def fail(bench: Bench, error: BaseException, **options: Any) -> None:
    with pytest.raises(type(error)), bench.call(**options):
        raise error


# Limits


def test_limit__used_up__refused_with_what_and_when(bench: Bench) -> None:
    bench.policy({"limits": [{"unit": "requests", "amount": 2, "per_s": 10, "scope": "instance"}]})
    for _ in range(2):
        spend(bench)

    with pytest.raises(tidegate.RateLimited) as refused:
        bench.call().admit()

    assert refused.value.blocked_by == "acme/chat requests"
    assert refused.value.retry_after_s == pytest.approx(5.0)
    assert bench.row().refused == 1
    assert bench.row().calls == 2
    bench.clock.advance(5.0)
    spend(bench)


def test_limit__tokens__corrected_when_the_truth_is_known(bench: Bench) -> None:
    bench.policy({"limits": [{"unit": "tokens", "amount": 1500, "per_s": 60, "scope": "instance"}]})

    spend(bench)  # an estimate of 1200 turns out as 500
    with bench.call(input_tokens=500, max_output_tokens=500):
        pass

    with pytest.raises(tidegate.RateLimited):
        bench.call(input_tokens=1, max_output_tokens=0).admit()


def test_limit__two_of_them__the_first_gets_back_what_the_second_refused(bench: Bench) -> None:
    limits = [
        {"unit": "requests", "amount": 2, "scope": "instance"},
        {"unit": "tokens", "amount": 100, "scope": "instance"},
    ]
    bench.policy({"limits": limits})
    with bench.call(input_tokens=99):
        pass
    with pytest.raises(tidegate.RateLimited, match="tokens"):
        bench.call(input_tokens=100).admit()

    with bench.call(input_tokens=1):
        pass

    with pytest.raises(tidegate.RateLimited, match="requests"):
        bench.call().admit()


def test_limit__fleet_without_a_share__a_tenth_of_it(bench: Bench) -> None:
    bench.policy({"limits": [{"unit": "requests", "amount": 100, "scope": "fleet"}]})

    for _ in range(10):
        spend(bench)

    with pytest.raises(tidegate.RateLimited):
        bench.call().admit()


def test_limit__fleet_with_a_share__the_share_of_it_and_demand_is_said(bench: Bench) -> None:
    bench.policy({"limits": [{"unit": "requests", "amount": 100, "per_s": 100, "scope": "fleet"}]})
    bench.call().admit()
    bench.sync(shares=[{"tenant": "acme", "route": "chat", "unit": "requests", "share": 0.5, "ttl_ms": 600_000}])

    bench.clock.advance(100)
    for _ in range(50):
        spend(bench)
    with pytest.raises(tidegate.RateLimited):
        bench.call().admit()
    request, _ = bench.sync()

    assert request["demand"][0]["per_s"] == pytest.approx(0.51, rel=0.05)


def test_limit__fleet_share_grows__nothing_was_earned_under_it_before(bench: Bench) -> None:
    share = {"tenant": "acme", "route": "chat", "unit": "requests", "ttl_ms": 600_000}
    bench.policy({"limits": [{"unit": "requests", "amount": 100, "per_s": 100, "scope": "fleet"}]})
    bench.call().admit()
    bench.sync(shares=[{**share, "share": 0.1}])
    bench.clock.advance(100)

    bench.sync(shares=[{**share, "share": 0.9}])
    for _ in range(10):
        spend(bench)

    with pytest.raises(tidegate.RateLimited):
        bench.call().admit()


@pytest.mark.parametrize(("given", "then"), [(0.02, 0.02), (0.5, 0.1)])
def test_limit__fleet_share_expires__no_more_than_a_tenth(bench: Bench, given: float, then: float) -> None:
    share = {"tenant": "acme", "route": "chat", "unit": "requests", "ttl_ms": 10_000}
    bench.policy({"limits": [{"unit": "requests", "amount": 1000, "per_s": 100, "scope": "fleet"}]})
    bench.call().admit()
    bench.sync(shares=[{**share, "share": given}])
    assert bench.guard.lane("acme", "chat").part("requests") == given

    bench.clock.advance(10)
    bench.call().admit()

    assert bench.guard.lane("acme", "chat").part("requests") == then
    assert bench.sync()[0]["demand"][0]["share"] == 0.0


def test_limit__fleet_share_shrinks__acknowledged_at_once(bench: Bench) -> None:
    share = {"tenant": "acme", "route": "chat", "unit": "requests"}
    bench.policy({"limits": [{"unit": "requests", "amount": 600, "per_s": 60, "scope": "fleet"}]})
    bench.call().admit()
    _, first = bench.sync(shares=[{**share, "share": 1.0}])

    _, second = bench.sync(shares=[{**share, "share": 0.5}])
    request, _ = bench.sync()

    assert (first.hurry, second.hurry) == (False, True)
    assert (request["demand"][0]["share"], request["demand"][0]["capacity"]) == (0.5, 10.0)


def test_limit__fleet_and_never_asked__asks_for_a_share_at_once_and_once(bench: Bench) -> None:
    bench.policy({"limits": [{"unit": "requests", "amount": 600, "per_s": 60, "scope": "fleet"}]})

    spend(bench)
    spend(bench)

    assert bench.pokes == 1


# Breakers


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
    bench.clock.advance(11)

    bench.sync()
    slow.settle(TimeoutError(), last=True)

    assert not bench.guard.breakers


# Queue


def test_queue__full__refused_with_an_estimate(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_waiting": 0, "max_wait_ms": 1000}})
    first = bench.call()
    with first:
        bench.clock.advance(2)
    running = bench.call()
    running.admit()

    with pytest.raises(tidegate.QueueFull) as refused:
        bench.call().admit()

    assert refused.value.retry_after_s == pytest.approx(2.0)
    assert refused.value.blocked_by == "acme/chat queue"


def test_queue__slot_comes_free__the_one_with_priority_goes_first(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_waiting": 8, "max_wait_ms": 5000}})
    running, low, high = bench.call(), bench.call(), bench.call(priority=5)
    running.admit()
    assert bench.guard.advance(low) is not None
    assert bench.guard.advance(high) is not None

    running.settle(None, last=True)

    assert bench.guard.advance(high) is None
    assert bench.guard.advance(low) is not None


def test_queue__waited_as_long_as_allowed__refused(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 1000}})
    bench.call().admit()
    heard: list[BaseException] = []

    def wait() -> None:
        try:
            bench.call().admit()
        except tidegate.QueueTimeout as error:
            heard.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not bench.guard.waiting:
        pass
    bench.clock.advance(0.9)
    assert thread.is_alive()
    bench.clock.advance(0.2)
    thread.join(5)

    assert len(heard) == 1
    assert bench.guard.lane("acme", "chat").line.waiting == 0


def test_queue__operator_raises_the_limit__those_who_wait_run(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 1000}})
    bench.call().admit()
    waiting = bench.call()
    assert bench.guard.advance(waiting) is not None

    bench.policy({"queue": {"max_concurrent": 2, "max_wait_ms": 1000}})

    assert bench.guard.advance(waiting) is None


def test_queue__depth__sampled_when_calls_arrive(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 1000}})
    calls = [bench.call() for _ in range(3)]

    for call in calls:
        bench.guard.advance(call)

    assert bench.row().queue_depth.packed()[:4] == [3, 1, 0, 1]


def test_queue__line_moves_too_slowly_for_the_deadline__refused_at_once(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 1, "max_wait_ms": 60_000}, "timeout_ms": 3000})
    with bench.call():
        bench.clock.advance(10)
    bench.call().admit()

    with pytest.raises(tidegate.QueueTimeout) as refused:
        bench.guard.advance(bench.call())

    assert refused.value.retry_after_s == pytest.approx(10.0)
    assert bench.guard.lane("acme", "chat").line.waiting == 0


def test_queue__fleet_with_a_share__its_slots_of_it(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 20, "max_waiting": 0, "scope": "fleet"}})
    first = [bench.call() for _ in range(2)]
    for call in first:
        call.admit()
    with pytest.raises(tidegate.QueueFull):
        bench.call().admit()
    request, _ = bench.sync(shares=[{"tenant": "acme", "route": "chat", "unit": "calls", "share": 0.25}])

    for call in [bench.call() for _ in range(3)]:
        call.admit()
    with pytest.raises(tidegate.QueueFull):
        bench.call().admit()

    assert request["demand"][0]["unit"] == "calls"
    assert request["demand"][0]["capacity"] == 20.0
    assert bench.pokes == 1


def test_queue__fleet_share_comes__those_who_wait_run(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 10, "scope": "fleet"}})
    bench.call().admit()
    waiting = bench.call()
    assert bench.guard.advance(waiting) is not None

    bench.sync(shares=[{"tenant": "acme", "route": "chat", "unit": "calls", "share": 0.2}])

    assert bench.guard.advance(waiting) is None


def test_queue__adaptive_and_the_provider_throttles__fewer_run(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 10, "max_waiting": 0, "adaptive": "gradient", "min_concurrent": 2}})
    for _ in range(3):
        bench.clock.advance(1)
        fail(bench, Turned(429))

    running = [bench.call() for _ in range(7)]
    for call in running:
        call.admit()

    with pytest.raises(tidegate.QueueFull):
        bench.call().admit()


def test_queue__adaptive__goes_by_the_first_token_where_it_is_told(bench: Bench) -> None:
    bench.policy({"queue": {"max_concurrent": 10, "adaptive": "gradient"}})

    with bench.call() as call:
        bench.clock.advance(0.5)
        call.progress()
        bench.clock.advance(30)
        call.progress()
    with bench.call() as call:
        bench.clock.advance(10)
        call.record(output_tokens=100)

    adaptive = bench.guard.lane("acme", "chat").adaptive
    assert adaptive is not None
    assert (adaptive.best("first"), adaptive.best("token"), adaptive.best("whole")) == (0.5, 0.1, None)


# Budgets


def test_budget__never_asked__waits_and_asks_at_once(bench: Bench) -> None:
    bench.budget("all")
    call = bench.call(**PRICED)

    assert bench.guard.advance(call) is not None
    assert bench.pokes == 1
    request, _ = bench.sync()

    assert request["leases"][0]["min_useful"] == BOUND
    assert request["leases"][0]["want"] >= BOUND
    assert bench.guard.advance(call) is None


def test_budget__held_and_settled__to_the_nano_dollar(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND, **PRICED)

    with bench.call(**PRICED) as call:
        assert call.slip is not None
        assert call.slip.lease.held == BOUND
        call.record(input_tokens=400, output_tokens=100)
    request, _ = bench.sync()

    line = request["leases"][0]
    assert (line["settled"], line["held"]) == (COST, 0)
    assert request["windows"][0]["rows"][0]["cost_nusd"] == COST


@pytest.mark.parametrize(
    ("error", "cost"),
    [(RuntimeError(), BOUND), (TimeoutError(), BOUND), (KeyboardInterrupt(), BOUND), (Turned(500), BOUND), (Turned(429), 0),
     (Turned(400), 0), (tidegate.RateLimited("nested"), 0)],
    ids=repr,
)  # fmt: skip
def test_budget__call_failed_without_a_record__presumed_billed_unless_it_was_turned_down(
    bench: Bench, error: BaseException, cost: int
) -> None:
    bench.budget("all")
    bench.fund(BOUND, **PRICED)

    fail(bench, error, **PRICED)

    request, _ = bench.sync()
    assert request["leases"][0]["settled"] == request["windows"][0]["rows"][0]["cost_nusd"] == cost


def test_budget__recorded_and_then_failed__the_record_counts(bench: Bench) -> None:
    def body() -> None:
        with bench.call(**PRICED) as call:
            call.record(cost_usd="0.000000007")
            raise RuntimeError

    bench.budget("all")
    bench.fund(BOUND, **PRICED)

    with pytest.raises(RuntimeError):
        body()

    assert bench.sync()[0]["leases"][0]["settled"] == 7


def test_budget__exhausted__refused_by_its_name_and_at_once_for_a_while(bench: Bench) -> None:
    bench.budget("all")
    call = bench.call(**PRICED)
    bench.guard.advance(call)
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all", retry_after_ms=60_000)

    with pytest.raises(tidegate.BudgetExhausted) as refused:
        bench.guard.advance(call)
    with pytest.raises(tidegate.BudgetExhausted):
        bench.guard.advance(bench.call(**PRICED))

    assert refused.value.blocked_by == "acme/all"
    assert refused.value.retry_after_s == pytest.approx(60)
    assert bench.sync()[0]["leases"][0]["denied"] == 2


def test_budget__exhausted_for_large_calls__small_ones_still_ask(bench: Bench) -> None:
    bench.budget("all")
    large = bench.call(**PRICED)
    bench.guard.advance(large)
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all")
    small = bench.call(cost_usd="0.0001")

    assert bench.guard.advance(small) is not None
    bench.sync()

    assert bench.guard.advance(small) is None


def test_budget__server_unreachable__stale(bench: Bench) -> None:
    bench.budget("all")
    call = bench.call(**PRICED)
    bench.guard.advance(call)
    bench.exchange.request({}, {}, dropped_spans=0, closing=False)
    bench.exchange.failed(next_try_s=8)

    with pytest.raises(tidegate.Stale) as refused:
        bench.guard.advance(call)

    assert refused.value.retry_after_s == pytest.approx(8)
    assert refused.value.blocked_by == "acme/all"


def test_budget__no_answer_in_time__stale(bench: Bench) -> None:
    bench.budget("all")
    call = bench.call(**PRICED)
    assert bench.guard.advance(call) is not None
    bench.clock.advance(1.01)

    with pytest.raises(tidegate.Stale):
        bench.guard.advance(call)


def test_budget__lease_expired__not_spent_from_until_it_is_renewed(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND, **PRICED)
    bench.clock.advance(15.1)
    call = bench.call(**PRICED)

    assert bench.guard.advance(call) is not None
    bench.sync()

    assert bench.guard.advance(call) is None
    assert call.slip is not None
    assert call.slip.number == 1


def test_budget__period_over__a_new_lease_and_the_old_one_is_finished(bench: Bench) -> None:
    bench.budget("all")
    asking = bench.call(**PRICED)
    bench.guard.advance(asking)
    bench.sync(period_ms=5000)
    assert bench.guard.advance(asking) is None
    bench.clock.advance(5)

    late = bench.call(**PRICED)
    assert bench.guard.advance(late) is not None
    request, _ = bench.sync()
    assert [(line["number"], line["want"] > 0, line["final"]) for line in request["leases"]] == [
        (1, False, False),
        (2, True, False),
    ]
    assert bench.guard.advance(late) is None
    asking.settle(None, last=True)
    request, _ = bench.sync()
    assert [(line["number"], line["final"]) for line in request["leases"]] == [(1, True), (2, False)]
    request, _ = bench.sync()

    assert [line["number"] for line in request["leases"]] == [2]


def test_budget__server_closed_the_lease__a_new_one_and_costs_still_reach_the_old(bench: Bench) -> None:
    bench.budget("all")
    first = bench.call(**PRICED)
    bench.guard.advance(first)
    bench.sync()
    assert bench.guard.advance(first) is None
    bench.sync(closed=True, denied="closed")

    second = bench.call(**PRICED)
    assert bench.guard.advance(second) is not None
    first.record(input_tokens=400, output_tokens=100)
    first.settle(None, last=True)
    request, _ = bench.sync()

    assert [(line["number"], line["settled"], line["final"]) for line in request["leases"]] == [
        (1, COST, True),
        (2, 0, False),
    ]


def test_budget__cap__idle_rights_go_back_at_once(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND, **PRICED)

    _, answer = bench.sync(cap=0)
    request, _ = bench.sync(grant=0)

    assert answer.hurry
    assert request["leases"][0]["returned"] == 10 * BOUND


def test_budget__same_call_denied_again_and_again__asks_for_some_calls_not_for_everything(bench: Bench) -> None:
    bench.budget("all")
    bench.guard.advance(bench.call(**PRICED))
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all")

    for _ in range(1000):
        with pytest.raises(tidegate.BudgetExhausted):
            bench.guard.advance(bench.call(**PRICED))

    assert 32 * BOUND <= bench.sync(grant=0)[0]["leases"][0]["want"] <= 34 * BOUND


@pytest.mark.parametrize(
    ("one", "two", "goes_on"),
    [
        ({"on_disconnect": "finish_lease"}, {"on_disconnect": "finish_lease"}, True),
        ({"on_disconnect": "finish_lease"}, {"on_exhausted": "warn"}, True),
        ({"on_disconnect": "finish_lease"}, {"on_disconnect": "stop"}, False),
        ({"on_disconnect": "finish_lease"}, {}, False),
    ],
)
def test_budget__lease_expired__spent_to_its_end_where_every_budget_lets_it(
    bench: Bench, one: dict[str, str], two: dict[str, str], goes_on: bool
) -> None:
    bench.budget("one", **one)
    bench.budget("two", **two)
    bench.fund(2 * BOUND, **PRICED)
    bench.exchange.failed(next_try_s=3600)
    bench.clock.advance(600)

    for _ in range(2 if goes_on else 0):
        assert bench.guard.advance(bench.call(**PRICED)) is None
    with pytest.raises(tidegate.Stale):
        bench.guard.advance(bench.call(**PRICED))


def test_budget__never_funded__is_not_finished(bench: Bench) -> None:
    bench.budget("one", on_disconnect="finish_lease")
    bench.exchange.failed(next_try_s=3600)

    with pytest.raises(tidegate.Stale):
        bench.guard.advance(bench.call(**PRICED))


@pytest.mark.parametrize("part", ["session", "user"])
def test_budget__of_one_session_or_user__touched_by_its_calls_alone(bench: Bench, part: str) -> None:
    bench.budget("run", match={part: "one"})

    spend(bench, **{part: "two"})

    assert bench.guard.advance(bench.call(**{part: "one"})) is not None


@pytest.mark.parametrize("part", ["session", "user"])
def test_budget__of_one_session_or_user__does_not_pay_for_others_that_call_alike(bench: Bench, part: str) -> None:
    bench.budget("run", match={part: "one"})
    caller = Caller(bench.guard, bench.tracer)
    bench.fund(1000 * BOUND, **{part: "one"}, **PRICED)
    for who in [*["one"] * 40, "two"]:
        with caller.call("chat", **{part: who}, **PRICED) as call:
            call.record(input_tokens=400, output_tokens=100)
    bench.clock.advance(2)

    assert bench.sync()[0]["leases"][0]["settled"] == 40 * COST


def test_budget__only_warns__never_denies(bench: Bench) -> None:
    bench.budget("soft", on_exhausted="warn")

    for _ in range(3):
        spend(bench)

    assert bench.sync()[0]["leases"][0]["settled"] == 3 * COST


def test_budget__match__touched_by_the_calls_that_equal_it(bench: Bench) -> None:
    bench.budget("support", match={"category": "support"})

    spend(bench, category="sales")

    assert bench.guard.advance(bench.call(category="support")) is not None


def test_budget__unused_for_long__lease_goes_back_and_is_closed(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND, **PRICED)
    bench.clock.advance(301)

    request, _ = bench.sync()

    assert request["leases"][0]["final"]
    assert not bench.guard.leases.slips


def test_budget__cost_unknown__held_at_what_calls_here_did_cost_lately(bench: Bench) -> None:
    bench.budget("all")
    bench.fund(10 * BOUND)
    with bench.call() as unknown:
        assert unknown.bound == 1
        unknown.record(cost_usd="0.000300")

    with bench.call() as learned:
        assert learned.bound == 300_000
        learned.record(cost_usd="0.000001")

    bench.clock.advance(601)
    bench.fund(1)
    with bench.call() as forgotten:
        assert forgotten.bound == 1


def test_cost__model_without_a_price__a_high_price_and_counted(bench: Bench) -> None:
    bench.publish()
    with bench.call(model="nobody-knows") as call:
        call.record(input_tokens=1, output_tokens=1)
    with bench.call():
        pass

    assert bench.guard.unpriced_calls == 2
    assert bench.row().cost_nusd == 15_000 + 75_000


# Enforcement


def test_shadow__calls_that_would_have_been_refused__summed_once_with_what_they_cost(bench: Bench) -> None:
    limits = [
        {"unit": "requests", "amount": 1, "scope": "instance"},
        {"unit": "tokens", "amount": 1, "scope": "instance"},
    ]
    bench.policy({"limits": limits, "enforcement": "shadow"})

    spend(bench)
    spend(bench)
    spend(bench)

    kinds = bench.row().kinds
    assert (kinds["shadow.rate_limited"], kinds["shadow.calls"], kinds["shadow.cost_nusd"]) == (2, 2, 2 * COST)
    assert (bench.row().calls, bench.row().refused) == (3, 0)


def test_shadow__one_limit_only_watches__the_others_hold(bench: Bench) -> None:
    watched = {"unit": "requests", "amount": 1, "scope": "instance", "enforcement": "shadow"}
    bench.policy({"limits": [watched, {"unit": "requests", "amount": 2, "scope": "instance"}]})
    spend(bench)
    spend(bench)

    with pytest.raises(tidegate.RateLimited, match="limit of 2"):
        bench.call().admit()

    assert bench.row().kinds == {
        "shadow.rate_limited": 2,
        "shadow.calls": 1,
        "shadow.cost_nusd": COST,
        "refused.rate_limited": 1,
    }


def test_shadow__breaker_only_counts__calls_that_it_would_have_refused_are_told(bench: Bench) -> None:
    bench.policy({"breaker": {"min_calls": 4, "mode": "metrics_only"}})
    for _ in range(4):
        fail(bench, TimeoutError())

    spend(bench, model=None)

    assert bench.row().kinds["shadow.breaker_open"] == bench.row().kinds["shadow.calls"] == 1


def test_shadow__call_is_tried_again__counted_once(bench: Bench) -> None:
    bench.policy(
        {
            "limits": [{"unit": "requests", "amount": 1, "scope": "instance", "enforcement": "shadow"}],
            "retry": {"max_attempts": 3, "base_ms": 0, "max_ms": 0},
        }
    )
    spend(bench)

    def body(call: Any) -> None:
        if call.attempts < 3:
            raise TimeoutError

    run(bench.plan(), "chat", body)

    assert bench.row().kinds["shadow.rate_limited"] == bench.row().kinds["shadow.calls"] == 1


def test_shadow__everything_would_refuse__passes_and_is_counted(bench: Bench) -> None:
    bench.budget("all")
    limits = [{"unit": "requests", "amount": 1, "per_s": 1000, "scope": "instance"}]
    bench.policy({"limits": limits, "breaker": {"mode": "forced_open"}, "enforcement": "shadow"})
    spend(bench)
    bench.sync(grant=0, denied="exhausted", blocked_by="acme/all")

    spend(bench)

    assert bench.sync()[0]["windows"][0]["rows"][0]["kinds"] == {
        "shadow.breaker_open": 1,
        "shadow.rate_limited": 1,
        "shadow.budget_exhausted": 1,
        "shadow.calls": 1,
        "shadow.cost_nusd": COST,
    }
    assert next(iter(bench.guard.leases.slips.values())).lease.settled == 2 * COST


def test_off__everything_would_refuse__passes_uncounted_and_accounted(bench: Bench) -> None:
    bench.budget("all")
    limits = [{"unit": "requests", "amount": 1, "scope": "instance"}]
    queue = {"max_concurrent": 1, "max_waiting": 0}
    bench.policy({"limits": limits, "queue": queue, "breaker": {"mode": "forced_open"}, "enforcement": "off"})
    bench.call().admit()

    for _ in range(3):
        spend(bench)

    assert bench.row().kinds == {}
    assert bench.row().calls == 3
    assert next(iter(bench.guard.leases.slips.values())).lease.settled == 3 * COST


def test_no_policy_yet__passes_ungoverned_and_is_counted_in_time(bench: Bench) -> None:
    spend(bench)
    assert bench.sync()[0]["windows"] == []

    bench.clock.advance(61)
    request, _ = bench.sync()

    assert [row["calls"] for window in request["windows"] for row in window["rows"]] == [1]


def test_first_policy__calls_of_the_time_before__counted_at_its_prices_and_owed(bench: Bench) -> None:
    spend(bench, tenant=None)
    bench.budget("all")

    request, _ = bench.sync()

    rows = [row for window in request["windows"] for row in window["rows"]]
    assert [(row["tenant"], row["cost_nusd"]) for row in rows] == [("acme", COST)]
    assert [(line["settled"], line["held"]) for line in request["leases"]] == [(COST, 0)]


# Ends


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
    assert request["leases"][0]["settled"] == BOUND
    assert request["leases"][0]["final"]
    assert request["final"]
    assert request["windows"][0]["rows"][0]["kinds"] == {"cancelled": 1}


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


# A new policy


def test_follow__a_new_snapshot__windows_buckets_and_permits_stay(bench: Bench) -> None:
    policy: dict[str, Any] = {
        "limits": [{"unit": "requests", "amount": 6, "per_s": 60, "scope": "instance"}],
        "queue": {"max_concurrent": 2, "max_waiting": 0, "max_wait_ms": 0},
        "breaker": {"min_calls": 4, "failure_rate": 0.5},
    }
    bench.policy(policy)
    with pytest.raises(RuntimeError), bench.call():
        raise RuntimeError
    one, other = bench.call(), bench.call()
    one.admit()
    other.admit()

    bench.policy({**policy, "timeout_ms": 7000})

    with pytest.raises(tidegate.QueueFull):  # both places are taken still
        bench.call().admit()
    one.settle(None, last=True)
    other.settle(None, last=True)
    circuit = bench.guard.breakers["chat", ""]
    assert (circuit.provider.recent.calls, circuit.provider.recent.failures) == (3, 1)
    for _ in range(2):
        with bench.call() as call:
            assert call.timeout_s == 7.0
    bench.call().admit()  # the sixth of six: who found no place gave his back
    with pytest.raises(tidegate.RateLimited):
        bench.call().admit()
