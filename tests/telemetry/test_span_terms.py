"""Traces by what few spans say: the same from the filters of terms that the worker keeps and from the spans alone."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from controlplane.telemetry import postgres, queries, said
from controlplane.telemetry.actions.span_sums import fold_spans
from controlplane.telemetry.models import Fold, LateSpans, Span
from controlplane.telemetry.queries import Slot, Trace, TraceFilter
from controlplane.telemetry.terms import TABLE, filters_of, probe_of
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, Asker

NOW = datetime(2026, 11, 25, 2, 3, 27, tzinfo=UTC)
SINCE = NOW - timedelta(hours=4)  # across midnight
KEPT = NOW - timedelta(days=13)
FILTERS: list[dict[str, str]] = [
    {"attribute": "colour=red"},
    {"attribute": "colour"},
    {"attribute": "colour=teal"},  # one has it
    {"attribute": "colour=mauve"},  # none has it
    {"attribute": "odd"},
    {"attribute": "odd=7"},
    {"attribute": "odd=1.50"},
    {"attribute": "odd=true"},
    {"attribute": "odd=null"},
    {"attribute": 'odd={"a": [1, "x"]}'},
    {"attribute": "odd= 'it''s' "},
    {"attribute": "host=h-2"},  # of the resource
    {"attribute": "shade"},
    {"tool": "search"},
    {"tool": "hammer"},
    {"tool": "none"},
    {"agent": "planner", "status": "error"},
    {"operation": "execute_tool", "attribute": "colour=teal"},
    {"agent": "planner", "tool": "hammer"},
    {"attribute": "host=h-2", "tenant": "globex", "text": "oo"},
    {"attribute": "colour=red", "tool": "none"},
]

NOBODYS = [
    {"attribute": "colour=mauve"},
    {"attribute": "odd=null"},
    {"attribute": "shade"},
    {"tool": "none"},
    {"attribute": "colour=red", "tool": "none"},
]


def _trace(number: int, at: datetime, tenant: str, **more: Any) -> list[Span]:
    """Return a root, an agent a little before it and a tool later; ``more`` is said by the tool."""
    fields: dict[str, Any] = {
        "trace_id": f"{number:032x}",
        "tenant": tenant,
        "service": "app",
        "kind": 1,
        "duration_us": 9000,
        "status": 1 + (number % 7 == 0),
        "resource": {"host": f"h-{number % 60}"},
    }
    root = Span(span_id=f"{1:016x}", starts_at=at, name="root", **fields)
    below = [
        Span(
            span_id=f"{2:016x}", parent_span_id=f"{1:016x}", starts_at=at - timedelta(milliseconds=5), name="a",
            agent="planner" if number % 9 == 0 else "critic", **fields,
        ),
        Span(
            span_id=f"{3:016x}", parent_span_id=f"{1:016x}", starts_at=at + timedelta(seconds=5100 if number % 11 == 0 else 20), name="t",
            **{**fields, "operation": "execute_tool", "tool": "search", **more},
        ),
    ]  # fmt: skip
    return [root, *below]


@pytest.fixture
def globex(db: None) -> Asker:
    """Fill four hours with traces of three tenants; return who sees two of them."""
    dice = random.Random(4)
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    root = create_tenant(by=SYSTEM, slug="globex", name="Globex")
    create_tenant(by=SYSTEM, slug="globex-eu", name="Globex Europe", parent=root)
    odd: dict[int, Any] = {
        3: 7,
        30: "7",
        31: 1.5,
        32: True,
        33: None,
        34: {"a": [1, "x"]},
        35: "'it''s'",
        36: "true",
        37: "1.50",
    }
    spans: list[Span] = []
    for number in range(1, 240):
        at = NOW - timedelta(seconds=dice.randrange(1, 4 * 3600))
        said_ = {"colour": "teal" if number == 50 else dice.choice(["red", "green", "blue"])}
        if number in odd:
            said_["odd"] = odd[number]
        spans += _trace(
            number,
            at,
            dice.choice(["acme", "globex", "globex-eu"]),
            attributes=said_,
            tool="hammer" if number % 45 == 0 else "search",
        )
    Span.objects.bulk_create([span for span in spans if span.starts_at < NOW])
    return Asker(name="g", role=Role.ADMIN, tenant=root)


def _pages(asker: Asker, wanted: TraceFilter, size: int, until: datetime | None = None) -> list[list[Trace]]:
    found, cursor = [], ""
    while page := queries.traces_seen_by(asker, wanted, SINCE, cursor, size, until=until):
        found.append(page)
        cursor = page[-1].cursor
    return found


def _told(asker: Asker) -> list[tuple[list[list[Trace]], list[list[Trace]], list[Slot]]]:
    return [
        (
            _pages(asker, TraceFilter(**wanted), 30),
            _pages(asker, TraceFilter(**wanted), 9, NOW - timedelta(hours=2)),
            queries.trace_slots(asker, TraceFilter(**wanted), SINCE, NOW, 777).steps,
        )
        for wanted in FILTERS
    ]


def _fold_until(now: datetime) -> None:
    known = None
    while known != (known := list(Fold.objects.order_by("kind").values_list("kind", "until"))):
        fold_spans(now=now, kept_since=KEPT)


def _rows() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT starts_at, part, spans, blocks FROM {TABLE} ORDER BY 1, 2")
        return list(cursor.fetchall())


@pytest.fixture(params=["few", "in portions", "dense"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let what is sought be few, or be looked for in many portions or among a tenant's traces, or be found at once."""
    if request.param != "few":
        monkeypatch.setattr(said, "FEW_SPANS", 20)
    if request.param == "in portions":
        monkeypatch.setattr(postgres, "FEW_TRACES", 10)
    monkeypatch.setattr(said, "_DENSE", 12 if request.param == "dense" else 61)
    return str(request.param)


