"""What the page of metrics fetches beside its frames: the chart, and the same figures as a file."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.http import require_GET

from controlplane.telemetry import exporting, exports
from controlplane.telemetry.patience import TooDear
from dashboard.asking import Asking
from dashboard.metric_chart import chart_of
from dashboard.page import Params
from dashboard.pages.metrics import PAGE, View, changes_of, courses_of, exemplars_of, view_of
from dashboard.views.show import asker_behind, signed_in


def _viewed(request: HttpRequest) -> tuple[Asking, View]:
    asking = Asking(asker_behind(request), timezone.now())
    return asking, view_of(asking, Params.taken(PAGE.params, request.GET.dict()))


@require_GET
@signed_in
def chart(request: HttpRequest) -> HttpResponse:
    """Answer the chart of what the address asks for, or in ``dear`` why there is none."""
    asking, view = _viewed(request)
    try:
        course, before = courses_of(asking, view)
    except TooDear as problem:
        return JsonResponse({"dear": problem.detail})
    return JsonResponse(chart_of(view, course, before, exemplars_of(asking, view), changes_of(asking, view)))


@require_GET
@signed_in
def figures(request: HttpRequest) -> HttpResponse:
    """Answer the lines as CSV: one row per name and step, with all that is known of it."""
    asking, view = _viewed(request)
    course, before = courses_of(asking, view)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = [
        "metric",
        "unit",
        "name",
        "from",
        "to",
        view.stat,
        "samples",
        "mean",
        "min",
        "max",
        "p50",
        "p90",
        "p95",
        "p99",
    ]
    writer.writerow(["range", *head] if before else head)
    for label, each in (("asked", course), ("before", before)):
        if each is None:
            continue
        for line in each.lines:
            for at, step, value in zip(each.times, line.steps, view.course(each, line), strict=True):
                if step is not None:
                    ends = min(at + timedelta(seconds=course.step_s), max(at, view.known))
                    values = [value, step.samples or None]
                    shape = [
                        step.total / step.samples if step.samples else None,
                        step.least,
                        step.most,
                        *step.quantiles,
                    ]
                    scaled = [None if value is None else value * view.metric.factor for value in shape]
                    row = [
                        view.metric.name,
                        view.metric.unit,
                        line.name,
                        at.isoformat(),
                        ends.isoformat(),
                    ]
                    writer.writerow([*([label] if before else []), *row, *values, *scaled])
    response = HttpResponse(out.getvalue(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{_file_name(view)}.csv"'
    return response


@require_GET
@signed_in
def export(request: HttpRequest, form: exporting.Format) -> HttpResponseBase:
    """Answer what the lines are made of: the windows of calls, or the points of the metric, as a file."""
    asking, view = _viewed(request)
    if view.metric.kind:
        statement = exports.points_seen_by(asking.asker, view.asked, view.metric.name)
    else:
        resolution = "10s" if view.asked.step_s < 60 else "1m" if view.asked.step_s < 3600 else "1h"
        statement = exports.windows_seen_by(asking.asker, view.asked, resolution)
    return exporting.response(statement, form, _file_name(view))


def _file_name(view: View) -> str:
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in view.metric.name)
    return f"{name}-{view.asked.since:%Y%m%dT%H%M}-{view.asked.until:%Y%m%dT%H%M}"
