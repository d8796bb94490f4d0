"""OpenAI's own client, guarded, against a provider on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

openai = pytest.importorskip("openai")

from sdk.python.tests.integrations.conftest import Told  # noqa: E402
from sdk.python.tests.integrations.provider import CACHED, INPUT, REASONING, Provider  # noqa: E402
from tidegate import BudgetExhausted, Gate, RateLimited  # noqa: E402
from tidegate.integrations.openai import wrap  # noqa: E402
from tidegate.testing import FakeControlPlane  # noqa: E402

MODEL = "gpt-4o-mini"


def say(text: str = "hello") -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def cost(out: int) -> int:
    return (INPUT - CACHED) * 1_000 + CACHED * 100 + out * 4_000


@pytest.fixture
def client(provider: Provider, gate: Gate) -> Any:
    return wrap(openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1"), gate, route="chat", tenant="acme")


@pytest.fixture
def aclient(provider: Provider, gate: Gate) -> Any:
    return wrap(openai.AsyncOpenAI(api_key="k", base_url=f"{provider.url}/v1"), gate, route="chat", tenant="acme")


def test_chat__whole__priced_by_its_usage(client: Any, told: Told) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=say("tokens=7"))

    assert isinstance(client, openai.OpenAI)
    assert reply.usage.completion_tokens == 7
    sums = told()
    assert (sums["calls"], sums["input_tokens"], sums["cached_input_tokens"], sums["output_tokens"]) == (
        1,
        INPUT,
        CACHED,
        7,
    )
    assert sums["usage"] == {"reasoning": REASONING}
    assert sums["cost_nusd"] == cost(7)
    assert (sums["models"], sums["routes"], sums["tenants"]) == ({MODEL}, {"chat"}, {"acme"})


def test_chat__client_that_was_wrapped__is_as_it_was(provider: Provider, gate: Gate, told: Told) -> None:
    plain = openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1")
    wrap(plain, gate)

    plain.chat.completions.create(model=MODEL, messages=say())

    assert len(provider.requests) == 1
    assert "calls" not in told()


def test_chat__streamed__usage_asked_for_and_kept_from_who_did_not_ask(
    client: Any, provider: Provider, told: Told
) -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=say("tokens=5"), stream=True))

    assert provider.requests[0]["stream_options"] == {"include_usage": True}
    assert all(chunk.choices for chunk in chunks)
    assert len(chunks) == 6
    sums = told()
    assert (sums["calls"], sums["output_tokens"], sums["cost_nusd"]) == (1, 5, cost(5))


def test_chat__streamed_by_who_asked_for_usage__sees_it(client: Any) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}

    with client.chat.completions.create(model=MODEL, messages=say(), **asked) as stream:
        chunks = list(stream)

    assert chunks[-1].usage.completion_tokens == 3


def test_chat__stream_closed_early__charged_what_came(client: Any, told: Told) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=say("tokens=500 slow"), stream=True)
    for _ in range(10):
        next(stream)
    stream.close()

    sums = told()
    assert sums["kinds"] == {"cancelled": 1, "estimated": 1}
    assert sums["output_tokens"] == 10
    assert sums["cost_nusd"] < cost(500) / 10


def test_chat__connection_broken_off_unnoticed__charged_what_came(client: Any, told: Told) -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=say("tokens=500 cut=10"), stream=True))

    sums = told()
    assert len(chunks) == 10
    assert (sums["calls"], sums["output_tokens"], sums["kinds"]) == (1, 10, {"estimated": 1})


def test_chat__connection_broken_off__raised_counted_and_charged_what_came(client: Any, told: Told) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=say("tokens=500 cut=10 chunked"), stream=True)

    with pytest.raises(openai.APIConnectionError):
        list(stream)

    sums = told()
    assert (sums["calls"], sums["errors"], sums["output_tokens"]) == (1, 1, 10)
    assert sums["kinds"]["estimated"] == 1


def test_chat__stream_dropped__does_not_hold_its_place(client: Any, gate: Gate) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=say("tokens=500 slow"), stream=True)
    next(stream)
    del stream

    assert gate.status()["in_flight"] == 0


def test_chat__stream_helper__goes_through_the_gate_too(client: Any, told: Told) -> None:
    with client.chat.completions.stream(model=MODEL, messages=say("tokens=4")) as stream:
        assert stream.get_final_completion().choices[0].message.content == "wrd" * 4

    sums = told()
    assert (sums["calls"], sums["output_tokens"]) == (1, 4)


def test_responses__whole_and_streamed__priced(client: Any, told: Told) -> None:
    client.responses.create(model=MODEL, input="tokens=3")
    events = list(client.responses.create(model=MODEL, input="tokens=4", stream=True))

    assert events[-1].type == "response.completed"
    sums = told()
    assert (sums["calls"], sums["output_tokens"], sums["cost_nusd"]) == (2, 7, cost(3) + cost(4))


def test_embeddings__whole__priced(client: Any, told: Told) -> None:
    client.embeddings.create(model="embed", input="hello")

    assert told()["cost_nusd"] == INPUT * 100


def test_raw_response__whole__priced(client: Any, told: Told) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=say("tokens=7"))

    assert raw.parse().usage.completion_tokens == 7
    assert told()["cost_nusd"] == cost(7)


def test_request__says_more_of_itself__counts_for_that(client: Any, provider: Provider, told: Told) -> None:
    client.chat.completions.create(model=MODEL, messages=say(), tidegate={"route": "other", "category": "c"})

    assert "tidegate" not in provider.requests[0]
    assert told()["routes"] == {"other"}


def test_request__traced__continues_at_the_provider(client: Any, provider: Provider, gate: Gate) -> None:
    client.chat.completions.create(model=MODEL, messages=say())
    client.chat.completions.create(model=MODEL, messages=say(), extra_headers={"traceparent": "mine", "x-a": "b"})

    assert provider.headers[0]["traceparent"].endswith("-03")
    assert (provider.headers[1]["traceparent"], provider.headers[1]["x-a"]) == ("mine", "b")


def test_limit__used_up__refused_before_anything_is_sent(
    client: Any, provider: Provider, plane: FakeControlPlane, gate: Gate
) -> None:
    plane.put_policy({"limits": [{"unit": "requests", "amount": 1, "per_s": 3600, "scope": "instance"}]})
    _followed(gate, plane)
    client.chat.completions.create(model=MODEL, messages=say())

    with pytest.raises(RateLimited):
        client.chat.completions.create(model=MODEL, messages=say())
    with pytest.raises(RateLimited):
        client.chat.completions.create(model=MODEL, messages=say(), stream=True)

    assert len(provider.requests) == 1


def test_error__of_the_provider__raised_as_it_is_and_tried_again_by_the_policy_alone(
    client: Any, provider: Provider, plane: FakeControlPlane, gate: Gate, told: Told
) -> None:
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model=MODEL, messages=say("status=503"))
    assert len(provider.requests) == 1
    plane.put_policy({"retry": {"max_attempts": 3, "base_ms": 1, "max_ms": 1, "budget_ratio": 1.0}})
    _followed(gate, plane)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model=MODEL, messages=say("status=429"))

    assert len(provider.requests) > 2
    assert told()["kinds"]["error.rate_limited"] == 1


def test_budget__that_cuts__ends_a_stream_before_it_costs_more(
    client: Any, provider: Provider, plane: FakeControlPlane, gate: Gate, told: Told
) -> None:
    for _ in range(40):
        list(client.chat.completions.create(model=MODEL, messages=say("tokens=10"), stream=True))
    plane.put_policy({"queue": {"max_concurrent": 10, "max_wait_ms": 30_000}})  # and as long for the control plane
    plane.put_budget("small", "0.002", strict=False, on_overrun="cut")
    _followed(gate, plane)
    for _ in range(40):  # learned where a budget goes by it
        list(client.chat.completions.create(model=MODEL, messages=say("tokens=3"), stream=True))
    got: list[Any] = []
    with pytest.raises(BudgetExhausted):
        got.extend(client.chat.completions.create(model=MODEL, messages=say("tokens=5000 slow"), stream=True))

    assert 0 < provider.sent_events - 40 * 12 - 40 * 5 < 1000
    account = next(iter(plane.accounts.values()))
    settled = sum(lease.settled for lease in plane.leases.values() if account.number in lease.budgets)
    assert 0 < settled <= 2_000_000


def _followed(gate: Gate, plane: FakeControlPlane) -> None:
    """Wait until the gate governs by what the control plane has now."""
    for _ in range(500):
        config = gate.status()["config"]
        if config is not None and config["revision"] == plane.revision:
            return
        _pause()
    raise AssertionError("the gate did not follow")


def _pause() -> None:
    import threading

    threading.Event().wait(0.01)


async def test_async_chat__whole_and_streamed__priced(aclient: Any, told: Told) -> None:
    await aclient.chat.completions.create(model=MODEL, messages=say("tokens=7"))
    stream = await aclient.chat.completions.create(model=MODEL, messages=say("tokens=5"), stream=True)
    chunks = [chunk async for chunk in stream]

    assert isinstance(aclient, openai.AsyncOpenAI)
    assert len(chunks) == 6
    sums = await asyncio.to_thread(told)
    assert (sums["calls"], sums["cost_nusd"]) == (2, cost(7) + cost(5))


async def test_async_chat__task_cancelled_in_a_stream__charged_what_came(aclient: Any, told: Told) -> None:
    began = asyncio.Event()

    async def read() -> None:
        async with await aclient.chat.completions.create(
            model=MODEL, messages=say("tokens=5000 slow"), stream=True
        ) as stream:
            async for _ in stream:
                began.set()

    task = asyncio.create_task(read())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    sums = await asyncio.to_thread(told)
    assert sums["kinds"] == {"cancelled": 1, "estimated": 1}
    assert 0 < sums["output_tokens"] < 5000


async def test_async_chat__many_at_once__each_counted_once(aclient: Any, told: Told) -> None:
    await asyncio.gather(*(aclient.chat.completions.create(model=MODEL, messages=say("tokens=2")) for _ in range(20)))

    sums = await asyncio.to_thread(told)
    assert (sums["calls"], sums["cost_nusd"]) == (20, 20 * cost(2))
