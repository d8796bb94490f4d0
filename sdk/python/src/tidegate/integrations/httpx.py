"""A transport for httpx (and httpx2) that guards what is sent through it: for clients of which no other integration knows.

    client = httpx.Client(transport=Transport(httpx.HTTPTransport(), gate, route="chat", tenant="acme"))

Requests to a model (POST of a JSON object that names its model, in the body or in the path) go through the gate; others just pass. Usage is
read from the reply as the provider says it, or from the pieces of its stream. Nothing is tried again: whoever called has the policy's
retries with ``gate.run``. A refusal is raised as it is, ``tidegate.Refused``.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Unpack

from tidegate.call import Call
from tidegate.client import Gate
from tidegate.describing import CallOptions
from tidegate.integrations.guarding import Guarding
from tidegate.integrations.meter import Meter
from tidegate.integrations.otel import inject_missing

MAX_LINE = 1 << 22
MAX_REPLY = 1 << 25
_IN_PATH = re.compile(r"/(?:models?|deployments)/([^/:]+)")  # Gemini's, Bedrock's, Azure's


class _Guarded:
    def __init__(
        self,
        inner: Any,
        gate: Gate,
        *,
        route: str = "chat",
        provider: str | None = None,
        **options: Unpack[CallOptions],
    ) -> None:
        """Guard what ``inner``, a transport, sends. ``provider`` is the price list's name of who answers, if not the model's maker."""
        self._inner = inner
        self._guarding = Guarding(gate, route, options, provider)

    def _call_for(self, request: Any) -> Call | None:
        """Return the call that a request is, ``None`` when it is none."""
        body = _object_in(request) if request.method == "POST" else None
        if body is None:
            return None
        if not isinstance(body.get("model"), str):
            found = _IN_PATH.search(request.url.path)
            if found is None:
                return None
            body = {**body, "model": found[1]}
        route, options = self._guarding.described(body, None)
        return self._guarding.gate.call(route, **options)

    def _listen(self, response: Any, call: Call) -> Meter | None:
        """Return what reads the reply as it passes; end the call when there is nothing to read."""
        if response.status_code >= 400:
            call.settle(_Failed(response.status_code, response.headers), last=True)
            return None
        return Meter(call, self._guarding.provider)

    def _with_stream(self, response: Any, stream: Any) -> Any:
        return type(response)(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )


class Transport(_Guarded):
    """For ``httpx.Client``."""

    def handle_request(self, request: Any) -> Any:
        """Send one request, guarded when it is one to a model."""
        call = self._call_for(request)
        if call is None:
            return self._inner.handle_request(request)
        call.admit()
        try:
            _prepare(request, call)
            response = self._inner.handle_request(request)
        except BaseException as error:
            call.settle(error, last=True)
            raise
        meter = self._listen(response, call)
        if meter is None:
            return response
        base = _base(request, "SyncByteStream")
        kind: Callable[..., Any] = type("GuardedBytes", (_Bytes, base), {})
        return self._with_stream(response, kind(response, call, meter))

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Transport:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)


class AsyncTransport(_Guarded):
    """For ``httpx.AsyncClient``."""

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request, guarded when it is one to a model."""
        call = self._call_for(request)
        if call is None:
            return await self._inner.handle_async_request(request)
        await call.admit_async()
        try:
            _prepare(request, call)
            response = await self._inner.handle_async_request(request)
        except BaseException as error:
            call.settle(error, last=True)
            raise
        meter = self._listen(response, call)
        if meter is None:
            return response
        base = _base(request, "AsyncByteStream")
        kind: Callable[..., Any] = type("GuardedBytes", (_AsyncBytes, base), {})
        return self._with_stream(response, kind(response, call, meter))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> AsyncTransport:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)


class _Failed(Exception):
    """A reply that says that the request failed, read by its status (``core.outcome``)."""

    def __init__(self, status_code: int, headers: Any) -> None:
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code
        self.response = self
        self.headers = headers


def _object_in(request: Any) -> dict[str, Any] | None:
    try:
        body = json.loads(request.content)
    except (RuntimeError, ValueError):  # a stream that was not read, no JSON, another encoding: no request to a model
        return None
    return body if isinstance(body, dict) else None


def _prepare(request: Any, call: Call) -> None:
    """Say which trace the request is of, and ask for encodings that can be listened to."""
    if "accept-encoding" in request.headers:
        request.headers["accept-encoding"] = "gzip, deflate"
    inject_missing(call, request.headers)


def _base(request: Any, name: str) -> type:
    """Return the base class of streams of the library that a request is of."""
    found: type = getattr(sys.modules[type(request).__module__.partition(".")[0]], name)
    return found


class _Ear:
    """Reads a reply while it passes: server-sent events line by line, anything else as one JSON document at the end."""

    def __init__(self, response: Any, meter: Meter) -> None:
        self._meter = meter
        self._streams = "event-stream" in response.headers.get("content-type", "")
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32) if coding in ("gzip", "deflate") else None
        self._deaf = self._decoder is None and coding not in ("", "identity")
        self._rest = b""

    def hear(self, piece: bytes) -> None:
        """Take some bytes; raises ``BudgetExhausted`` when the call is to be cut."""
        self._deaf = self._deaf or len(self._rest) > (MAX_LINE if self._streams else MAX_REPLY)
        if self._deaf:
            return  # nothing is known then, and the call is presumed to have cost all it may
        self._rest += self._decoded(piece)
        if self._streams:
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    event = _json(line[5:])
                    if isinstance(event, dict):
                        self._meter.event(event)

    def _decoded(self, piece: bytes) -> bytes:
        if self._decoder is None:
            return piece
        try:
            return self._decoder.decompress(piece)
        except zlib.error:
            self._deaf = True
            return b""

    def over(self, *, complete: bool) -> None:
        if self._streams:
            self._meter.finish(complete=complete)
        elif complete and not self._deaf:
            self._meter.reply(_json(self._rest))


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


class _Passing:
    def __init__(self, response: Any, call: Call, meter: Meter) -> None:
        self._inner = response.stream
        self._call = call
        self._ear = _Ear(response, meter)
        self._over = False

    def _end(self, error: BaseException | None) -> None:
        if not self._over:
            self._over = True
            self._ear.over(complete=error is None)
            self._call.settle(error, last=True)


class _Bytes(_Passing):
    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._inner:
                self._ear.hear(piece)
                yield piece
        except BaseException as error:
            self._end(error)
            raise
        self._end(None)

    def close(self) -> None:
        self._end(GeneratorExit())
        self._inner.close()


class _AsyncBytes(_Passing):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._inner:
                self._ear.hear(piece)
                yield piece
        except BaseException as error:
            self._end(error)
            raise
        self._end(None)

    async def aclose(self) -> None:
        self._end(GeneratorExit())
        await self._inner.aclose()
