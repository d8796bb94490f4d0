"""A provider that speaks OpenAI's chat completions on loopback and invents its answers: whole or streamed, slow, or failing.

    POST /v1/chat/completions    model, messages, max_tokens, stream, metadata.output_tokens (how long the answer
                                 is), metadata.failing (the chance of an error)
    GET  /v1/models
    GET, PUT /admin/faults       {"<model or *>": {"error_rate": 0.7, "status": 503, "slowness": 3.0}}

A word counts as a token. Run as ``python -m controlplane.runtime.demo.provider PORT``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from controlplane.runtime.demo import wire

DEFAULT_OUTPUT_TOKENS = 129
CACHED_FROM, CACHE_STEP = 1_024, 128
FIRST_TOKEN_S, TOKENS_PER_S, CHUNK_S = 0.25, 180.0, 0.15


@dataclass(frozen=True)
class Fault:
    """How a model misbehaves: the share of calls that fail and with which status, and how many times slower the others are."""

    error_rate: float = 0.0
    status: int = 503
    slowness: float = 1.0

    @classmethod
    def parse(cls, document: Any) -> Fault:
        """Return a checked fault; ``ValueError`` says what is wrong."""
        if not isinstance(document, dict) or set(document) - {"error_rate", "status", "slowness"}:
            raise ValueError("a fault has error_rate, status and slowness")
        fault = cls(**document)
        HTTPStatus(fault.status)
        if not 0 <= fault.error_rate <= 1 or fault.status < 400 or not 0.1 <= fault.slowness <= 100:
            raise ValueError("error_rate is 0 to 1, status at least 400, slowness 0.1 to 100")
        return fault


@dataclass(frozen=True)
class Asked:
    """A checked request for a completion."""

    model: str
    input_tokens: int
    output_tokens: int
    stream: bool
    failing: float = 0.0  # the chance that the answer is an error

    @classmethod
    def parse(cls, document: Any) -> Asked:
        """Return what was asked for; ``ValueError`` says what is wrong."""
        if not isinstance(document, dict) or not isinstance(document.get("model"), str):
            raise ValueError("model is missing")
        messages = document.get("messages")
        if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
            raise ValueError("messages must be a list of objects")
        metadata = document.get("metadata") or {}
        wanted = int(metadata.get("output_tokens", DEFAULT_OUTPUT_TOKENS))
        allowed = int(document.get("max_completion_tokens") or document.get("max_tokens") or wanted)
        words = sum(len(str(one.get("content", "")).split()) for one in messages)
        return cls(
            document["model"],
            words,
            max(0, min(wanted, allowed)),
            bool(document.get("stream")),
            float(metadata.get("failing", 0.0)),
        )

    def usage(self, cached_part: float) -> dict[str, Any]:
        """Return the usage with that part of the prompt read from a cache: long prompts only, in steps, as OpenAI does."""
        cached = int(self.input_tokens * cached_part) // CACHE_STEP * CACHE_STEP
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": cached if self.input_tokens >= CACHED_FROM else 0},
        }


@dataclass
class Provider:
    """One server. ``pace`` scales all waiting; tests set 0."""

    pace: float = 1.0
    faults: dict[str, Fault] = field(default_factory=dict)
    chance: random.Random = field(default_factory=random.Random)

    async def serve(self, port: int) -> asyncio.Server:
        """Listen on loopback; 0 for any free port."""
        return await asyncio.start_server(self._connection, "127.0.0.1", port)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, wire.Malformed):
            head = await wire.read_head(reader)
            if head is not None:
                body = await wire.read_body(reader, head.headers)
                async for part in self._answer(head.start[0], head.start[1], body):
                    writer.write(part)
                    await writer.drain()
        writer.close()

    async def _answer(self, method: str, path: str, body: bytes) -> AsyncIterator[bytes]:
        try:
            document = json.loads(body) if body else None
            if (method, path) == ("POST", "/v1/chat/completions"):
                async for part in self._complete(Asked.parse(document)):
                    yield part
            elif (method, path) == ("GET", "/v1/models"):
                yield wire.as_json(200, "OK", {"object": "list", "data": []})
            elif path == "/admin/faults" and method in ("GET", "PUT"):
                if method == "PUT":
                    self.faults = {model: Fault.parse(one) for model, one in (document or {}).items()}
                yield wire.as_json(200, "OK", {model: vars(fault) for model, fault in self.faults.items()})
            else:
                yield _error(404, f"there is no {method} {path}")
        except (ValueError, TypeError, AttributeError) as error:
            yield _error(400, str(error))

    async def _complete(self, asked: Asked) -> AsyncIterator[bytes]:
        fault = self.faults.get(asked.model) or self.faults.get("*") or Fault()
        await self._wait(FIRST_TOKEN_S * self.chance.lognormvariate(0, 0.4) * fault.slowness)
        if self.chance.random() < max(fault.error_rate, asked.failing):
            yield _error(fault.status, "the demo provider is browning out")
            return
        usage = asked.usage(self.chance.random())
        about = {
            "id": f"chatcmpl-{self.chance.getrandbits(64):016x}",
            "created": int(time.time()),
            "model": asked.model,
        }
        if asked.stream:
            async for part in self._stream(asked, about, usage, fault):
                yield part
            return
        await self._wait(asked.output_tokens / TOKENS_PER_S * fault.slowness)
        message = {"role": "assistant", "content": " ".join(["word"] * asked.output_tokens)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        yield wire.as_json(200, "OK", {**about, "object": "chat.completion", "choices": [choice], "usage": usage})

    async def _stream(
        self, asked: Asked, about: dict[str, Any], usage: dict[str, Any], fault: Fault
    ) -> AsyncIterator[bytes]:
        """Yield server-sent events, a few tokens each, then the usage, then the end; the connection closes after it."""
        yield wire.render("HTTP/1.1 200 OK", {"content-type": "text/event-stream", "connection": "close"})
        per_chunk = max(1, round(TOKENS_PER_S * CHUNK_S))
        for done in range(0, asked.output_tokens, per_chunk):
            words = "word " * min(per_chunk, asked.output_tokens - done)
            yield _event(
                {**about, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": words}}]}
            )
            await self._wait(CHUNK_S * fault.slowness)
        yield _event({**about, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.pace)


def _event(document: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(document)}\n\n".encode()


def _error(status: int, message: str) -> bytes:
    return wire.as_json(status, HTTPStatus(status).phrase, {"error": {"message": message, "type": "server_error"}})


async def _main(port: int) -> None:
    server = await Provider().serve(port)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(int(sys.argv[1])))
