"""Requests of httpx, guarded by its transport."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

httpx = pytest.importorskip("httpx")

from sdk.python.tests.integrations.conftest import Told  # noqa: E402
from sdk.python.tests.integrations.provider import CACHED, INPUT, REASONING, Provider  # noqa: E402
from tidegate import Gate, RateLimited  # noqa: E402
from tidegate.integrations.httpx import AsyncTransport, Transport  # noqa: E402
from tidegate.testing import FakeControlPlane  # noqa: E402

MODEL = "gpt-4o-mini"


def chat(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def cost(out: int, each: int = 1_000) -> int:
    return (INPUT - CACHED) * each + CACHED * each // 10 + out * 4 * each


@pytest.fixture
def client(provider: Provider, gate: Gate) -> Iterator[Any]:
    transport = Transport(httpx.HTTPTransport(), gate, route="chat", tenant="acme")
    with httpx.Client(transport=transport, base_url=provider.url) as made:
        yield made


@pytest.mark.parametrize("how", ["", "gzip"])
def test_request__to_a_model__priced_and_the_reply_untouched(client: Any, told: Told, how: str) -> None:
    reply = client.post("/v1/chat/completions", json=chat(f"tokens=7 {how}"))

    assert reply.json()["usage"]["completion_tokens"] == 7
    sums = told()
    assert (sums["calls"], sums["cost_nusd"], sums["models"]) == (1, cost(7), {MODEL})


def test_request__stream__priced_by_what_it_says_at_its_end(client: Any, told: Told) -> None:
    body = chat("tokens=7", stream=True, stream_options={"include_usage": True})
    with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        lines = [line for line in reply.iter_lines() if line]

    assert lines[-1] == "data: [DONE]"
    assert told()["cost_nusd"] == cost(7)


def test_request__stream_left_early__charged_what_came(client: Any, told: Told) -> None:
    with client.stream("POST", "/v1/chat/completions", json=chat("tokens=500 slow", stream=True)) as reply:
        lines = reply.iter_lines()
        for _ in range(20):
            next(lines)

    sums = told()
    assert sums["kinds"] == {"cancelled": 1, "estimated": 1}
    assert 0 < sums["output_tokens"] < 100


def test_request__model_in_the_path__found(client: Any, told: Told) -> None:
    client.post("/v1beta/models/gemini-2.5-pro:generateContent", json={"contents": [{"parts": [{"text": "tokens=7"}]}]})

    sums = told()
    assert sums["models"] == {"gemini-2.5-pro"}
    assert sums["cost_nusd"] == cost(7 + REASONING, 2_000)


def test_request__that_fails__the_error_counted_and_nothing_charged(client: Any, told: Told) -> None:
    assert client.post("/v1/chat/completions", json=chat("status=429")).status_code == 429

    sums = told()
    assert (sums["errors"], sums["cost_nusd"], sums["kinds"]) == (1, 0, {"error.rate_limited": 1})


@pytest.mark.parametrize("send", [{"content": b"no json"}, {"json": {"no": "model"}}, {"json": [1]}])
def test_request__not_to_a_model__passes_unseen(
    client: Any, provider: Provider, told: Told, send: dict[str, Any]
) -> None:
    del provider
    with pytest.raises(httpx.HTTPError):
        client.post("http://127.0.0.1:9/somewhere", **send)

    assert "calls" not in told()


def test_request__refused__not_sent(client: Any, provider: Provider, plane: FakeControlPlane, gate: Gate) -> None:
    plane.put_policy({"limits": [{"unit": "requests", "amount": 1, "per_s": 3600, "scope": "instance"}]})
    for _ in range(500):
        config = gate.status()["config"]
        if config is not None and config["revision"] == plane.revision:
            break
        asyncio.run(asyncio.sleep(0.01))
    client.post("/v1/chat/completions", json=chat())

    with pytest.raises(RateLimited):
        client.post("/v1/chat/completions", json=chat())

    assert len(provider.requests) == 1
    assert provider.headers[0]["traceparent"].startswith("00-")


async def test_request__async__priced(provider: Provider, gate: Gate, told: Told) -> None:
    transport = AsyncTransport(httpx.AsyncHTTPTransport(), gate, tenant="acme")
    async with httpx.AsyncClient(transport=transport, base_url=provider.url) as client:
        await client.post("/v1/chat/completions", json=chat("tokens=2"))
        body = chat("tokens=3", stream=True, stream_options={"include_usage": True})
        async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            assert [line async for line in reply.aiter_lines()]

    sums = await asyncio.to_thread(told)
    assert (sums["calls"], sums["cost_nusd"]) == (2, cost(2) + cost(3))
