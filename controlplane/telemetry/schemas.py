"""Windows of calls as SDKs send them (docs/protocol.md, "Windows"), and spans as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**53)]
Name = Annotated[str, Meta(max_length=64)]
LongName = Annotated[str, Meta(max_length=120)]
Packed = Annotated[tuple[Annotated[int, Meta(ge=0, le=2**63 - 1)], ...], Meta(max_length=4096)]
Kinds = Annotated[Mapping[Annotated[str, Meta(max_length=64, pattern=r"^[\w.:-]+$")], Count], Meta(max_length=64)]
_NONE: Mapping[str, int] = MappingProxyType({})  # one for all: an empty dict would be made anew for every row

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


class WindowRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    kinds: Kinds = _NONE
    usage: Kinds = _NONE  # of classes that the three sums of tokens don't tell apart
    latency_us: Packed = ()
    tokens: Packed = ()
    call_cost_nusd: Packed = ()
    queue_depth: Packed = ()


class UserRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one user's calls came to in one window."""

    tenant: Name = ""
    user: LongName
    calls: Count = 0
    tokens: Count = 0
    cost_nusd: Count = 0


class Window(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One numbered window of an incarnation; ``starts_ms`` is Unix time in milliseconds."""

    number: Annotated[int, Meta(ge=1, le=2**53)]
    starts_ms: Annotated[int, Meta(ge=0, le=2**43)]
    book: Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-f]*$")] = ""  # the prices that costs were reckoned by
    rows: Annotated[tuple[WindowRow, ...], Meta(max_length=5000)] = ()
    users: Annotated[tuple[UserRow, ...], Meta(max_length=5000)] = ()


class SessionsRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many sessions an instance has seen lately."""

    tenant: Name = ""
    route: Name
    active: Annotated[int, Meta(ge=0, le=2**31 - 1)]


class SpanRow(NamedTuple):
    """One span, in the order of the columns that ``actions.spans`` writes. JSON is ready made.

    ``starts_us`` counts microseconds from the year 2000, as PostgreSQL does. ``usage_by`` is who counted the usage (0 nobody,
    1 an instrumentation, 2 our SDK).
    """

    starts_us: int
    duration_us: int
    kind: int
    status: int
    usage_by: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_nusd: int | None
    ttft_us: int | None
    trace_id: str
    span_id: str
    parent_span_id: str
    tenant: str
    service: str
    scope: str
    name: str
    status_message: str
    operation: str
    provider: str
    model: str
    route: str
    release: str
    decision: str
    agent: str
    tool: str
    session: str
    user: str
    attributes: bytes
    resource: bytes
    events: bytes
    links: bytes


class MessageRow(NamedTuple):
    """What was said in a span under one name, redacted."""

    starts_us: int
    trace_id: str
    span_id: str
    name: str
    tenant: str
    content: str


class LogRow(NamedTuple):
    """One log record, in the order of the columns that ``actions.spans`` writes. ``at_us`` as in ``SpanRow``."""

    at_us: int
    severity: int
    digest: bytes
    tenant: str
    service: str
    scope: str
    event: str
    trace_id: str
    span_id: str
    body: str
    attributes: bytes
    resource: bytes
