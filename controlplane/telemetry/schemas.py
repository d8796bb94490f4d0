"""Windows of calls as SDKs send them (docs/protocol.md, "Windows"), and spans as they are stored."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(max_length=64, pattern=r"^[^\x00]*$")]
LongName = Annotated[str, Meta(max_length=120, pattern=r"^[^\x00]*$")]
Packed = Annotated[list[Annotated[int, Meta(ge=0, le=2**63 - 1)]], Meta(max_length=4096)]
Kinds = Annotated[dict[Annotated[str, Meta(max_length=64, pattern=r"^[\w.:-]+$")], Count], Meta(max_length=64)]

SUMS = (
    "calls",
    "errors",
    "refused",
    "fallbacks",
    "retries",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "cost_nusd",
)
DISTRIBUTIONS = ("latency_us", "tokens", "call_cost_nusd", "queue_depth")


class WindowRow(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one tenant, route, model and category that ended in one window."""

    tenant: Name = ""
    route: Name
    model: LongName = ""
    category: Name = ""
    calls: Count = 0
    errors: Count = 0
    refused: Count = 0
    fallbacks: Count = 0
    retries: Count = 0
    input_tokens: Count = 0
    cached_input_tokens: Count = 0
    output_tokens: Count = 0
    cost_nusd: Count = 0
    kinds: Kinds = {}
    latency_us: Packed = []
    tokens: Packed = []
    call_cost_nusd: Packed = []
    queue_depth: Packed = []


class UserRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one user's calls came to in one window."""

    tenant: Name = ""
    user: LongName
    calls: Count = 0
    tokens: Count = 0
    cost_nusd: Count = 0


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One numbered window of an incarnation; ``starts_ms`` is Unix time in milliseconds."""

    number: Annotated[int, Meta(ge=1, le=2**53)]
    starts_ms: Annotated[int, Meta(ge=0, le=2**43)]
    rows: Annotated[list[WindowRow], Meta(max_length=5000)] = []
    users: Annotated[list[UserRow], Meta(max_length=5000)] = []


class SessionsRow(msgspec.Struct, frozen=True, kw_only=True):
    """How many sessions an instance has seen lately."""

    tenant: Name = ""
    route: Name
    active: Annotated[int, Meta(ge=0, le=2**31 - 1)]


class SpanRow(NamedTuple):
    """One span, in the order of the columns that ``actions.spans`` writes."""

    starts_at: datetime
    trace_id: str
    span_id: str
    parent_span_id: str
    duration_us: int
    tenant: str
    service: str
    name: str
    kind: int
    status: int
    status_message: str
    route: str
    model: str
    session: str
    user: str
    input_tokens: int | None
    output_tokens: int | None
    cost_nusd: int | None
    attributes: dict[str, Any]
    resource: dict[str, Any]
    events: list[dict[str, Any]]
