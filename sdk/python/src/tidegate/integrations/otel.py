"""OpenTelemetry and guarded calls in one trace: calls continue the span around them, and are the parent of spans inside them.

Nothing is needed that is not there: without the package ``opentelemetry-api`` there is no span around a call. Propagation is that of
W3C Trace Context, level 2.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypedDict

from tidegate.call import Call
from tidegate.trace import parse_traceparent, sound_tracestate


def current_traceparent() -> str | None:
    """Return the ``traceparent`` of OpenTelemetry's current span, to continue with ``gate.call(…, traceparent=…)``."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 0x03:02x}"


def current_tracestate() -> str | None:
    """Return the ``tracestate`` of OpenTelemetry's current span, to continue with ``gate.call(…, traceparent=…, tracestate=…)``."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    context = api.get_current_span().get_span_context()
    return (context.trace_state.to_header() or None) if context.is_valid else None


def tracestate_of(call: Call) -> str | None:
    """Return the ``tracestate`` to send beside the call's ``traceparent``: that of OpenTelemetry's current span, unchanged, when the
    call is of its trace; else the one that came with it."""
    api = sys.modules.get("opentelemetry.trace")
    if api is not None and api.get_current_span().get_span_context().trace_id == call.trace_id:
        return current_tracestate()
    return call.tracestate or None


class Trace(TypedDict, total=False):
    """What ``gate.call(…)`` continues."""

    traceparent: str
    tracestate: str


def continued(headers: Mapping[str, str]) -> Trace:
    """Return what continues the trace of an incoming request: ``gate.call(…, **continued(request.headers))``.

    Headers are found whatever their case. Empty without a valid ``traceparent``; a ``tracestate`` that is not valid is left out.
    """
    traceparent = extract(headers)
    if traceparent is None:
        return {}
    states = [value for name, value in headers.items() if name.lower() == "tracestate"]
    state = sound_tracestate(",".join(states))
    return {"traceparent": traceparent, "tracestate": state} if state else {"traceparent": traceparent}


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
    of_it = around.is_valid and around.trace_id == call.trace_id
    state: Any = around.trace_state if of_it else trace.TraceState.from_header([call.tracestate])
    own = trace.SpanContext(call.trace_id, call.span_id, is_remote=False, trace_flags=flags, trace_state=state)
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(own)))
    try:
        yield
    finally:
        context.detach(token)
