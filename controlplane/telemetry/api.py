"""Management API: usage and traces."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema, Status

from controlplane.paging import limited
from controlplane.problems import Invalid
from controlplane.telemetry import exporting, exports
from controlplane.telemetry.actions import capture
from controlplane.telemetry.queries.captures import capture_of
from controlplane.telemetry.queries.daily import usage
from controlplane.telemetry.queries.explore import Question
from controlplane.telemetry.queries.traces import trace_seen_by, trace_slots, traces_seen_by
from controlplane.telemetry.sampled import margin
from controlplane.telemetry.store import TraceFilter
from controlplane.tenancy.bearer import asker
from controlplane.tenancy.queries import tenant_seen_by

router = Router(tags=["telemetry"])
MOST_STEPS = 1000
_FILES = {"responses": {200: {"description": "A file", "content": {kind: {} for kind in exporting.TYPES.values()}}}}


class UsageOut(Schema):
    name: str
    calls: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_nusd: int


class UsageList(Schema):
    items: list[UsageOut]


class TraceOut(Schema):
    trace_id: str
    starts_at: datetime
    duration_us: int
    tenant: str
    service: str
    name: str
    rootless: bool
    session: str
    user: str
    route: str
    model: str
    release: str
    spans: int
    errors: int
    tokens: int
    cost_nusd: int


class TracePage(Schema):
    items: list[TraceOut]
    next: str | None


class SlotOut(Schema):
    at: datetime
    traces: int
    errors: int


class SlotList(Schema):
    """``one_in`` is 1 when traces are counted. Else they are estimated from one in so many; ``margin`` is how far off ``total`` may be.

    In 95 of 100 cases the truth lies within it; when none of the sample fits, it is how many may have been missed.
    """

    items: list[SlotOut]
    step_s: int
    total: int
    one_in: int
    margin: int


class SpanOut(Schema):
    trace_id: str
    span_id: str
    parent_span_id: str
    starts_at: datetime
    duration_us: int
    tenant: str
    service: str
    name: str
    kind: int
    status: int
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
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_nusd: int | None
    ttft_us: int | None
    attributes: dict[str, Any]
    resource: dict[str, Any]
    events: list[Any]
    links: list[Any]


class SpanList(Schema):
    items: list[SpanOut]


class CaptureIn(Schema):
    """``redact``: regular expressions of what is masked, beside credentials, mail addresses and card numbers, which always are."""

    keeps: bool
    redact: list[str] = Field(default_factory=list)


class CaptureOut(Schema):
    """``source`` is the tenant that says so, empty for the installation; ``own``: it is said here."""

    keeps: bool
    redact: list[str]
    source: str
    own: bool


@router.get("/capture", response=CaptureOut)
def get_capture(request: HttpRequest) -> Any:
    """Whether prompts and replies are kept where no tenant says otherwise."""
    asker(request)
    return capture_of(None)


@router.put("/capture", response=CaptureOut)
def put_capture(request: HttpRequest, body: CaptureIn) -> Any:
    """Keep prompts and replies of all tenants that don't say otherwise, or don't."""
    capture.put_capture(by=asker(request), tenant=None, keeps=body.keeps, redact=body.redact)
    return capture_of(None)


@router.get("/tenants/{slug}/capture", response=CaptureOut)
def get_tenant_capture(request: HttpRequest, slug: str) -> Any:
    """Whether prompts and replies of a tenant are kept."""
    return capture_of(tenant_seen_by(asker(request), slug))


@router.put("/tenants/{slug}/capture", response=CaptureOut)
def put_tenant_capture(request: HttpRequest, slug: str, body: CaptureIn) -> Any:
    """Keep prompts and replies of a tenant and those below it, or don't. What was kept before stays until its time is over."""
    who = asker(request)
    tenant = tenant_seen_by(who, slug)
    capture.put_capture(by=who, tenant=tenant, keeps=body.keeps, redact=body.redact)
    return capture_of(tenant)


@router.delete("/tenants/{slug}/capture", response={204: None})
def drop_tenant_capture(request: HttpRequest, slug: str) -> Any:
    """Let what is said further up hold again."""
    who = asker(request)
    capture.drop_capture(by=who, tenant=tenant_seen_by(who, slug))
    return Status(204, None)


