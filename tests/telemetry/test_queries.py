"""Reads of windows, usage and traces: sums are exact, spreads those of the merged values, scopes hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.problems import NotFound
from controlplane.telemetry import queries
from controlplane.telemetry.actions.rootless import note_rootless
from controlplane.telemetry.models import CallWindow1m, CallWindow10s, DailyUsage, DailyUserUsage, Rootless, Span
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


@pytest.mark.parametrize("column", ["session", "user"])
def test_traces__by_what_a_span_of_others_says__are_not_found(globex: Asker, column: str) -> None:
    _span("a", "1", tenant="globex", **{column: "ours"})
    _span("a", "2", "1", tenant="acme", **{column: "theirs"})

    ours, theirs = (TraceFilter(**{column: value}) for value in ("ours", "theirs"))

    assert [len(queries.traces_seen_by(globex, wanted, SINCE)) for wanted in (ours, theirs)] == [1, 0]
    assert len(queries.traces_seen_by(SYSTEM, theirs, SINCE)) == 1


def _inference(trace: str, number: int, parent: int = 0, **more: Any) -> None:
    fields = {
        "name": "chat",
        "operation": "chat",
        "model": "gpt-4o",
        "usage_by": 1,
        "input_tokens": 100,
        "cost_nusd": 10,
    }
    _step(trace, number, parent, **{**fields, **more})


def _step(trace: str, number: int, parent: int = 0, ago_s: int = 60, **more: Any) -> None:
    fields = {"tenant": "acme", "service": "app", "name": "span", "kind": 1, "status": 1, "duration_us": 1000, **more}
    Span.objects.create(
        trace_id=trace * 32, span_id=f"{number:016x}", parent_span_id=f"{parent:016x}" if parent else "",
        starts_at=NOW - timedelta(seconds=ago_s) + timedelta(milliseconds=number), **fields,
    )  # fmt: skip


def test_traces__usage_that_sdk_and_instrumentation_both_saw__counts_once() -> None:
    _step("a", 1, operation="invoke_agent", agent="coordinator")
    _inference("a", 2, 1, usage_by=2, input_tokens=105, route="chat")
    _inference("a", 3, 2, usage_by=1, cost_nusd=None)
    _inference("a", 4, 1, usage_by=2, input_tokens=7)

    (trace,) = queries.traces_seen_by(SYSTEM, TraceFilter(), SINCE)

    assert (trace.spans, trace.tokens, trace.cost_nusd, trace.route) == (4, 112, 20, "chat")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"session": "s-1"}, "a"),
        ({"user": "u-1"}, "a"),
        ({"agent": "planner"}, "a"),
        ({"tool": "search"}, "a"),
        ({"release": "v2"}, "a"),
        ({"operation": "execute_tool"}, "a"),
        ({"attribute": "http.route=/chat"}, "a"),
        ({"attribute": "http.route"}, "a"),
        ({"attribute": "http.route=/other"}, ""),
        ({"service": "app"}, "ab"),
        ({"min_ms": "2"}, "b"),
        ({"max_ms": "2"}, "a"),
        ({"min_tokens": "50"}, "a"),
        ({"min_usd": "0.0000001"}, ""),
        ({"min_ms": "odd"}, "ab"),
        ({"status": "error"}, "b"),
        ({"status": "ok"}, "a"),
    ],
)
def test_traces__filters__match_the_root_or_any_span(wanted: dict[str, str], found: str) -> None:
    _step("a", 1, session="s-1", user="u-1", attributes={"http.route": "/chat"})
    _step("a", 2, 1, agent="planner", operation="invoke_agent")
    _step("a", 3, 2, tool="search", operation="execute_tool", release="v2")
    _inference("a", 4, 2)
    _step("b", 1, ago_s=70, duration_us=5000)
    _step("b", 2, 1, status=2, ago_s=70)

    traces = queries.traces_seen_by(SYSTEM, TraceFilter(**wanted), SINCE)
    slots = queries.trace_slots(SYSTEM, TraceFilter(**wanted), SINCE, NOW, 10).steps

    assert "".join(trace.trace_id[0] for trace in traces) == found
    assert sum(slot.traces for slot in slots) == len(found)
    assert len(slots) == 30


def test_traces__without_their_root__are_listed_by_their_first_span_until_it_comes() -> None:
    _step("a", 5, 1, name="late child")
    _step("a", 4, 1, name="first child", ago_s=61)
    assert queries.traces_seen_by(SYSTEM, TraceFilter(), SINCE) == []

    note_rootless(now=NOW)
    note_rootless(now=NOW)
    (trace,) = queries.traces_seen_by(SYSTEM, TraceFilter(), SINCE)
    _step("a", 1, name="root")
    (whole,) = queries.traces_seen_by(SYSTEM, TraceFilter(), SINCE)
    note_rootless(now=NOW)

    assert (trace.name, trace.rootless, trace.spans) == ("first child", True, 2)
    assert (whole.name, whole.rootless, whole.spans) == ("root", False, 3)
    assert not Rootless.objects.exists()


def test_mesh__agents_tools_and_models__are_joined_over_the_spans_between(globex: Asker) -> None:
    for trace in "ab":
        _step(trace, 1)
        _step(trace, 2, 1, operation="invoke_agent", agent="coordinator")
        _step(trace, 3, 2, name="step")
        _step(trace, 4, 3, operation="invoke_agent", agent="builder", status=2 if trace == "a" else 1)
        _step(trace, 5, 4, operation="execute_tool", tool="search")
        _inference(trace, 6, 3)

    edges = {(edge.from_name, edge.to_name): edge for edge in queries.mesh(SYSTEM, SINCE, NOW)}

    assert set(edges) == {
        ("app", "coordinator"),
        ("coordinator", "builder"),
        ("builder", "search"),
        ("coordinator", "gpt-4o"),
    }
    assert (edges["coordinator", "builder"].calls, edges["coordinator", "builder"].errors) == (2, 1)
    assert edges["coordinator", "gpt-4o"].tokens == 200
    assert queries.mesh(globex, SINCE, NOW) == []


def test_sessions__of_two_tenants_with_one_name__are_two(globex: Asker) -> None:
    _step("a", 1, session="s-1")
    _step("b", 1, session="s-1", tenant="globex")

    assert {(each.tenant, each.turns) for each in queries.sessions_seen_by(SYSTEM, TraceFilter(), SINCE)} == {
        ("acme", 1), ("globex", 1),
    }  # fmt: skip
    assert [each.tenant for each in queries.sessions_seen_by(globex, TraceFilter(), SINCE)] == ["globex"]


def test_sessions__of_spans__have_turns_and_usage(globex: Asker) -> None:
    for trace in "ab":
        _step(trace, 1, session="s-1", user="u-1")
        _inference(trace, 2, 1, session="s-1")
    _step("c", 1, session="s-2", ago_s=30)

    newest, other = queries.sessions_seen_by(SYSTEM, TraceFilter(), SINCE)

    assert (newest.session, newest.turns) == ("s-2", 1)
    assert (other.session, other.turns, other.spans, other.tokens, other.user) == ("s-1", 2, 4, 200, "u-1")
    assert queries.sessions_seen_by(SYSTEM, TraceFilter(user="u-1"), SINCE)[0].session == "s-1"
    assert queries.sessions_seen_by(globex, TraceFilter(), SINCE) == []
