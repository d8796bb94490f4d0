"""What spans come to: the same from the worker's sums and from the spans themselves, folded once or twice, late or in time."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.telemetry import counted, queries
from controlplane.telemetry.actions import late, retention, span_sums
from controlplane.telemetry.actions.rootless import note_rootless
from controlplane.telemetry.actions.span_sums import MOST_LATE, fold_spans
from controlplane.telemetry.models import Fold, LateSpans, SessionDay, Span
from controlplane.telemetry.queries import Edge, Session, Slot, TraceFilter
from controlplane.telemetry.resolutions import floor, whole_windows
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM, Asker

NOW = datetime(2026, 11, 25, 7, 3, 27, tzinfo=UTC)
KEPT = NOW - timedelta(days=13)
TABLES = [f"telemetry_{kind}_{step}" for kind in ("traces", "mesh") for step in ("10s", "15m", "6h")]
HOURS = 9  # across midnight


def _trace(number: int, at: datetime, tenant: str, *, status: int = 1, session: str = "", **more: Any) -> list[Span]:
    """Return a root, an agent below a step that is no party, a tool and an inference, over half a minute."""
    fields = {
        "tenant": tenant,
        "service": "app",
        "kind": 1,
        "duration_us": 9000,
        "session": session,
        "user": f"u-{tenant}",
    }
    shapes: list[dict[str, Any]] = [
        {"name": "root", "status": status},
        {"name": "step"},
        {"name": "a", "operation": "invoke_agent", "agent": f"agent-{number % 3}", "parent_span_id": f"{2:016x}"},
        {"name": "t", "operation": "execute_tool", "tool": "search", "parent_span_id": f"{3:016x}", "status": status},
        {"name": "m", "model": "gpt", "usage_by": 1 + number % 2, "input_tokens": 7, "cost_nusd": 5, "parent_span_id": f"{3:016x}"},
    ]  # fmt: skip
    return [
        Span(
            trace_id=f"{number:032x}", span_id=f"{place + 1:016x}", starts_at=at + place * timedelta(seconds=7),
            **{**fields, "status": 1, "parent_span_id": f"{1:016x}" if place else "", **shape, **more},
        )
        for place, shape in enumerate(shapes)
    ]  # fmt: skip


@pytest.fixture
def globex(db: None) -> Asker:
    """Fill nine hours with traces of three tenants; return who sees one of them, and one below it."""
    dice = random.Random(5)
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    root = create_tenant(by=SYSTEM, slug="globex", name="Globex")
    create_tenant(by=SYSTEM, slug="globex-eu", name="Globex Europe", parent=root)
    spans: list[Span] = []
    for number in range(1, 120):
        at = NOW - timedelta(seconds=dice.randrange(1, HOURS * 3600))
        tenant = dice.choice(["acme", "globex", "globex-eu"])
        session = f"s-{dice.randrange(12)}" if number % 4 else ""
        spans += _trace(number, at, tenant, status=1 + (dice.random() < 0.2), session=session)
    spans += _trace(500, NOW - timedelta(seconds=40), "acme", session="s-1")  # goes on after what is folded
    midnight = floor(NOW, 86400)
    spans += _trace(501, midnight - timedelta(seconds=10), "globex", session="s-2")
    Span.objects.bulk_create([span for span in spans if span.starts_at < NOW])
    return Asker(name="g", role=Role.ADMIN, tenant=root)


Told = tuple[list[Edge], list[Session], list[Slot], list[Slot]]


def _told(asker: Asker, hours: int, tenant: str = "") -> Told:
    since = NOW - timedelta(hours=hours)
    step = 900 if hours > 1 else 60
    wanted = TraceFilter(tenant=tenant)
    sessions = queries.sessions_seen_by(asker, wanted, floor(since, 86400))
    return (
        queries.mesh(asker, floor(since, 10), NOW, tenant or None),
        sessions,
        queries.trace_slots(asker, wanted, floor(since, step), NOW, step).steps,
        queries.trace_slots(asker, wanted, since, NOW, 77).steps,
    )


def _fold_all(now: datetime = NOW) -> None:
    while True:
        before = list(Fold.objects.filter(kind="spans").values_list("until", flat=True))
        fold_spans(now=now, kept_since=KEPT)
        if before == list(Fold.objects.filter(kind="spans").values_list("until", flat=True)):
            return


def _rows() -> list[list[tuple[Any, ...]]]:
    found = []
    with connection.cursor() as cursor:
        for table in (*TABLES, "telemetry_session_day"):
            cursor.execute(f"SELECT * FROM {table} ORDER BY {table}")
            found.append(cursor.fetchall())
    return found


@pytest.mark.parametrize("hours", [1, 8])
@pytest.mark.parametrize("whose", ["all", "one", "subtree"])
def test_sums__with_the_tail_of_spans__are_what_spans_alone_come_to(hours: int, whose: str, globex: Asker) -> None:
    asker, tenant = {"all": (SYSTEM, ""), "one": (SYSTEM, "acme"), "subtree": (globex, "")}[whose]
    plain = _told(asker, hours, tenant)

    _fold_all()

    assert Fold.objects.get(kind="spans").until == floor(NOW - span_sums.SETTLED, 10)
    assert _told(asker, hours, tenant) == plain
    assert all(plain)
    assert sum(slot.traces for slot in plain[2]) > 0


def test_sums__none_of_the_spans_are_left__are_told_without_them(globex: Asker) -> None:
    _fold_all(NOW + timedelta(minutes=1))
    edges, sessions, slots, _ = _told(SYSTEM, 8)

    Span.objects.all().delete()

    assert _told(SYSTEM, 8)[:3] == (edges, sessions, slots)
    assert edges
    assert sessions


def test_fold__again_and_again__changes_nothing(globex: Asker) -> None:
    _fold_all()
    rows = _rows()

    fold_spans(now=NOW, kept_since=KEPT)

    assert _rows() == rows
    assert all(rows)


def test_fold__a_worker_that_was_away__catches_up_in_parts(globex: Asker) -> None:
    plain = _told(SYSTEM, 8)
    fold_spans(now=NOW, kept_since=KEPT)
    part_way = Fold.objects.get(kind="spans").until

    assert part_way < NOW - timedelta(hours=8)
    assert _told(SYSTEM, 8) == plain
    _fold_all()
    assert _told(SYSTEM, 8) == plain


def test_fold__late_spans__are_in_sums_of_all_lengths(globex: Asker) -> None:
    late_trace = _trace(900, NOW - timedelta(hours=7, minutes=1), "acme", status=2, session="s-late")
    _fold_all()
    before = _told(SYSTEM, 8)
    Span.objects.bulk_create(late_trace)
    assert _told(SYSTEM, 8)[0] == before[0]
    LateSpans.objects.create(since=late_trace[0].starts_at, until=late_trace[-1].starts_at + timedelta(seconds=1))

    fold_spans(now=NOW, kept_since=KEPT)

    after = _told(SYSTEM, 8)
    Fold.objects.filter(kind="spans").delete()
    SessionDay.objects.all().delete()
    assert after == _told(SYSTEM, 8)
    assert "s-late" in {each.session for each in after[1]}
    assert sum(edge.calls for edge in after[0]) == sum(edge.calls for edge in before[0]) + 3
    assert not LateSpans.objects.exists()


def test_fold__a_long_time_that_got_late_spans__is_folded_in_portions_behind_what_else_waits(globex: Asker) -> None:
    early, last = NOW - timedelta(hours=7, minutes=1), NOW - timedelta(hours=2)
    _fold_all()
    for number, at in ((900, early), (901, last), (902, last - timedelta(hours=1))):
        Span.objects.bulk_create(_trace(number, at, "acme", status=2, session="s-late"))
    LateSpans.objects.create(since=early, until=last + timedelta(minutes=1))
    LateSpans.objects.create(since=last - timedelta(hours=1), until=last - timedelta(minutes=59))

    fold_spans(now=NOW, kept_since=KEPT)

    beginning = floor(early, 10) + MOST_LATE
    assert [each.since for each in LateSpans.objects.order_by("id")] == [last - timedelta(hours=1), beginning]
    for _ in range(16):
        fold_spans(now=NOW, kept_since=KEPT)
    assert not LateSpans.objects.exists()
    told = _told(SYSTEM, 8)
    Fold.objects.filter(kind="spans").delete()
    SessionDay.objects.all().delete()
    assert told == _told(SYSTEM, 8)


def test_fold__older_than_short_windows_are_kept__longer_ones_are_made_of_spans_again(globex: Asker) -> None:
    old = NOW - timedelta(days=5)
    Span.objects.bulk_create(_trace(800, old, "acme"))
    Fold.objects.create(kind="spans", until=floor(old, 86400))
    _fold_all(old + timedelta(days=1))
    for table in TABLES:
        if table.endswith("10s"):
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {table}")
    Fold.objects.filter(kind="spans").update(until=floor(NOW, 10) - timedelta(minutes=5))
    Span.objects.bulk_create(_trace(801, old + timedelta(minutes=4), "acme"))
    LateSpans.objects.create(since=old + timedelta(minutes=4), until=old + timedelta(minutes=5))

    fold_spans(now=NOW, kept_since=KEPT)

    day = floor(old, 86400)
    slots = queries.trace_slots(SYSTEM, TraceFilter(), day, day + timedelta(days=1), 6 * 3600).steps
    assert [slot.traces for slot in slots] == [0, 2, 0, 0]


def test_fold__many_notes__are_taken_some_at_a_time(globex: Asker) -> None:
    _fold_all()
    for hours in range(8):
        since = floor(NOW, 3600) - timedelta(hours=hours + 1)
        LateSpans.objects.create(since=since, until=since + timedelta(minutes=15))

    fold_spans(now=NOW, kept_since=KEPT)
    left = LateSpans.objects.count()
    for _ in range(left):
        fold_spans(now=NOW, kept_since=KEPT)

    assert left == 7
    assert not LateSpans.objects.exists()


def test_sums__of_a_trace_without_root__follow_what_comes(globex: Asker) -> None:
    def counted() -> int:
        return sum(slot.traces for slot in queries.trace_slots(SYSTEM, TraceFilter(), since, NOW, 900).steps)

    since = floor(NOW, 900) - timedelta(hours=8)
    root, *rest = _trace(700, NOW - timedelta(minutes=9), "acme")
    Span.objects.bulk_create(rest)
    _fold_all()
    without = counted()
    note_rootless(now=NOW)
    fold_spans(now=NOW, kept_since=KEPT)
    with_first = counted()
    root.starts_at -= timedelta(minutes=1)
    root.save(force_insert=True)
    LateSpans.objects.create(since=root.starts_at, until=root.starts_at + timedelta(seconds=1))
    note_rootless(now=NOW)
    fold_spans(now=NOW, kept_since=KEPT)

    assert with_first == without + 1 == counted()


def test_sessions__by_user__find_all_that_one_had(globex: Asker) -> None:
    Span.objects.bulk_create(_trace(600, NOW - timedelta(minutes=3), "acme", session="shared", user="ann"))
    Span.objects.bulk_create(_trace(601, NOW - timedelta(minutes=2), "acme", session="shared", user="zoe"))

    _fold_all()

    for user in ("ann", "zoe"):
        (found,) = queries.sessions_seen_by(SYSTEM, TraceFilter(user=user), NOW - timedelta(hours=1))
        assert (found.session, found.turns, found.spans) == ("shared", 2, 10)
    assert SessionDay.objects.get(session="shared").users == "ann\nzoe"


@pytest.mark.parametrize("few", [0, 2, 20])
def test_sessions__by_a_part_of_a_users_name__are_those_that_a_look_at_all_finds(
    few: int, globex: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted, "FEW_TENANTS", few)
    for number, (ago, tenant, user) in enumerate(
        ((400, "acme", "Zoë_1"), (90, "globex", "zoë-2"), (20, "acme", "yan"), (30_000, "globex-eu", "ZOë_3"))
    ):
        Span.objects.bulk_create(
            _trace(620 + number, NOW - timedelta(seconds=ago), tenant, session=f"of-{number}", user=user)
        )

    def told(limit: int = 100) -> list[list[Session]]:
        return [
            queries.sessions_seen_by(asker, TraceFilter(user=user), NOW - timedelta(hours=hours), limit)
            for asker in (SYSTEM, globex)
            for user in ("zoë", "Oë_", "yan", "u-acme", "u-", "nobody", "zoë-2\nz", "_")
            for hours in (1, 9)
        ]

    def both() -> tuple[list[list[Session]], list[list[Session]]]:
        known = list(Fold.objects.filter(kind="names"))
        narrowed = told() + told(3)
        Fold.objects.filter(kind="names").delete()
        plain = told() + told(3)
        Fold.objects.bulk_create(known)
        return narrowed, plain

    _fold_all(NOW - timedelta(seconds=50))
    narrowed, plain = both()
    assert narrowed == plain
    assert [each.session for each in narrowed[1]] == ["of-1", "of-0", "of-3"]
    assert not narrowed[10]
    _fold_all()
    late = _trace(640, NOW - timedelta(hours=5), "acme", session="of-9", user="zoë late")
    Span.objects.bulk_create(late)
    LateSpans.objects.create(since=late[0].starts_at, until=late[-1].starts_at + timedelta(seconds=1))
    fold_spans(now=NOW, kept_since=KEPT)
    narrowed, plain = both()
    assert narrowed == plain
    assert "of-9" in {each.session for each in narrowed[1]}


def test_sums__too_old__are_dropped_with_the_spans(globex: Asker) -> None:
    for day in (0, 20):
        retention.make_partitions(today=(NOW - timedelta(days=day)).date())
    _fold_all()
    every = (*retention.FINE_SUMS, *retention.SPAN_SUMS)

    dropped = [name for kept in every for name in retention.drop_partitions(kept, today=NOW.date(), keep_days=14)]

    assert len(dropped) == 3 * len(every)
    assert all(_rows())


def test_slots_of__when_spans_are_under_way__what_may_be_folded_is_noted() -> None:
    class Connection:
        async def execute(self, sql: str, values: list[str]) -> None:
            noted.extend(values)

    noted: list[str] = []
    begins = int((NOW - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds() * 10**6)
    rows: Any = [
        (begins - 300 * 10**6, 5),
        (begins - 100 * 10**6, 25 * 10**6),
        (begins - 60 * 10**6, 10**9),
        (begins, 10),
    ]

    note = late.note_late_spans(Connection(), late.slots_of(rows), now=NOW)  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        note.send(None)

    assert noted == [
        '{"2026-11-25T06:58:20+00:00","2026-11-25T07:01:40+00:00"}',
        '{"2026-11-25T06:58:30+00:00","2026-11-25T07:03:30+00:00"}',
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 900)), max_size=6), st.integers(0, 6000))
def test_whole_windows__any_times__cover_each_once_and_end_in_time(times: list[tuple[int, int]], limit: int) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ends = start + timedelta(seconds=limit // 60 * 60)
    wanted = [(start + timedelta(seconds=a), start + timedelta(seconds=a + b)) for a, b in times]

    found = whole_windows(60, wanted, ends)

    assert all(a[1] < b[0] for a, b in itertools.pairwise(found))
    assert all(floor(each, 60) == each for interval in found for each in interval)
    for begins, over in wanted:
        for at in (begins, over - timedelta(seconds=1)):
            assert (at < ends) == any(a <= at < b for a, b in found)


def test_sessions__spans_that_failed_do_not_name_the_session__are_its_errors_before_and_after_folding(db: None) -> None:
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    at = NOW - timedelta(minutes=3)
    spans = _trace(700, at, "acme", status=2, session="talk") + _trace(701, at, "acme", session="other")
    for span in spans[1:5]:
        span.session = ""
    Span.objects.bulk_create(spans)
    since = NOW - timedelta(hours=1)

    def told() -> list[tuple[str, int]]:
        (turn,) = queries.traces_seen_by(SYSTEM, TraceFilter(session="talk"), since, "", 9)
        assert turn.errors == 2
        return [(each.session, each.errors) for each in queries.sessions_seen_by(SYSTEM, TraceFilter(), since)]

    assert sorted(told()) == [("other", 0), ("talk", 2)]
    _fold_all()
    assert sorted(told()) == [("other", 0), ("talk", 2)]


def test_sessions__a_failed_span_comes_late_and_names_no_session__is_counted_when_its_time_is_folded_again(
    db: None,
) -> None:
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    at = NOW - timedelta(minutes=9)
    Span.objects.bulk_create(_trace(702, at, "acme", session="talk"))
    _fold_all()
    late = _trace(702, at + timedelta(minutes=2), "acme", status=2)[3]
    late.span_id = "f" * 16
    Span.objects.bulk_create([late])
    LateSpans.objects.create(since=late.starts_at, until=late.starts_at + timedelta(seconds=1))

    _fold_all()
    fold_spans(now=NOW, kept_since=KEPT)

    (found,) = queries.sessions_seen_by(SYSTEM, TraceFilter(), NOW - timedelta(hours=1))
    assert found.errors == 1