@pytest.mark.parametrize("whose", ["all", "subtree"])
def test_traces__by_what_spans_say__are_those_of_spans_alone(whose: str, ways: str, globex: Asker) -> None:
    asker = SYSTEM if whose == "all" else globex
    plain = _told(asker)

    _fold_until(NOW)

    assert _told(asker) == plain
    found = [wanted for wanted, (pages, _, _) in zip(FILTERS, plain, strict=True) if pages]
    assert len(found) == len(FILTERS) - len(NOBODYS) if whose == "all" else len(found) > 8
    assert not any(wanted in found for wanted in NOBODYS)


def test_traces__what_none_says__is_known_without_looking_at_folded_spans(globex: Asker) -> None:
    _fold_until(NOW)
    where = said.narrowed(
        queries.traces._wanted(SYSTEM, TraceFilter(attribute="colour=mauve"), SINCE, None)  # as the store is asked
    )

    assert where is not None
    assert [begins >= NOW - timedelta(minutes=2) for (begins, _), _ in where.times] == [True]


def test_traces__spans_that_come_late__are_found_before_and_after_their_minute_is_folded_again(globex: Asker) -> None:
    wanted = TraceFilter(attribute="colour=mauve")
    _fold_until(NOW)
    late = _trace(900, NOW - timedelta(hours=3), "globex", attributes={"colour": "mauve"})
    Span.objects.bulk_create(late)
    assert _pages(SYSTEM, wanted, 9) == []  # who stores it notes it in the same transaction

    LateSpans.objects.create(since=late[0].starts_at, until=late[-1].starts_at + timedelta(seconds=1))
    before = _pages(globex, wanted, 9)
    fold_spans(now=NOW, kept_since=KEPT)

    assert not LateSpans.objects.exists()
    assert [trace.trace_id for page in before for trace in page] == [late[0].trace_id]
    assert _pages(globex, wanted, 9) == before


def test_traces__a_span_older_than_sums_are_kept_comes_late__is_found(globex: Asker) -> None:
    at = KEPT - timedelta(hours=5)
    _fold_until(NOW)
    late = _trace(901, at, "acme", tool="chisel")
    Span.objects.bulk_create(late)
    LateSpans.objects.create(since=at, until=at + timedelta(minutes=1))

    fold_spans(now=NOW, kept_since=KEPT)

    found = queries.traces_seen_by(SYSTEM, TraceFilter(tool="chisel"), at - timedelta(hours=1))
    assert [trace.trace_id for trace in found] == [late[0].trace_id]
    assert min(row[0] for row in _rows()) == at.replace(second=0)


def test_fold__in_any_portions_again_and_late__comes_to_the_same(globex: Asker) -> None:
    dice, at = random.Random(3), SINCE
    while at < NOW:
        at = min(NOW, at + timedelta(seconds=dice.randrange(10, 1500)))
        _fold_until(at)
    LateSpans.objects.create(since=SINCE, until=NOW - timedelta(hours=3))
    for _ in range(4):
        fold_spans(now=NOW, kept_since=KEPT)
    portions = [(at, part, spans, blocks) for at, part, spans, blocks in _rows()]
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLE}")
    Fold.objects.filter(kind="terms").delete()

    _fold_until(NOW)

    assert portions == _rows()
    assert portions


def test_traces__when_the_worker_was_away__are_the_same_all_the_way(globex: Asker) -> None:
    wanted = TraceFilter(attribute="colour=teal")
    plain = _pages(SYSTEM, wanted, 9)

    for _ in range(6):
        fold_spans(now=NOW, kept_since=KEPT)
        assert _pages(SYSTEM, wanted, 9) == plain
    assert plain


@given(st.sets(st.integers(-(2**63), 2**63 - 1), max_size=2000))
def test_filters_of__any_terms__have_each_of_them(terms: set[int]) -> None:
    filters = filters_of(list(terms))

    for term in terms:
        probe = probe_of(term)
        (blocks,) = (filters[part] for part in probe.parts if part in filters)
        assert blocks[probe.place % len(blocks)] & probe.bits == probe.bits


@pytest.mark.parametrize("count", [10, 300, 5_000, 40_000])
def test_filters_of__terms_that_are_not_in_it__seldom_seem_to_be(count: int) -> None:
    dice = random.Random(count)
    filters = filters_of([dice.getrandbits(64) - 2**63 for _ in range(count)])
    seem = 0
    for _ in range(20_000):
        probe = probe_of(dice.getrandbits(64) - 2**63)
        seem += any(
            filters[part][probe.place % len(filters[part])] & probe.bits == probe.bits
            for part in probe.parts
            if part in filters
        )

    assert seem < 40  # one in 500
    assert all(len(blocks) <= 129 for blocks in filters.values())
    assert sum(map(len, filters.values())) <= 2 + count
