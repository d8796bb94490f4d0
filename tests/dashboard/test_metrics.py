"""The page of metrics: every figure of every metric, its chart, its file, its address."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import plotly.graph_objects as go
import pytest
from django.core.signals import request_finished
from django.db import close_old_connections
from django.test import Client

from controlplane.telemetry.models import Point, Series
from controlplane.telemetry.queries import SEVEN
from dashboard.metric_chart import labelled
from dashboard.pages.metrics import step_of
from tests.dashboard.world import World

SignIn = Callable[[str], Client]
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize("by", ["", "tenant", "route", "model", "release"])
@pytest.mark.parametrize("metric", SEVEN)
def test_chart__each_of_the_seven_by_each_dimension__is_a_figure(metric: str, by: str, sign_in: SignIn) -> None:
    response = sign_in("anna").get(f"/explore/chart.json?metric={metric}&by={by}&since=1h&compare=1")

    figure = go.Figure(json.loads(response.content))
    names = {trace.name for trace in figure.data}
    if by == "release" and metric in ("request_latency_ms", "cost_usd", "error_rate"):
        assert {"support-agent 7.2.0", "support-agent 7.3.0"} <= names
    if by == "tenant":
        assert {"acme", "globex"} <= names
    elif by != "release":
        assert names


def test_chart__a_distribution__has_dots_that_open_traces_and_lines_where_people_changed_something(
    sign_in: SignIn, world: World
) -> None:
    chart = json.loads(sign_in("anna").get("/explore/chart.json?since=1h").content)

    dots = next(trace for trace in chart["data"] if trace["name"] == "Traces")
    assert all(link.startswith("/traces/") for link in dots["customdata"])
    assert sign_in("anna").get(dots["customdata"][0]).status_code == 200
    assert len(chart["layout"]["shapes"]) == len(chart["layout"]["annotations"]) > 0


def test_labelled__changes_near_each_other__only_those_with_room_have_their_names() -> None:
    times = [NOW + timedelta(minutes=minute) for minute in (0, 3, 5, 9, 10)]

    assert labelled(times, timedelta(minutes=5)) == [True, False, True, False, True]


def test_page__another_tenants_operator__sees_only_theirs(sign_in: SignIn) -> None:
    html = sign_in("gus").get("/explore/?by=tenant").content.decode()

    assert "globex" in html
    assert "acme" not in html


def test_csv__all_of_a_range__has_a_row_for_every_name_and_step(sign_in: SignIn) -> None:
    response = sign_in("anna").get("/explore/figures.csv?metric=error_rate&by=model&since=1h")

    rows = list(csv.DictReader(io.StringIO(response.content.decode())))
    assert {row["name"] for row in rows} == {"gpt-4o", "gpt-4o-mini", "embed-small"}
    assert all(0 <= float(row["share"]) <= 1 for row in rows)
    assert len({row["from"] for row in rows if row["name"] == "gpt-4o"}) >= 58


@pytest.mark.parametrize("place", ["/explore/export", "/traces/export"])
def test_export__in_a_format_that_there_is_not__is_no_page(place: str, sign_in: SignIn) -> None:
    client = sign_in("anna")

    assert client.get(f"{place}.zz").status_code == 404
    file = client.get(f"{place}.csv")
    assert file.headers["Content-Type"].startswith("text/csv")
    request_finished.disconnect(close_old_connections)  # the test's transaction lives in one
    try:
        file.close()  # its place among the exports is free again
    finally:
        request_finished.connect(close_old_connections)


def test_csv__compared__says_which_range_a_row_is_of(sign_in: SignIn) -> None:
    rows = list(csv.DictReader(io.StringIO(
        sign_in("anna").get("/explore/figures.csv?metric=cost_usd&since=1h&compare=1").content.decode()
    )))  # fmt: skip

    assert {row["range"] for row in rows} == {"asked", "before"}


def test_otlp_metric__histogram_of_two_instances__is_merged_by_its_bounds(sign_in: SignIn, world: World) -> None:
    for number in range(2):
        series = Series.objects.create(
            digest=bytes([number]) * 16, tenant="acme", name="took", unit="s", kind="histogram", monotonic=True, service="web",
            instance=str(number), route="", model="", release="", bounds=[0.1, 1.0, 10.0],
        )  # fmt: skip
        Point.objects.create(
            series=series, at=world.now - timedelta(minutes=5), samples=100, sum=50, min=0.01, max=20, buckets=[50, 40, 10 * number, 10 - 10 * number],
            exemplars=[{"trace_id": world.trace_id, "span_id": "0" * 16, "value": 0.5}],
        )  # fmt: skip

    client = sign_in("anna")
    chart = json.loads(client.get("/explore/chart.json?metric=took&stat=p50&since=1h").content)
    line, dots = chart["data"]

    assert [value for value in line["y"] if value is not None] == [pytest.approx(0.05, rel=0.02)]
    assert dots["y"] == [0.5, 0.5]
    rows = list(csv.DictReader(io.StringIO(client.get("/explore/figures.csv?metric=took&since=1h").content.decode())))
    assert (rows[0]["samples"], rows[0]["max"]) == ("200", "20.0")
    assert sign_in("gus").get("/explore/?metric=took").status_code == 404


def test_otlp_metric__levels_of_two_instances__add_up(sign_in: SignIn, world: World) -> None:
    for number in range(2):
        series = Series.objects.create(
            digest=bytes([7 + number]) * 16, tenant="acme", name="pool", unit="{connection}", kind="gauge", monotonic=False,
            service="web", instance=str(number), route="", model="", release="",
        )  # fmt: skip
        at = world.now - timedelta(minutes=5)
        at = at.replace(second=10)
        for second in range(0, 40, 10):
            Point.objects.create(series=series, at=at + timedelta(seconds=second), samples=1, sum=5 + number)

    chart = json.loads(sign_in("anna").get("/explore/chart.json?metric=pool&since=1h").content)

    assert [value for value in chart["data"][0]["y"] if value is not None] == [pytest.approx(11)]


@pytest.mark.parametrize(
    ("length", "age", "step_s"),
    [(900, 900, 10), (3600, 3600, 60), (86400, 86400, 900), (30 * 86400, 30 * 86400, 6 * 3600), (900, 2 * 86400, 60), (3600, 60 * 86400, 3600)],
)  # fmt: skip
def test_step_of__a_length_and_an_age__draws_few_steps_of_what_is_kept(length: int, age: int, step_s: int) -> None:
    since = NOW - timedelta(seconds=age)

    assert step_of(since, since + timedelta(seconds=length), NOW) == step_s
