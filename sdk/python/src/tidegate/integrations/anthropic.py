"""Anthropic's Python client, guarded: ``client = wrap(Anthropic(), gate, route="chat", tenant="acme")``.

``messages.create`` (whole and streamed), ``messages.stream`` and ``messages.parse`` go through the gate, sync and async. The client is of
the same class as before and shares its connections. It tries nothing again by itself: that is the policy's to say.

One request may say more of itself: ``client.messages.create(…, tidegate={"tenant": "acme", "user": "u-1"})``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar, Unpack

from tidegate.call import Call
from tidegate.client import Gate
from tidegate.describing import CallOptions
from tidegate.integrations.guarding import KEYWORD, Guarding, headers_of
from tidegate.integrations.meter import Meter
from tidegate.integrations.openai import guard_method

Client = TypeVar("Client")


def wrap(
    client: Client, gate: Gate, *, route: str = "chat", provider: str | None = None, **options: Unpack[CallOptions]
) -> Client:
    """Return a client like ``client`` (``Anthropic``, ``AsyncAnthropic``, those of Bedrock and Vertex) whose requests are guarded.

    ``provider`` is the price list's name of who answers (``aws``, ``google``), where that is not Anthropic.
    """
    guarded = client.with_options(max_retries=0)  # type: ignore[attr-defined]  # every client of the library has it
    guarding = Guarding(gate, route, options, provider)
    messages: Any = guarded.messages
    for name in ("create", "parse"):
        method = getattr(messages, name, None)
        if method is not None:
            setattr(messages, name, guard_method(guarding, method, include_usage=False))
    if hasattr(messages, "stream"):
        messages.stream = _guard_manager(guarding, messages.stream)
    return guarded  # type: ignore[no-any-return]  # of the class of the client


def _guard_manager(guarding: Guarding, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``messages.stream`` with the guard around what its manager opens."""

    @functools.wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        more = kwargs.pop(KEYWORD, None)

        def open_for(call: Call) -> Any:
            return method(*args, **{**kwargs, "extra_headers": headers_of(call, kwargs.get("extra_headers"))})

        return _Manager(guarding, open_for, kwargs, more)

    return guarded


class _Manager:
    """Opens the stream on entry, as the library's own manager does; the call ends when the block does."""

    def __init__(self, guarding: Guarding, open_for: Callable[[Call], Any], request: Any, more: Any) -> None:
        self._guarding = guarding
        self._open_for = open_for
        self._request = request
        self._more = more
        self._manager: Any = None
        self._stream: MessageStream | None = None

    def _describe(self) -> Call:
        route, options = self._guarding.described(self._request, self._more)
        return self._guarding.gate.call(route, **options)

    def __enter__(self) -> MessageStream:
        call = self._describe()
        call.admit()
        try:
            self._manager = self._open_for(call)
            self._stream = MessageStream(self._manager.__enter__(), call, self._guarding.provider)
        except BaseException as error:
            call.settle(error, last=True)
            raise
        return self._stream

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._manager.__exit__(kind, error, trace)
        finally:
            if self._stream is not None:
                self._stream.end(error)

    async def __aenter__(self) -> MessageStream:
        call = self._describe()
        await call.admit_async()
        try:
            self._manager = self._open_for(call)
            self._stream = MessageStream(await self._manager.__aenter__(), call, self._guarding.provider)
        except BaseException as error:
            call.settle(error, last=True)
            raise
        return self._stream

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._manager.__aexit__(kind, error, trace)
        finally:
            if self._stream is not None:
                self._stream.end(error)


class MessageStream:
    """The library's message stream, overheard. What is not its own is the library's (``get_final_message``, ``until_done``…)."""

    def __init__(self, raw: Any, call: Call, provider: str | None) -> None:
        self._raw = raw
        self._call = call
        self._meter = Meter(call, provider)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        event = next(self._raw)
        self._meter.event(event)
        return event

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        event = await anext(self._raw)
        self._meter.event(event)
        return event

    @property
    def text_stream(self) -> Any:
        """The pieces of text alone."""
        texts = self._raw.text_stream
        return self._texts_async(texts) if hasattr(texts, "__anext__") else self._texts(texts)

    def _texts(self, texts: Any) -> Iterator[str]:
        for text in texts:
            self._meter.text(text)
            yield text

    async def _texts_async(self, texts: Any) -> AsyncIterator[str]:
        async for text in texts:
            self._meter.text(text)
            yield text

    def end(self, error: BaseException | None) -> None:
        """The block is over: charge what the message says it used so far."""
        message = None
        with contextlib.suppress(Exception):  # nothing came of which the client could make a message
            message = self._raw.current_message_snapshot
        if message is not None:
            self._meter.snapshot(message)
            self._meter.finish(complete=error is None and message.stop_reason is not None)
        self._call.settle(error, last=True)
