"""OpenAI's own client, guarded, against the demo's provider and against the stand-in that lies beside the checkout."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.runtime.demo.provider import Provider
from controlplane.runtime.engines import free_port, port_is_free
from tests.runtime.running import eventually
from tidegate import Gate
from tidegate.integrations.openai import wrap
from tidegate.testing import FakeControlPlane

openai = pytest.importorskip("openai")


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as made:
        yield made


@pytest.fixture
def gate(plane: FakeControlPlane) -> Iterator[Gate]:
    gate = plane.connect()
    yield gate
    gate.close()


@pytest.fixture
async def demo() -> AsyncIterator[str]:
    server = await Provider(pace=0.0).serve(0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()


@pytest.fixture
def stand_in(shared: Path) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, str(shared / "suites" / "otlp" / "fake_openai.py"), str(port)])

    def listens() -> bool:
        assert process.poll() is None
        return not port_is_free("127.0.0.1", port)

    try:
        eventually(listens)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


async def _ask(gate: Gate, url: str, text: str, **more: Any) -> None:
    client = wrap(openai.AsyncOpenAI(api_key="k", base_url=url), gate, tenant="acme")
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **more}
    await client.chat.completions.create(**asked)
    async for _ in await client.chat.completions.create(**asked, stream=True):
        pass


def _rows(plane: FakeControlPlane) -> list[dict[str, Any]]:
    return [row for window in plane.windows.values() for row in window["rows"]]


async def test_demo_provider__whole_and_streamed__counted_and_priced(
    gate: Gate, plane: FakeControlPlane, demo: str
) -> None:
    await _ask(gate, demo, "one two three", extra_body={"metadata": {"output_tokens": 40}})
    await asyncio.to_thread(gate.close)

    rows = _rows(plane)
    assert sum(row["calls"] for row in rows) == 2
    assert sum(row["input_tokens"] for row in rows) == 6
    assert sum(row["output_tokens"] for row in rows) == 80
    assert sum(row["cost_nusd"] for row in rows) == 6 * 150 + 80 * 600


async def test_stand_in__whole_and_streamed__counted_and_priced(
    gate: Gate, plane: FakeControlPlane, stand_in: str
) -> None:
    await _ask(gate, stand_in, "#in=400,out=50")
    await asyncio.to_thread(gate.close)

    rows = _rows(plane)
    assert sum(row["input_tokens"] for row in rows) == 800
    assert sum(row["cached_input_tokens"] for row in rows) == 200
    assert sum(row["cost_nusd"] for row in rows) == 600 * 150 + 200 * 75 + 100 * 600
