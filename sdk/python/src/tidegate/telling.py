"""What spans and errors say of a call and of how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.core.policy import Policy
from tidegate.errors import Refused
from tidegate.trace import Attributes

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


def said_of(error: BaseException | None) -> str | None:
    """Return the status of a span that ended with ``error``, ``None`` when all went well."""
    if error is None:
        return None
    return (str(error) or type(error).__name__)[:300] if isinstance(error, Refused) else type(error).__qualname__


def explained(late: TimeoutError, route: str, policy: Policy) -> TimeoutError:
    """Return the error of a call that passed its deadline, with a note that says whose it was."""
    late.add_note(f"tidegate: the call on {route} has a timeout of {policy.timeout_ms} ms.")
    return late
