"""The guard around one request of a client library: before it is sent, around its reply, along its stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from tidegate.call import Call
from tidegate.client import Gate
from tidegate.core.asking import Asked, read_request
from tidegate.describing import CallOptions
from tidegate.integrations.meter import Meter
from tidegate.integrations.otel import current_traceparent, current_tracestate, inject_missing

# The keyword argument by which one request may say more of itself: {"tenant": "acme", "route": "chat"}.
KEYWORD = "tidegate"
Keep = Callable[[Any], bool]  # whether the caller sees an event of a stream


class Guarding(NamedTuple):
    """How requests of one client are guarded."""

    gate: Gate
    route: str
    options: CallOptions
    provider: str | None = None

    def described(self, request: Mapping[str, Any], more: Mapping[str, Any] | None) -> tuple[str, CallOptions]:
        """Return the route and description of the call that a request is."""
        asked: Asked = read_request(request)
        said: dict[str, Any] = {**self.options, **(more or {})}
        route = said.pop("route", self.route)
        known: dict[str, Any] = {
            "model": asked.model,
            "input_tokens": asked.input_tokens,
            "max_output_tokens": asked.max_output_tokens,
        }
        traceparent = current_traceparent()
        if traceparent is not None:
            known["traceparent"], known["tracestate"] = traceparent, current_tracestate()
        return route, {**known, **said}  # type: ignore[typeddict-item]  # checked by the call

    # Whole replies

    def whole(self, send: Callable[[Call], Any], request: Mapping[str, Any], more: Mapping[str, Any] | None) -> Any:
        """Return ``send(call)`` with the policy of its route around it, its usage recorded."""
        route, options = self.described(request, more)

        def attempt(call: Call) -> Any:
            reply = send(call)
            Meter(call, self.provider).reply(reply)
            return reply

        return self.gate.run(route, attempt, **options)

    async def whole_async(
        self, send: Callable[[Call], Awaitable[Any]], request: Mapping[str, Any], more: Mapping[str, Any] | None
    ) -> Any:
        """The same for an event loop."""
        route, options = self.described(request, more)

        async def attempt(call: Call) -> Any:
            reply = await send(call)
            Meter(call, self.provider).reply(reply)
            return reply

        return await self.gate.arun(route, attempt, **options)

    # Streams: one attempt, whose call ends when the stream does

    def stream(
        self, send: Callable[[Call], Any], request: Mapping[str, Any], more: Mapping[str, Any] | None, keep: Keep
    ) -> Stream:
        """Return the stream that ``send(call)`` opens, guarded until its end."""
        route, options = self.described(request, more)
        call = self.gate.call(route, **options)
        call.admit()
        try:
            raw = send(call)
        except BaseException as error:
            call.settle(error, last=True)
            raise
        return Stream(raw, call, Meter(call, self.provider), keep)

    async def stream_async(
        self,
        send: Callable[[Call], Awaitable[Any]],
        request: Mapping[str, Any],
        more: Mapping[str, Any] | None,
        keep: Keep,
    ) -> AsyncStream:
        """The same for an event loop."""
        route, options = self.described(request, more)
        call = self.gate.call(route, **options)
        await call.admit_async()
        try:
            raw = await send(call)
        except BaseException as error:
            call.settle(error, last=True)
            raise
        return AsyncStream(raw, call, Meter(call, self.provider), keep)


class _Running:
    """A call that goes on for as long as a stream does. Attributes that are not its own are those of the stream."""

    def __init__(self, raw: Any, call: Call, meter: Meter, keep: Keep) -> None:
        self._raw = raw
        self._call = call
        self._meter = meter
        self._keep = keep
        self._over = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def _take(self, event: Any) -> bool:
        """Take an event; whether the caller is to see it."""
        if not self._over:
            left = self._call.timeout_s
            if left is not None and left <= 0:
                raise TimeoutError(f"tidegate: the call on {self._call.route} is over its timeout.")
            self._meter.event(event)
        return self._keep(event)

    def _end(self, error: BaseException | None) -> None:
        if not self._over:
            self._over = True
            self._meter.finish(complete=error is None)
            self._call.settle(error, last=True)

    def __del__(self) -> None:
        self._end(GeneratorExit())  # nobody read it to its end


class Stream(_Running):
    """A guarded stream: iterate over it, close it, or use it in ``with``."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            event = next(self._raw)
            while not self._take(event):
                event = next(self._raw)
        except StopIteration:
            self._end(None)
            raise
        except BaseException as error:
            self._end(error)
            self._close_raw()
            raise
        return event

    def close(self) -> None:
        """Read no more; what came is charged."""
        self._end(GeneratorExit())
        self._close_raw()

    def _close_raw(self) -> None:
        close = getattr(self._raw, "close", None)
        if callable(close):
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error or GeneratorExit())
        self._close_raw()


class AsyncStream(_Running):
    """The same for an event loop."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            event = await anext(self._raw)
            while not self._take(event):
                event = await anext(self._raw)
        except StopAsyncIteration:
            self._end(None)
            raise
        except BaseException as error:
            self._end(error)
            await self._close_raw()
            raise
        return event

    async def close(self) -> None:
        """Read no more; what came is charged."""
        self._end(GeneratorExit())
        await self._close_raw()

    async def _close_raw(self) -> None:
        close = getattr(self._raw, "close", None) or getattr(self._raw, "aclose", None)
        if callable(close):
            await close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error or GeneratorExit())
        await self._close_raw()


def headers_of(call: Call, given: Any) -> dict[str, Any]:
    """Return the headers of a request with the call's ``traceparent`` (and ``tracestate``), so that what the provider does is a child of it."""
    headers = dict(given) if isinstance(given, Mapping) else {}
    if call.trace_id:
        inject_missing(call, headers)
    return headers
