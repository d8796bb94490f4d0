"""What spans and errors say of a call and of how it ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tidegate.core.policy import Policy
from tidegate.errors import Refused
from tidegate.trace import Attributes, Event, Span

if TYPE_CHECKING:
    from tidegate.call import Call


def attributes_of(call: Call, error: BaseException | None) -> Attributes:
    """Return what the span of a call says of it."""
    attributes: Attributes = {
        "tidegate.tenant": call.key.tenant,
        "tidegate.route": call.route,
        "tidegate.category": call.category,
        "tidegate.cost_nusd": call.total_cost,
        "tidegate.retries": max(0, call.attempts - 1),
        "gen_ai.usage.input_tokens": call.total_input,
        "gen_ai.usage.output_tokens": call.total_output,
    }
    for name, value in (("gen_ai.request.model", call.model), ("session.id", call.session), ("user.id", call.user)):
        if value:
            attributes[name] = value
    if call.assignment is not None:
        attributes["tidegate.deployment"] = call.assignment.deployment
        attributes["tidegate.release"] = call.assignment.version
        attributes["tidegate.arm"] = call.assignment.arm
    if isinstance(error, Refused):
        attributes["tidegate.refused"] = error.reason
    elif error is not None:
        attributes["error.type"] = type(error).__qualname__
    return attributes


def span_of(call: Call, error: BaseException | None, events: tuple[Event, ...]) -> Span:
    """Return the span of a call that ended now with ``error``."""
    now_ns = time.time_ns()
    if isinstance(error, Refused):
        told: Attributes = {"reason": error.reason, "blocked_by": error.blocked_by or ""}
        events = (*events, Event("tidegate.refused", now_ns, told))
    return Span(
        call.trace_id, call.span_id, call.parent_id, f"{call.route} {call.model}".rstrip(), call._begun_ns, now_ns,
        attributes_of(call, error), said_of(error), events,
    )  # fmt: skip


def attempt_of(call: Call, error: BaseException | None) -> Span:
    """Return the span of the attempt of a call that ended now with ``error``."""
    told: Attributes = {"tidegate.route": call.route, "tidegate.attempt": call.attempts}
    return Span(
        call.trace_id, call._tracer.new_span_id(), call.span_id, f"{call.route} attempt {call.attempts}", call._waited_ns,
        time.time_ns(), told, said_of(error), attempt=True,
    )  # fmt: skip


def said_of(error: BaseException | None) -> str | None:
    """Return the status of a span that ended with ``error``, ``None`` when all went well."""
    if error is None:
        return None
    return (str(error) or type(error).__name__)[:300] if isinstance(error, Refused) else type(error).__qualname__


def explained(late: TimeoutError, route: str, policy: Policy) -> TimeoutError:
    """Return the error of a call that passed its deadline, with a note that says whose it was."""
    late.add_note(f"tidegate: the call on {route} has a timeout of {policy.timeout_ms} ms.")
    return late
