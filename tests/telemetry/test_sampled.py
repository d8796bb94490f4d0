"""Histograms of traces that are dear to count: estimates within what they say of themselves, exact while there are few."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from controlplane.telemetry import queries, sampled
from controlplane.telemetry.actions.span_sums import fold_spans
from controlplane.telemetry.models import Fold, Span
from controlplane.telemetry.queries import Slots, TraceFilter
from controlplane.telemetry.resolutions import floor
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, Asker

NOW = datetime(2026, 11, 25, 7, 3, 27, tzinfo=UTC)
SINCE = NOW - timedelta(hours=3)
TRACES = 1_500
FILTERS = [
    {"attribute": "colour=red"},
    {"attribute": "colour"},
    {"tool": "search", "status": "error"},
    {"tool": "search", "route": "chat"},
    {"agent": "planner", "tenant": "globex"},
    {"min_tokens": "50"},
    {"min_usd": "0.000001", "text": "oo"},
    {"text": "blue"},
    {"min_ms": "25", "status": "ok"},
    {"service": "app-1", "tenant": "acme"},
]


def _trace(number: int, dice: random.Random) -> list[Span]:
    """Return a root and two spans below it; a quarter has a red attribute, a half a tool."""
    at = NOW - timedelta(seconds=dice.randrange(2, 3 * 3600))
    fields = {
        "trace_id": f"{number:032x}",
        "tenant": dice.choice(["acme", "globex"]),
        "service": f"app-{number % 3}",
        "kind": 1,
    }
    return [
        Span(
            span_id=f"{place:016x}", parent_span_id=f"{1:016x}" if place > 1 else "", starts_at=at + timedelta(milliseconds=place),
            name="root" if number % 2 else "blue", status=2 if place == 3 and number % 5 == 0 else 1, duration_us=1000 * dice.randrange(10, 40),
            route="chat" if place == 2 and number % 3 else "", tool="search" if place == 3 and number % 2 else "",
            agent=dice.choice(["planner", "critic"]) if place == 2 else "", usage_by=2 if place == 2 else 0,
            input_tokens=dice.randrange(100) if place == 2 else None, cost_nusd=dice.randrange(2000) if place == 2 else None,
            attributes={"colour": dice.choice(["red", "green", "blue", "grey"])} if place == 2 else {}, **fields,
        )
        for place in (1, 2, 3)
    ]  # fmt: skip


def _told(asker: Asker, wanted: dict[str, str], since: datetime = SINCE) -> Slots:
    return queries.trace_slots(asker, TraceFilter(**wanted), floor(since, 900), NOW, 900)


@pytest.fixture
def asker(db: None) -> Asker:
    """Fill three hours, folded until a minute before now, with traces of two tenants; return who sees both."""
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    create_tenant(by=SYSTEM, slug="globex", name="Globex")
    dice = random.Random(11)
    Span.objects.bulk_create([span for number in range(1, TRACES + 1) for span in _trace(number, dice)])
    known = None
    while known != (known := list(Fold.objects.order_by("kind").values_list("kind", "until"))):
        fold_spans(now=NOW - timedelta(minutes=1), kept_since=NOW - timedelta(days=13))
    return SYSTEM


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hundred be many, so that a small database is enough."""
    monkeypatch.setattr(sampled, "MOST_HEADS", 200)
    monkeypatch.setattr(sampled, "MOST_TRACES", 100)


def test_slots__of_many_traces__are_estimated_within_their_error(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampled, "MOST_TRACES", TRACES)
    counted = [_told(asker, wanted) for wanted in FILTERS]
    monkeypatch.setattr(sampled, "MOST_HEADS", 200)
    monkeypatch.setattr(sampled, "MOST_TRACES", 100)

    estimated = [_told(asker, wanted) for wanted in FILTERS]

    for exact, told in zip(counted, estimated, strict=True):
        assert exact.one_in == 1 < told.one_in
        assert exact.total > 0
        assert abs(told.total - exact.total) <= sampled.margin(told.total, told.one_in)
        assert all(slot.traces % told.one_in == 0 for slot in told.steps)
        assert [slot.at for slot in told.steps] == [slot.at for slot in exact.steps]
    assert estimated == [_told(asker, wanted) for wanted in FILTERS]


def test_slots__of_a_short_time_or_of_sums__are_counted(asker: Asker, dear: None) -> None:
    since = NOW - timedelta(minutes=6)
    for wanted in FILTERS:
        listed = queries.traces_seen_by(asker, TraceFilter(**wanted), floor(since, 900), limit=500, until=NOW)
        told = _told(asker, wanted, since)
        assert (told.one_in, told.total) == (1, len(listed))
    for wanted in ({}, {"status": "error"}, {"route": "chat"}, {"tenant": "acme"}, {"session": "s"}, {"user": "u"}):
        assert _told(asker, wanted).one_in == 1


def test_slots__of_an_outsider__are_estimated_from_own_traces_only(asker: Asker, dear: None) -> None:
    initech = create_tenant(by=SYSTEM, slug="initech", name="Initech")
    outsider = Asker(name="i", role=Role.VIEWER, tenant=initech)

    assert _told(outsider, {"attribute": "colour=red"}).total == 0
    assert _told(outsider, {"text": "blue"}).total == 0


def test_slots__an_estimate__has_what_is_not_folded_yet(asker: Asker, dear: None) -> None:
    dice = random.Random(2)
    spans = [span for number in range(5000, 6000) for span in _trace(number, dice)]
    for span in spans:
        span.starts_at = NOW - timedelta(seconds=1)
    before = _told(asker, {"attribute": "colour=red"}).total
    Span.objects.bulk_create(spans)

    after = _told(asker, {"attribute": "colour=red"})

    exact = sum(1 for span in spans if span.attributes.get("colour") == "red")
    assert abs(after.total - before - exact) <= sampled.margin(exact, after.one_in)


def test_samples__of_all_tenants__are_read_from_an_index(asker: Asker) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute("EXPLAIN " + sampled.heads(256, words="", clauses=""), [SINCE, NOW])
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "Index Only Scan" in plan
    assert "hashtext" not in plan  # the index has no others


@pytest.mark.parametrize(
    ("count", "most", "least", "one_in"),
    [(0, 10, 1, 1), (10, 10, 16, 1), (11, 10, 1, 2), (21, 10, 1, 4), (11, 10, 16, 16), (400, 10, 16, 64)],
)
def test_share__of_a_count__is_the_smallest_power_of_two_that_suffices(
    count: int, most: int, least: int, one_in: int
) -> None:
    assert sampled.share_for(count, most, least=least) == one_in


@given(st.integers(1, 10**9), st.integers(1, 10**5))
def test_share__of_any_count__draws_no_more_than_the_most(count: int, most: int) -> None:
    one_in = sampled.share_for(count, most)

    assert count <= most * one_in
    assert one_in == 1 or count > most * one_in / 2


def test_margin__of_what_is_counted__is_nought_and_of_nothing_what_may_have_been_missed() -> None:
    assert sampled.margin(12, 1) == 0
    assert sampled.margin(0, 16) == 48
    assert sampled.margin(1600, 16) == 304
