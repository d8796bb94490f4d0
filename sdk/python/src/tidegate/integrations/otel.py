"""OpenTelemetry and guarded calls in one trace: calls continue the span around them, and are the parent of spans inside them.

Nothing is needed that is not there: without the package ``opentelemetry-api`` there is no span around a call. Propagation is that of
W3C Trace Context, level 2.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from tidegate.call import Call
from tidegate.trace import parse_traceparent


def current_traceparent() -> str | None:
    """Return the ``traceparent`` of OpenTelemetry's current span, to continue with ``gate.call(…, traceparent=…)``."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 0x03:02x}"


def tracestate_of(call: Call) -> str | None:
    """Return the ``tracestate`` to send beside the call's ``traceparent``: that of OpenTelemetry's current span, unchanged, when the
    call is of its trace."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    context = api.get_current_span().get_span_context()
    if not context.is_valid or context.trace_id != call.trace_id:
        return None
    state: str = context.trace_state.to_header()
    return state or None


def extract(headers: Mapping[str, str]) -> str | None:
    """Return the ``traceparent`` of an incoming request's headers, whatever their case, when it is a valid one."""
    for name, value in headers.items():
        if name.lower() == "traceparent" and parse_traceparent(value) is not None:
            return value.strip()
    return None


def inject(call: Call, headers: MutableMapping[str, str]) -> None:
    """Put the ``traceparent`` of a call into the headers of a request that it makes, with the ``tracestate`` of its trace."""
    if not call.trace_id:
        return
    headers["traceparent"] = call.traceparent
    state = tracestate_of(call)
    if state is not None:
        headers["tracestate"] = state


def inject_missing(call: Call, headers: MutableMapping[str, str]) -> None:
    """The same where the request does not say its trace itself."""
    if not any(name.lower() == "traceparent" for name in headers):
        inject(call, headers)


@contextlib.contextmanager
def attached(call: Call) -> Iterator[None]:
    """Have spans that OpenTelemetry starts in the block be children of ``call``. Needs ``opentelemetry-api``."""
    from opentelemetry import context, trace

    around = trace.get_current_span().get_span_context()
    flags = trace.TraceFlags(call.trace_flags)
    state: Any = around.trace_state if around.is_valid else None
    own = trace.SpanContext(call.trace_id, call.span_id, is_remote=False, trace_flags=flags, trace_state=state)
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(own)))
    try:
        yield
    finally:
        context.detach(token)
