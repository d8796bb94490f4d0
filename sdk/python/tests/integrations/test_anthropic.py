"""Anthropic's own client, guarded, against a provider on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

anthropic = pytest.importorskip("anthropic")

from sdk.python.tests.integrations.conftest import Told  # noqa: E402
from sdk.python.tests.integrations.provider import CACHED, INPUT, Provider  # noqa: E402
from tidegate import Gate  # noqa: E402
from tidegate.integrations.anthropic import wrap  # noqa: E402

MODEL = "claude-sonnet-5"
WRITTEN = 4


def ask(text: str = "hello") -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": text}]}


def cost(out: int) -> int:
    return (INPUT + WRITTEN) * 3_000 + CACHED * 300 + out * 12_000


@pytest.fixture
def client(provider: Provider, gate: Gate) -> Any:
    return wrap(anthropic.Anthropic(api_key="k", base_url=provider.url), gate, tenant="acme")


@pytest.fixture
def aclient(provider: Provider, gate: Gate) -> Any:
    return wrap(anthropic.AsyncAnthropic(api_key="k", base_url=provider.url), gate, tenant="acme")


def test_messages__whole__priced_by_classes_that_are_disjoint(client: Any, told: Told) -> None:
    reply = client.messages.create(**ask("tokens=7"))

    assert reply.usage.output_tokens == 7
    sums = told()
    assert (sums["calls"], sums["input_tokens"], sums["cached_input_tokens"]) == (1, INPUT + CACHED + WRITTEN, CACHED)
    assert sums["usage"] == {"cache_write": WRITTEN}
    assert sums["cost_nusd"] == cost(7)


def test_messages__streamed__usage_of_start_and_end_together(client: Any, told: Told) -> None:
    events = list(client.messages.create(**ask("tokens=7"), stream=True))

    assert events[-1].type == "message_stop"
    assert told()["cost_nusd"] == cost(7)


def test_messages__stream_closed_early__input_and_what_came(client: Any, told: Told) -> None:
    stream = client.messages.create(**ask("tokens=500 slow"), stream=True)
    for _ in range(12):
        next(stream)
    stream.close()

    assert told()["cost_nusd"] == cost(10)


@pytest.mark.parametrize("how", ["", "chunked"])
def test_messages__connection_broken_off__input_and_what_came(client: Any, told: Told, how: str) -> None:
    noticed = pytest.raises(Exception, match="peer closed connection") if how else contextlib.nullcontext()
    with noticed:
        list(client.messages.create(**ask(f"tokens=500 cut=12 {how}"), stream=True))

    assert told()["cost_nusd"] == cost(10)


@pytest.mark.parametrize("how", ["", "chunked"])
def test_stream_helper__connection_broken_off__input_and_what_came(client: Any, told: Told, how: str) -> None:
    noticed = pytest.raises(Exception, match="peer closed connection") if how else contextlib.nullcontext()
    with noticed, client.messages.stream(**ask(f"tokens=500 cut=12 {how}")) as stream:
        list(stream)

    assert told()["cost_nusd"] == cost(10)


def test_stream_helper__events_text_and_final_message__priced(client: Any, told: Told) -> None:
    with client.messages.stream(**ask("tokens=3")) as stream:
        assert sum(event.type == "text" for event in stream) == 3
    with client.messages.stream(**ask("tokens=4")) as stream:
        assert "".join(stream.text_stream) == "wrd" * 4
    with client.messages.stream(**ask("tokens=5")) as stream:
        assert stream.get_final_message().usage.output_tokens == 5

    sums = told()
    assert (sums["calls"], sums["cost_nusd"]) == (3, cost(3) + cost(4) + cost(5))


def test_stream_helper__left_early__input_and_what_came(client: Any, told: Told) -> None:
    with client.messages.stream(**ask("tokens=500 slow")) as stream:
        for _ in range(6):
            next(stream)

    sums = told()
    assert sums["calls"] == 1
    assert cost(1) < sums["cost_nusd"] < cost(20)


def test_stream_helper__provider_fails__raised_and_counted(client: Any, provider: Provider, told: Told) -> None:
    with pytest.raises(anthropic.InternalServerError), client.messages.stream(**ask("status=500")):
        pass

    assert len(provider.requests) == 1
    assert told()["errors"] == 1


async def test_async__whole_streamed_and_helper__priced(aclient: Any, told: Told) -> None:
    await aclient.messages.create(**ask("tokens=2"))
    async for _ in await aclient.messages.create(**ask("tokens=3"), stream=True):
        pass
    async with aclient.messages.stream(**ask("tokens=4")) as stream:
        assert [text async for text in stream.text_stream] == ["wrd"] * 4

    sums = await asyncio.to_thread(told)
    assert (sums["calls"], sums["cost_nusd"]) == (3, cost(2) + cost(3) + cost(4))