@router.get("/usage/", response=UsageList)
def get_usage(
    request: HttpRequest,
    by: Literal["tenant", "route", "model", "category", "user"] = "tenant",
    tenant: str | None = None,
    days: int = 30,
) -> Any:
    """Calls, tokens and cost of the last UTC days, today included, by one of tenant, route, model, category, user."""
    if not 1 <= days <= 400:
        raise Invalid("The range can't be that long.", errors={"days": "must be from 1 to 400"})
    return {"items": usage(asker(request), by=by, tenant=tenant, days=days)}


class TraceSelection(Schema):
    """Which traces are meant. ``attribute`` is ``key=value``; what no root tells may match any span of a trace."""

    tenant: str = ""
    route: str = ""
    model: str = ""
    status: Literal["", "ok", "error"] = ""
    text: str = ""
    trace_id: str = ""
    release: str = ""
    service: str = ""
    session: str = ""
    user: str = ""
    agent: str = ""
    tool: str = ""
    operation: str = ""
    attribute: str = ""
    min_ms: str = ""
    max_ms: str = ""
    min_tokens: str = ""
    min_usd: str = ""

    @property
    def wanted(self) -> TraceFilter:
        return TraceFilter(**self.dict())


@router.get("/traces/", response=TracePage)
def list_traces(
    request: HttpRequest, selection: Query[TraceSelection], hours: int = 24, cursor: str = "", limit: int = 50
) -> Any:
    """Traces, the newest first."""
    since = timezone.now() - timedelta(hours=max(1, min(hours, 24 * 90)))
    try:
        found = traces_seen_by(asker(request), selection.wanted, since, cursor, limited(limit) + 1)
    except ValueError:
        raise Invalid("Pass the cursor as it was given.", errors={"cursor": "is not one of ours"}) from None
    more = len(found) > limit
    return {"items": found[:limit], "next": found[limit - 1].cursor if more else None}


@router.get("/traces/histogram", response=SlotList)
def get_trace_histogram(
    request: HttpRequest, selection: Query[TraceSelection], since: datetime, until: datetime, step_s: int
) -> Any:
    """How many traces began in each step of time. Of many that have to be looked at one by one it is an estimate, and says so."""
    since, until = _aware(since), _aware(until)
    if step_s < 1 or not 0 < (until - since).total_seconds() <= MOST_STEPS * step_s:
        raise Invalid(
            f"Ask for 1 to {MOST_STEPS} steps of whole seconds.",
            errors={"step_s": "does not divide the time into so many"},
        )
    found = trace_slots(asker(request), selection.wanted, since, until, step_s)
    off = margin(found.total, found.one_in)
    return {"items": found.steps, "step_s": step_s, "total": found.total, "one_in": found.one_in, "margin": off}


@router.get("/traces/export", openapi_extra=_FILES)
def export_spans(
    request: HttpRequest,
    selection: Query[TraceSelection],
    since: datetime,
    until: datetime,
    format: exporting.Format = "csv",  # noqa: A002 - the name of the parameter
) -> Any:
    """The spans, all columns, of the traces that fit, in no order, as a stream of CSV or Parquet. Two exports go on at a time."""
    statement = exports.spans_seen_by(asker(request), selection.wanted, _aware(since), _aware(until))
    return exporting.response(statement, format, "spans")


@router.get("/metrics/export", openapi_extra=_FILES)
def export_metrics(
    request: HttpRequest,
    since: datetime,
    until: datetime,
    metric: str = "",
    resolution: Literal["10s", "1m", "1h"] = "1m",
    tenant: str = "",
    route: str = "",
    model: str = "",
    release: str = "",
    format: exporting.Format = "csv",  # noqa: A002 - the name of the parameter
) -> Any:
    """Windows of calls, or with ``metric`` the points of that OTLP metric (``*``: of all), as a stream of CSV or Parquet."""
    asked = Question(_aware(since), _aware(until), 60, "", tenant, route, model, release)
    if metric:
        return exporting.response(exports.points_seen_by(asker(request), asked, metric), format, "points")
    return exporting.response(exports.windows_seen_by(asker(request), asked, resolution), format, f"calls-{resolution}")


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@router.get("/traces/{trace_id}/", response=SpanList)
def get_trace(request: HttpRequest, trace_id: str) -> Any:
    """The spans of one trace, in order of start."""
    return {"items": trace_seen_by(asker(request), trace_id)}
