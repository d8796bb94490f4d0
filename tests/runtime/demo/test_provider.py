"""The demo's provider, over real connections on loopback."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controlplane.runtime.demo import wire
from controlplane.runtime.demo.provider import Asked, Provider

PATH = "/v1/chat/completions"


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[int]:
    server = await Provider(pace=0.0, chance=random.Random(7)).serve(0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(port: int, method: str, path: str, document: Any) -> tuple[int, Any]:
    async with wire.exchange("127.0.0.1", port, method, path, document) as reply:
        return reply.status, await reply.document()


def completion(**extra: Any) -> dict[str, Any]:
    return {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "three little words"}],
        "metadata": {"output_tokens": "40"},
        **extra,
    }


async def test_completion__whole__answers_with_usage() -> None:
    async with provider() as port:
        status, answer = await ask(port, "POST", PATH, completion())

    assert status == 200
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 40,
        "total_tokens": 43,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert len(answer["choices"][0]["message"]["content"].split()) == 40


def test_usage__a_long_prompt__is_partly_cached_in_steps() -> None:
    asked = Asked.parse({"model": "m", "messages": [{"role": "user", "content": "word " * 2000}]})

    assert asked.usage(0.5)["prompt_tokens_details"] == {"cached_tokens": 896}


async def test_completion__max_tokens_below_the_answer__is_cut() -> None:
    async with provider() as port:
        _, answer = await ask(port, "POST", PATH, completion(max_tokens=11))

    assert answer["usage"]["completion_tokens"] == 11


async def test_completion__streamed__sends_tokens_then_usage_then_done() -> None:
    async with provider() as port, wire.exchange("127.0.0.1", port, "POST", PATH, completion(stream=True)) as reply:
        events = [data async for data in reply.events()]

    chunks = [json.loads(data) for data in events[:-1]]
    words = "".join(one["choices"][0]["delta"]["content"] for one in chunks if one["choices"]).split()
    assert len(words) == 40
    assert chunks[-1]["usage"]["total_tokens"] == 43
    assert events[-1] == "[DONE]"


async def test_faults__set_for_one_model__fail_it_and_no_other() -> None:
    fault = {"gpt-4o-mini": {"error_rate": 1.0, "status": 503, "slowness": 2.0}}

    async with provider() as port:
        await ask(port, "PUT", "/admin/faults", fault)
        failing, _ = await ask(port, "POST", PATH, completion())
        well, _ = await ask(port, "POST", PATH, completion(model="gpt-4o"))
        _, kept = await ask(port, "GET", "/admin/faults", None)
        await ask(port, "PUT", "/admin/faults", {})
        healed, _ = await ask(port, "POST", PATH, completion())

    assert (failing, well, healed) == (503, 200, 200)
    assert kept == fault


@pytest.mark.parametrize(
    ("method", "path", "document", "status"),
    [
        ("POST", PATH, {"messages": []}, 400),
        ("POST", PATH, {"model": "gpt-4o", "messages": "hello"}, 400),
        ("POST", PATH, completion(metadata={"output_tokens": "many"}), 400),
        ("PUT", "/admin/faults", {"gpt-4o": {"error_rate": 2}}, 400),
        ("PUT", "/admin/faults", {"gpt-4o": {"colour": "red"}}, 400),
        ("POST", "/v1/embeddings", {}, 404),
    ],
)
async def test_provider__request_that_makes_no_sense__is_told_so(
    method: str, path: str, document: Any, status: int
) -> None:
    async with provider() as port:
        answered, body = await ask(port, method, path, document)

    assert answered == status
    assert body["error"]["message"]
