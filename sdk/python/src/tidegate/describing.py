"""What may be said of a call, and whether it can be true."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TypedDict

from tidegate.core.price import parse_usd
from tidegate.wire import clean

MAX_TOKENS = 10**9

_SCIENTIFIC = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?[eE][-+]?[0-9]{1,3}", re.ASCII)  # as str() writes small floats

Usd = str | int | float | Decimal


class CallOptions(TypedDict, total=False):
    """What may be said of a call. Token counts are upper bounds as far as they are known; ``cost_usd`` bounds the cost itself.

    ``target`` names whom the call depends on (a provider, a deployment, a region) where that is not the same for all of the route;
    ``credential`` names the account that is used there. Breakers are kept by target and model; what is the fault of a credential
    alone is kept by credential, each tenant's being its own when none is named.

    ``priority``: higher goes first; one level is worth a second of waiting. ``traceparent`` continues a W3C trace,
    with the ``tracestate`` that came beside it.
    """

    tenant: str | None
    user: str | None
    session: str | None
    category: str | None
    model: str | None
    target: str | None
    credential: str | None
    input_tokens: int | None
    max_output_tokens: int | None
    cost_usd: Usd | None
    priority: int
    traceparent: str | None
    tracestate: str | None


def nusd_of(value: Usd) -> int:
    """Return dollars as nano-USD, fractions of one rounded half up; ``ValueError`` says what is wrong."""
    if isinstance(value, str) and _SCIENTIFIC.fullmatch(value.strip()) is None:
        return parse_usd(value)
    try:
        exact = Decimal(str(value).strip()).quantize(Decimal("1e-9"))
    except InvalidOperation:
        raise ValueError(f"{value!r} is not an amount of dollars.") from None
    return parse_usd(f"{exact:f}")


def text_of(value: str | None, name: str, most: int = 120) -> str:
    """Return text without what must not be in it, "" for none; ``ValueError`` when it is no text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name} is text, got {type(value).__name__}.")
    return clean(value, most)


def count_of(value: int | None, name: str) -> int | None:
    """Return a count of tokens; ``ValueError`` when it is none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        raise ValueError(f"{name} is a whole number from 0 to {MAX_TOKENS:,}, got {value!r}.")
    return value
