"""Histograms of filtered traces: the same from what the worker keeps of their shapes and from the spans themselves."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from controlplane.telemetry import queries
from controlplane.telemetry.actions import retention
from controlplane.telemetry.actions.rootless import note_rootless
from controlplane.telemetry.actions.span_sums import fold_spans
from controlplane.telemetry.models import Fold, LateSpans, Span
from controlplane.telemetry.queries import Slot, Trace, TraceFilter
from controlplane.telemetry.resolutions import floor
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, Asker

NOW = datetime(2026, 11, 25, 7, 3, 27, tzinfo=UTC)
KEPT = NOW - timedelta(days=13)
FILTERS = [
    {"status": "error"},
    {"status": "ok"},
    {"route": "chat"},
    {"route": "embed", "model": "gpt-4o"},
    {"release": "r1", "status": "error"},
    {"tenant": "globex", "status": "error"},
    {"tenant": "globex", "route": "chat", "status": "ok"},
    {"tenant": "acme", "model": "gpt-4o"},
]
OF_HEADS = [
    {"text": "OO"},
    {"text": "app-1", "status": "error"},
    {"service": "app-2", "route": "chat"},
    {"min_ms": "20", "max_ms": "30.5"},
    {"tenant": "globex", "min_ms": "25", "text": "root"},
]
TABLES = ("telemetry_trace_head", "telemetry_trace_shape", "telemetry_shape_15m", "telemetry_shape_6h")


def _trace(
    number: int, at: datetime, tenant: str, dice: random.Random, *, failed: str = "", lasts_s: int = 40
) -> list[Span]:
    """Return a root and some inferences, of which one failed when a tenant is named as that of ``failed``."""
    took = 1000 * dice.randrange(10, 40)
    fields = {"service": f"app-{number % 3}", "kind": 1, "duration_us": took, "trace_id": f"{number:032x}"}
    spans = [Span(span_id=f"{1:016x}", starts_at=at, name="root", status=1, tenant=tenant, **fields)]
    spans += [
        Span(
            span_id=f"{place:016x}", starts_at=at + timedelta(seconds=dice.randrange(lasts_s)), name="m", usage_by=2, tenant=tenant,
            parent_span_id=f"{1:016x}", status=1, route=dice.choice(["chat", "embed"]), model=dice.choice(["gpt-4o", "gpt-5"]),
            release=dice.choice(["r1", "r2"]), **fields,
        )
        for place in range(2, 5)
    ]  # fmt: skip
    if failed:
        spans[-1].tenant, spans[-1].status = failed, 2
        spans[0].status = 1 + number % 2
    return spans


@pytest.fixture
def asker(db: None) -> Asker:
    """Fill nine hours, across midnight, with traces of three tenants, few of them over a quarter of an hour; return who sees two of them."""
    dice = random.Random(5)
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    root = create_tenant(by=SYSTEM, slug="globex", name="Globex")
    create_tenant(by=SYSTEM, slug="globex-eu", name="Globex Europe", parent=root)
    spans: list[Span] = []
    for number in range(1, 150):
        at = NOW - timedelta(seconds=dice.randrange(1, 9 * 3600))
        tenant = dice.choice(["acme", "globex", "globex-eu"])
        failed = dice.choice([tenant, tenant, "acme", "globex"]) if dice.random() < 0.3 else ""
        spans += _trace(number, at, tenant, dice, failed=failed, lasts_s=2000 if number % 9 == 0 else 40)
    Span.objects.bulk_create([span for span in spans if span.starts_at < NOW])
    return Asker(name="g", role=Role.ADMIN, tenant=root)


def _told(asker: Asker) -> list[list[Slot]]:
    since = NOW - timedelta(hours=8)
    return [
        queries.trace_slots(asker, TraceFilter(**wanted), begins, NOW, step_s).steps
        for wanted in (*FILTERS, *OF_HEADS)
        for begins, step_s in ((floor(since, 1800), 1800), (since, 777))
    ]


def _fold_until(now: datetime) -> None:
    known = None
    while known != (known := list(Fold.objects.order_by("kind").values_list("kind", "until"))):
        fold_spans(now=now, kept_since=KEPT)


def test_slots__a_tenant_that_is_called_here_failed__is_not_taken_for_the_traces_own(db: None) -> None:
    acme = create_tenant(by=SYSTEM, slug="acme", name="Acme")
    create_tenant(by=SYSTEM, slug="here", name="Here")
    Span.objects.bulk_create(_trace(2, NOW - timedelta(hours=1), "acme", random.Random(1), failed="here"))
    viewer, since = Asker(name="a", role=Role.VIEWER, tenant=acme), NOW - timedelta(hours=2)

    def failed() -> list[Slot]:
        return queries.trace_slots(viewer, TraceFilter(status="error"), since, NOW, 1800).steps

    before = failed()
    _fold_until(NOW)

    assert before == failed()
    assert not any(slot.traces for slot in before)


def _rows() -> list[list[tuple[Any, ...]]]:
    found = []
    with connection.cursor() as cursor:
        for table in TABLES:
            where = "WHERE traces <> 0" if table.startswith("telemetry_shape") else ""
            cursor.execute(f"SELECT * FROM {table} {where} ORDER BY {table}")
            found.append(cursor.fetchall())
    return found


@pytest.mark.parametrize("everybody", [True, False])
def test_slots__of_filters_that_shapes_answer__are_what_spans_alone_come_to(everybody: bool, asker: Asker) -> None:
    who = SYSTEM if everybody else asker
    plain = _told(who)

    _fold_until(NOW)

    assert _told(who) == plain
    assert all(any(slot.traces for slot in slots) for slots in plain if everybody)
    Span.objects.filter(starts_at__lt=NOW - timedelta(hours=2)).delete()
    assert _told(who) == plain


def _pages(asker: Asker, wanted: TraceFilter, size: int) -> list[list[Trace]]:
    found, cursor = [], ""
    while page := queries.traces_seen_by(
        asker, wanted, NOW - timedelta(hours=8), cursor, size, until=NOW - timedelta(minutes=3)
    ):
        found.append(page)
        cursor = page[-1].cursor
    return found


@pytest.mark.parametrize("everybody", [True, False])
@pytest.mark.parametrize("size", [3, 40])
def test_pages__of_filters_that_shapes_answer__are_what_spans_alone_come_to(
    everybody: bool, size: int, asker: Asker
) -> None:
    who = SYSTEM if everybody else asker
    filters = [*FILTERS, {"tenant": "globex"}, {}, *OF_HEADS]
    plain = [_pages(who, TraceFilter(**wanted), size) for wanted in filters]

    _fold_until(NOW - timedelta(minutes=40))

    assert [_pages(who, TraceFilter(**wanted), size) for wanted in filters] == plain
    assert all(plain[: 5 if everybody else 4])


def test_slots__when_a_worker_was_away__are_the_same_all_the_way(asker: Asker) -> None:
    plain = _told(SYSTEM)

    for _ in range(5):
        fold_spans(now=NOW, kept_since=KEPT)
        assert _told(SYSTEM) == plain


def test_slots__of_an_installation_whose_sums_are_older__are_the_same_until_shapes_are_there_too(asker: Asker) -> None:
    plain = _told(SYSTEM)
    _fold_until(NOW)
    whole = _rows()
    Fold.objects.filter(kind="shapes").delete()
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(TABLES)}")

    assert _told(SYSTEM) == plain
    fold_spans(now=NOW, kept_since=KEPT)
    assert Fold.objects.get(kind="shapes").until < NOW - timedelta(hours=8)
    assert _told(SYSTEM) == plain
    _fold_until(NOW)
    assert _rows() == whole


def test_fold__in_any_portions__comes_to_the_same(asker: Asker) -> None:
    dice = random.Random(3)
    at = NOW - timedelta(hours=9)
    while at < NOW:
        at = min(NOW, at + timedelta(seconds=dice.randrange(10, 1500)))
        _fold_until(at)
    portions = _rows()
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(TABLES)}")
    Fold.objects.filter(kind="shapes").delete()

    _fold_until(NOW)

    whole = _rows()
    assert portions[0] == whole[0]
    assert portions[2:] == whole[2:]
    assert all(shape in portions[1] for shape in whole[1])


def test_fold__spans_that_come_late__change_the_shape_of_their_trace(asker: Asker) -> None:
    _fold_until(NOW)
    wanted = TraceFilter(route="late", status="error")
    since = NOW - timedelta(hours=8)
    first, *rest = _trace(900, NOW - timedelta(hours=3), "acme", random.Random(1), failed="acme", lasts_s=900)
    for span in (*rest, first):
        span.route = "late" if span is rest[1] else span.route
        span.save(force_insert=True)
        LateSpans.objects.create(since=span.starts_at, until=span.starts_at + timedelta(seconds=1))
        _fold_until(NOW)
    told = queries.trace_slots(SYSTEM, wanted, since, NOW, 900).steps

    Fold.objects.filter(kind="shapes").delete()

    assert told == queries.trace_slots(SYSTEM, wanted, since, NOW, 900).steps
    assert sum(slot.traces for slot in told) == 1


def test_fold__a_trace_without_root__has_the_shape_of_what_came_until_its_root_does(asker: Asker) -> None:
    def counted() -> list[int]:
        slots = queries.trace_slots(
            SYSTEM, TraceFilter(release="r9"), floor(NOW, 900) - timedelta(hours=8), NOW, 900
        ).steps
        return [slot.traces for slot in slots if slot.traces]

    root, *rest = _trace(700, NOW - timedelta(minutes=9), "acme", random.Random(1))
    for span in rest:
        span.release = "r9"
    Span.objects.bulk_create(rest)
    _fold_until(NOW)
    without = counted()
    note_rootless(now=NOW)
    _fold_until(NOW)
    with_first = counted()
    root.starts_at -= timedelta(minutes=20)
    root.save(force_insert=True)
    LateSpans.objects.create(since=root.starts_at, until=root.starts_at + timedelta(seconds=1))
    note_rootless(now=NOW)
    _fold_until(NOW)

    assert (without, with_first, counted()) == ([], [1], [1])
    with connection.cursor() as cursor:
        cursor.execute("SELECT span_id, starts_at FROM telemetry_trace_head WHERE trace_id = %s", [root.trace_id])
        assert cursor.fetchall() == [(root.span_id, root.starts_at)]


def test_shapes__too_old__are_dropped_with_the_spans(asker: Asker) -> None:
    for day in (0, 20):
        retention.make_partitions(today=(NOW - timedelta(days=day)).date())
    kept = [each for each in retention.SPAN_SUMS if each.table in TABLES]

    dropped = [name for each in kept for name in retention.drop_partitions(each, today=NOW.date(), keep_days=14)]

    assert len(dropped) == 3 * len(TABLES)
