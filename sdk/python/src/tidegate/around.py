"""Which guarded call, or what else with a span, the running code is in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from tidegate.trace import Traceparent

if TYPE_CHECKING:
    from tidegate.call import Call

current_call: ContextVar[Call | None] = ContextVar("tidegate_call", default=None)
_around: ContextVar[Traceparent | None] = ContextVar("tidegate_around", default=None)  # a span that is no call


def current() -> Call | None:
    """Return the guarded call that this code runs in."""
    return current_call.get()


def here() -> Traceparent | None:
    """Return the span that this code runs in: that of the guarded call around it, or what ``within`` says."""
    call = current_call.get()
    return _around.get() if call is None else _span_of(call)


def _span_of(call: Call) -> Traceparent:
    return Traceparent(call.trace_id, call.span_id, call.trace_flags, call.tracestate)


@contextmanager
def within(span: Traceparent) -> Iterator[None]:
    """Make calls in the block children of a span that is no call."""
    call, around = current_call.set(None), _around.set(span)
    try:
        yield
    finally:
        _around.reset(around)
        current_call.reset(call)
