"""Reads of windows, usage and traces: sums are exact, spreads those of the merged values, scopes hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.problems import NotFound
from controlplane.telemetry import queries
from controlplane.telemetry.models import CallWindow1m, CallWindow10s, DailyUsage, DailyUserUsage, Span
from controlplane.telemetry.queries import TraceFilter
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, Asker
from tidegate.core.window import Distribution

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, 14, 0, tzinfo=UTC)
SINCE = NOW - timedelta(minutes=5)


def _packed(*values: int) -> list[int]:
    made = Distribution()
    for value in values:
        made.add(value)
    return made.packed()


def _window(ago_s: int, tenant: str = "acme", route: str = "chat", **more: Any) -> None:
    fields = {"model": "m", "category": "c", "kinds": {}, **more}
    CallWindow10s.objects.create(starts_at=NOW - timedelta(seconds=ago_s), tenant=tenant, route=route, **fields)


@pytest.fixture
def globex() -> Asker:
    """Make two tenants, one with a child; return who sees the other one only."""
    acme = create_tenant(by=SYSTEM, slug="acme", name="Acme")
    create_tenant(by=SYSTEM, slug="acme-eu", name="Acme Europe", parent=acme)
    return Asker(name="g", role=Role.ADMIN, tenant=create_tenant(by=SYSTEM, slug="globex", name="Globex"))


def test_figures__several_windows__add_up_and_spread_as_one() -> None:
    values = list(range(1_000, 101_000, 1_000))
    _window(20, calls=60, errors=3, input_tokens=600, cached_input_tokens=150, latency_us=_packed(*values[:60]))
    _window(10, calls=40, errors=1, input_tokens=400, output_tokens=9, cost_nusd=7, latency_us=_packed(*values[60:]))
    _window(310, calls=1000)

    told = queries.figures(SYSTEM, SINCE, NOW)

    assert (told.calls, told.errors, told.tokens_used, told.cost_nusd) == (100, 4, 1009, 7)
    assert (told.error_rate, told.cache_hit_rate) == (0.04, 0.15)
    assert (told.latency_us.count, told.latency_us.min, told.latency_us.max) == (100, 1_000, 100_000)
    assert told.latency_us.mean == 50_500
    assert told.latency_us.p50 == pytest.approx(50_000, rel=0.006)
    assert told.latency_us.p99 == pytest.approx(99_000, rel=0.006)


def test_watched__some_calls_would_have_been_refused__counted_with_what_they_did_cost(globex: Asker) -> None:
    def minute(ago: int, tenant: str, made: int, **shadow: int) -> None:
        kinds = {"error.timeout": 2, **{f"shadow.{name}": amount for name, amount in shadow.items()}}
        at = NOW - timedelta(minutes=ago)
        CallWindow1m.objects.create(
            starts_at=at, tenant=tenant, route="chat", model="m", category=str(ago), calls=made, kinds=kinds
        )

    minute(1, "acme", 60, calls=4, cost_nusd=900, rate_limited=4, breaker_open=1)
    minute(2, "acme", 40, calls=1, cost_nusd=100, rate_limited=1)
    minute(3, "acme", 100)
    minute(1, "globex", 10, calls=9, cost_nusd=90, queue_full=9)
    minute(90, "acme", 10, calls=9, cost_nusd=90, queue_full=9)

    first, second = queries.watched(SYSTEM, NOW - timedelta(hours=1), NOW)

    assert (first.tenant, first.would_refuse, first.share) == ("globex", 9, 0.9)
    assert (second.tenant, second.route, second.calls, second.would_refuse) == ("acme", "chat", 200, 5)
    assert (second.cost_nusd, second.reasons) == (1000, {"rate_limited": 5, "breaker_open": 1})
    assert [each.tenant for each in queries.watched(globex, NOW - timedelta(hours=1), NOW)] == ["globex"]
    assert [each.tenant for each in queries.watched(SYSTEM, NOW - timedelta(hours=1), NOW, tenant="acme")] == ["acme"]


def test_figures__nothing_at_all__is_zero_and_has_no_rates() -> None:
    told = queries.figures(SYSTEM, SINCE, NOW)

    assert (told.calls, told.error_rate, told.cache_hit_rate, told.latency_us.count) == (0, None, None, 0)


def test_figures__known_for_a_minute_only__rates_are_over_that_minute() -> None:
    _window(60, calls=30)

    assert queries.figures(SYSTEM, SINCE, NOW).calls_per_s == 0.5


def test_figures__of_a_tenant__are_those_of_its_subtree(globex: Asker) -> None:
    for tenant in ("acme", "acme-eu", "globex", "unregistered"):
        _window(10, tenant, calls=1)

    sums = [queries.figures(SYSTEM, SINCE, NOW, tenant).calls for tenant in (None, "acme", "acme-eu", "unregistered")]

    assert sums == [4, 2, 1, 1]


def test_figures__somebody_of_another_tenant__get_nothing(globex: Asker) -> None:
    _window(10, "acme", calls=5)

    assert queries.figures(globex, SINCE, NOW).calls == 0
    assert queries.figures(globex, SINCE, NOW, "acme").calls == 0
    assert queries.breakdown(globex, SINCE, NOW, "tenant") == {}


def test_series__gaps__are_empty_points_and_sums_agree_with_the_figures() -> None:
    _window(20, calls=3, latency_us=_packed(1_000, 1_000, 90_000))
    _window(10, calls=2, route="embed")
    _window(10, calls=4)

    course = queries.series(SYSTEM, SINCE, NOW, 10)

    assert len(course) == 30
    assert [point.calls for point in course[-3:]] == [0, 3, 6]
    assert course[-2].p99_us == pytest.approx(90_000, rel=0.006)
    assert course[-1].p99_us is None
    assert sum(point.calls for point in course) == queries.figures(SYSTEM, SINCE, NOW).calls


def test_usage__by_each_dimension__is_the_same_money(globex: Asker) -> None:
    for tenant, route, cost in (("acme", "chat", 5), ("acme-eu", "embed", 7), ("globex", "chat", 11)):
        DailyUsage.objects.create(
            day=NOW.date(), tenant=tenant, route=route, model="m", category="c", calls=1, cost_nusd=cost
        )
    DailyUserUsage.objects.create(day=NOW.date(), tenant="acme", user="u-1", calls=1, tokens=3, cost_nusd=5)

    by_route = queries.usage(SYSTEM, "route", days=1, today=NOW.date())
    by_user = queries.usage(SYSTEM, "user", days=1, today=NOW.date())
    chat = queries.usage(SYSTEM, "tenant", days=1, today=NOW.date(), match={"route": "chat", "user": "u-1"})

    assert [(each.name, each.cost_nusd) for each in by_route] == [("chat", 16), ("embed", 7)]
    assert [(each.name, each.input_tokens) for each in by_user] == [("u-1", 3)]
    assert [each.name for each in chat] == ["globex", "acme"]
    assert [each.cost_nusd for each in queries.usage(globex, "model", days=1, today=NOW.date())] == [11]


def test_daily_costs__more_names_than_colours__puts_the_cheapest_together() -> None:
    for number in range(9):
        DailyUsage.objects.create(
            day=NOW.date(), tenant="t", route=f"r{number}", model="m", category="c", calls=1, cost_nusd=number + 1
        )

    found = {each.name: each.cost_nusd for each in queries.daily_costs(SYSTEM, "route", NOW.date(), 1)}

    assert len(found) == 8
    assert found["(others)"] == 1 + 2


def _span(trace: str, span: str, parent: str = "", tenant: str = "acme", **more: Any) -> None:
    fields = {"name": "call", "service": "app", "kind": 1, "status": 1, "duration_us": 5, "starts_at": NOW, **more}
    Span.objects.create(
        trace_id=trace * 32, span_id=span * 16, parent_span_id=parent * 16 if parent else "", tenant=tenant, **fields
    )


def test_traces__filters__look_at_every_span_of_a_trace() -> None:
    _span("a", "1")
    _span("a", "2", "1", model="gpt", status=2, cost_nusd=4, input_tokens=3)
    _span("b", "1", name="100% of it", starts_at=NOW + timedelta(seconds=1))

    def found(**wanted: str) -> str:
        return "".join(trace.trace_id[0] for trace in queries.traces_seen_by(SYSTEM, TraceFilter(**wanted), SINCE))

    assert found() == "ba"
    assert found(model="gpt") == found(status="error") == found(trace_id="A" * 32) == "a"
    assert found(text="100%") == "b"
    assert found(text="10_%") == ""
    (trace,) = queries.traces_seen_by(SYSTEM, TraceFilter(model="gpt"), SINCE)
    assert (trace.spans, trace.errors, trace.tokens, trace.cost_nusd) == (2, 1, 3, 4)


def test_traces__page_by_page__shows_each_once() -> None:
    for trace in "abcde":
        _span(trace, "1")

    seen, cursor = "", ""
    while page := queries.traces_seen_by(SYSTEM, TraceFilter(), SINCE, cursor, 2):
        seen += "".join(trace.trace_id[0] for trace in page)
        cursor = page[-1].cursor

    assert seen == "edcba"


def test_trace__of_another_tenant__is_not_there(globex: Asker) -> None:
    _span("a", "1")

    assert queries.traces_seen_by(globex, TraceFilter(), SINCE) == []
    with pytest.raises(NotFound):
        queries.trace_seen_by(globex, "a" * 32)
