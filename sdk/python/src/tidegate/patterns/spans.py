"""Spans of agents, tools and workflows, named as OpenTelemetry's conventions for generative AI name them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tidegate.around import here, within
from tidegate.client import Gate
from tidegate.errors import Refused
from tidegate.trace import RANDOM_ID, SAMPLED, Attributes, Span, Traceparent, carried

INVOKE_AGENT, EXECUTE_TOOL, INVOKE_WORKFLOW = "invoke_agent", "execute_tool", "invoke_workflow"
_NAMES = {
    INVOKE_AGENT: "gen_ai.agent.name",
    EXECUTE_TOOL: "gen_ai.tool.name",
    INVOKE_WORKFLOW: "gen_ai.workflow.name",
}


def text_of(span: Traceparent) -> str:
    """Return a span as a W3C ``traceparent``."""
    return f"00-{span.trace_id:032x}-{span.parent_id:016x}-{span.flags:02x}"


@contextmanager
def span(
    gate: Gate,
    operation: str,
    name: str,
    *,
    tenant: str | None = None,
    user: str | None = None,
    session: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Iterator[Traceparent]:
    """Make what happens in the block one span: a child of ``traceparent`` (with its ``tracestate``), or of the span around it.

    Yields the span, for ``text_of``. Calls in the block are its children. An error is written down and goes on.
    """
    tracer = gate.tracer
    parent = carried(traceparent, tracestate) or here()
    if parent is None:
        parent = Traceparent(tracer.new_trace_id(), 0, SAMPLED | RANDOM_ID)
    own = parent._replace(parent_id=tracer.new_span_id())
    attributes: Attributes = {"gen_ai.operation.name": operation, _NAMES[operation]: name}
    said = {"tidegate.tenant": tenant, "user.id": user, "session.id": session, "gen_ai.conversation.id": session}
    attributes |= {key: value for key, value in said.items() if value}
    begun, failure = time.time_ns(), None
    try:
        with within(own):
            yield own
    except BaseException as error:
        failure = str(error)[:300] if isinstance(error, Refused) else type(error).__qualname__
        attributes["error.type"] = type(error).__qualname__
        raise
    finally:
        if tracer.enabled:
            ends, label = time.time_ns(), f"{operation} {name}"
            tracer.add(Span(*own[:2], parent.parent_id, label, begun, ends, attributes, failure))
