"""What the pages of traces fetch beside their frames, and where their filters lead."""

from __future__ import annotations

from urllib.parse import urlencode

import orjson
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from controlplane.telemetry import exporting, exports
from dashboard.asking import Asking
from dashboard.page import Params
from dashboard.pages.trace import detail_of
from dashboard.pages.traces import FIELDS, PAGE, filter_of, window_of
from dashboard.trace_kept import waterfall_seen_by
from dashboard.views.show import asker_behind, signed_in
from dashboard.waterfall import as_columns


@require_GET
@signed_in
def add_filter(request: HttpRequest) -> HttpResponse:
    """Go to the list with one filter more: ``field`` and ``value`` as they were chosen."""
    kept = {name: request.GET.get(name, "") for name in PAGE.params if name != "cursor"}
    field = request.GET.get("field", "")
    if field in FIELDS:
        kept[field] = request.GET.get("value", "")
    query = urlencode(sorted((name, value[:200]) for name, value in kept.items() if value))
    return HttpResponseRedirect(f"{reverse('traces')}?{query}")


@require_GET
@signed_in
def export(request: HttpRequest, form: exporting.Format) -> HttpResponseBase:
    """Answer the spans of all traces that the address asks for, as a file."""
    params = Params.taken(PAGE.params, request.GET.dict())
    since, until, _ = window_of(params, timezone.now())
    statement = exports.spans_seen_by(asker_behind(request), filter_of(params), since, until)
    return exporting.response(statement, form, f"spans-{since:%Y%m%dT%H%M}")


@require_GET
@signed_in
def spans(request: HttpRequest, trace_id: str) -> HttpResponse:
    """Answer all spans of a trace as columns for the waterfall."""
    found, _ = waterfall_seen_by(asker_behind(request), trace_id)
    return HttpResponse(orjson.dumps(as_columns(found)), content_type="application/json")


@require_GET
@signed_in
def span(request: HttpRequest, trace_id: str, span_id: str) -> HttpResponse:
    """Answer the drawer of one span."""
    asking = Asking(asker_behind(request), timezone.now())
    detail = detail_of(asking, trace_id, span_id)
    return render(request, "traces/span.html", {"detail": detail, "now": asking.now, "fetched": True})
