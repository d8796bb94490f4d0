"""Windows of all lengths, and what all tenants come to: the same figures from many short rows or from few long ones."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.telemetry import queries
from controlplane.telemetry.actions.folding import fold_hours
from controlplane.telemetry.actions.ladder import climb
from controlplane.telemetry.models import CallWindow1m, CallWindow10s, Fold, LateHour
from controlplane.telemetry.packed import Packed, sought, tails_of
from controlplane.telemetry.queries import SEVEN, Course, Question
from controlplane.telemetry.queries.held import read_held
from controlplane.telemetry.queries.tables import COUNTS, table_of
from controlplane.telemetry.resolutions import (
    ALL_IN_ALL,
    BY_TENANT,
    EPOCH,
    TENANT_STEPS,
    TOGETHER,
    WHOLE,
    Piece,
    ceiling,
    floor,
    pieces,
)
from controlplane.tenancy.queries import SYSTEM
from tidegate.core.window import Distribution

NOW = datetime(2026, 11, 25, 14, 3, 27, tzinfo=UTC)
KEPT = NOW - timedelta(days=29)
KINDS = [("acme", "chat", "m1"), ("acme", "embed", "m2"), ("globex", "chat", "m1")]


def _window(at: datetime, kind: tuple[str, str, str], values: list[int]) -> dict[str, object]:
    spread = Distribution()
    spread.add_all(values)
    tenant, route, model = kind
    return {
        "starts_at": at, "tenant": tenant, "route": route, "model": model, "category": "c", "calls": len(values), "errors": len(values) // 3,
        "input_tokens": 10 * len(values), "cost_nusd": sum(values), "kinds": {"error.timeout": 1}, "latency_us": spread.packed(),
        "tokens": [], "call_cost_nusd": [], "queue_depth": [], "sessions": [],
    }  # fmt: skip


@pytest.fixture
def values(db: None) -> list[tuple[datetime, int]]:
    """Fill ten-second and minute windows of 26 hours as a sync would have; return all latencies with their times."""
    dice = random.Random(3)
    every: list[tuple[datetime, int]] = []
    fine, minutes = [], []
    start = floor(NOW, 60) - timedelta(hours=26)
    for number in range(26 * 60 + 1):
        at = start + timedelta(minutes=number)
        for kind in KINDS:
            if dice.random() < 0.85:
                continue
            some = [dice.randrange(1000, 900_000) for _ in range(3)]
            every += [(at, each) for each in some]
            minutes.append(CallWindow1m(**_window(at, kind, some)))
            if at > NOW - timedelta(hours=22):
                fine.append(CallWindow10s(**_window(at, kind, some)))
    CallWindow1m.objects.bulk_create(minutes)
    CallWindow10s.objects.bulk_create(fine)
    return every


def _climbed() -> None:
    fold_hours("windows", now=NOW, kept_since=KEPT)
    before = None
    while before != (marks := dict(Fold.objects.values_list("kind", "until"))):
        climb(now=NOW, kept_since=KEPT)
        before = marks


def _count(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT coalesce(sum(calls), 0)::bigint FROM {table}")
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("hours", [1, 3, 24, 25])
def test_figures__from_long_windows_and_from_short_ones__are_the_same(
    hours: int, values: list[tuple[datetime, int]]
) -> None:
    since = NOW - timedelta(hours=hours)
    plain = queries.figures(SYSTEM, since, NOW)
    assert "total" not in table_of(since, NOW, together=True)

    _climbed()

    assert "telemetry_total_1m" in table_of(since, NOW, together=True)
    assert queries.figures(SYSTEM, since, NOW) == plain
    exact = sorted(value for at, value in values if at >= since)
    assert plain.calls == len(exact)
    assert plain.latency_us.p99 == pytest.approx(exact[-(-99 * len(exact) // 100) - 1], rel=0.011)


def _decided() -> list[object]:
    since, until, limit = floor(NOW, 900) - timedelta(hours=24), floor(NOW, 900), 450_000.0
    lengths = [300, 3600, 86400]
    return [
        *(
            queries.counts_over(SYSTEM, NOW, lengths, column, limit, route)
            for column in ("", "latency_us")
            for route in ("", "chat")
        ),
        *(queries.beyond_steps(SYSTEM, since, until, step_s, "latency_us", limit) for step_s in (300, 900, 3600)),
        *(queries.beyond_by(SYSTEM, since, until, by, "latency_us", limit) for by in ("tenant", "route", "model")),
        *(queries.measured(SYSTEM, since, until, by) for by in ("", "tenant", "route")),
        *(queries.measured(SYSTEM, NOW - timedelta(minutes=14), NOW, by) for by in ("", "tenant", "route")),
        *(queries.measured_steps(SYSTEM, since, until, 900, by) for by in ("", "tenant", "model")),
        *(queries.measured_steps(SYSTEM, since, until, step_s) for step_s in (300, 3600, 21600)),
        *(
            queries.measured_steps(SYSTEM, since, ends, 300, "tenant", latency=latency)
            for latency in (True, False)
            for ends in (until, NOW)
        ),
        queries.beyond_steps(SYSTEM, since - timedelta(hours=1), until, 43200, "latency_us", 1_000_000.0),
        queries.beyond(SYSTEM, since, until, "latency_us", limit),
        queries.minutes_with_windows(SYSTEM, since + timedelta(hours=3), until),
    ]


def test_figures_for_decisions__from_long_windows_and_from_short_ones__are_the_same(
    values: list[tuple[datetime, int]],
) -> None:
    plain = _decided()

    _climbed()

    assert _decided() == plain
    since, until = floor(NOW, 300) - timedelta(hours=20), floor(NOW, 300) - timedelta(hours=1)
    held = read_held(["acme"], since, until, 19 * 12, COUNTS, latency=True, sampled=True)["acme"]
    assert held == queries.measured_steps(SYSTEM, since, until, 300, "tenant")["acme"]
    assert any(each.counts for each in held)
    since = floor(NOW, 900) - timedelta(hours=24)
    total, bad = queries.beyond(SYSTEM, since, floor(NOW, 900), "latency_us", 450_000.0)
    exact = [value for at, value in values if since <= at < floor(NOW, 900)]
    assert total == len(exact)
    near = [sum(value > 450_000 * part for value in exact) for part in (1.011, 1 / 1.011)]
    assert near[0] <= bad <= near[1]


@pytest.mark.parametrize("by", ["", "tenant", "route", "model"])
@pytest.mark.parametrize("hours", [1, 24])
def test_courses__from_long_windows_and_from_short_ones__are_the_same(
    hours: int, by: str, values: list[tuple[datetime, int]]
) -> None:
    step_s = 60 if hours == 1 else 900
    until = floor(NOW, step_s)
    asked = Question(until - timedelta(hours=hours), until, step_s, by)
    before = queries.course_seen_by(SYSTEM, SEVEN["request_latency_ms"], asked)
    points = queries.series(SYSTEM, asked.since, until, step_s)

    _climbed()

    assert queries.course_seen_by(SYSTEM, SEVEN["request_latency_ms"], asked) == before
    assert queries.series(SYSTEM, asked.since, until, step_s) == points
    assert sum(line.all.samples for line in before.lines) > 0


def test_courses__of_whole_tenants__need_not_be_merged(values: list[tuple[datetime, int]]) -> None:
    def told() -> list[Course]:
        return [
            queries.course_seen_by(
                SYSTEM, SEVEN[metric], Question(ceiling(NOW, step_s) - timedelta(hours=hours), ceiling(NOW, step_s), step_s, by, tenant)
            )
            for metric in ("request_latency_ms", "error_rate")
            for by, tenant in (("", ""), ("tenant", ""), ("route", ""), ("model", ""), ("", "acme"))
            for step_s, hours in ((900, 23), (10800, 24), (21600, 24), (86400, 24))
        ]  # fmt: skip

    before = told()

    _climbed()

    assert told() == before
    assert all(line.all.whole or line.all.samples for course in before for line in course.lines)
    assert {len(course.lines) for course in before} == {1, 2}
    with connection.cursor() as cursor:
        for by in ("tenant", "route", "model"):
            cursor.execute(f"SELECT count(*) FROM telemetry_{by}_15m WHERE cardinality(latency_us_told) = 8")
            assert cursor.fetchone()[0] > 90


def test_climb__again_and_again__changes_nothing(values: list[tuple[datetime, int]]) -> None:
    _climbed()
    every = (*BY_TENANT, *TOGETHER, *ALL_IN_ALL, *(rung for rungs in WHOLE.values() for rung in rungs))
    counts = [_count(rung.table) for rung in every]

    climb(now=NOW, kept_since=KEPT)

    assert [_count(rung.table) for rung in every] == counts
    assert _count("telemetry_tenant_15m") == 2 * _count("telemetry_window_15m")
    assert _count("telemetry_tenant_1d") > 0
    assert _count("telemetry_tenant_6h") == 2 * _count("telemetry_route_6h") == 2 * _count("telemetry_model_6h")
    assert _count("telemetry_all_1h") == _count("telemetry_total_1h") > 0
    assert _count("telemetry_all_5m") >= _count("telemetry_total_15m")
    assert _count("telemetry_total_15m") == _count("telemetry_window_15m") > 0
    assert _count("telemetry_total_6h") == _count("telemetry_window_6h") > 0


def test_climb__what_came_late__is_in_all_lengths(values: list[tuple[datetime, int]]) -> None:
    _climbed()
    late = floor(NOW - timedelta(hours=9), 60)
    row = _window(late, ("late", "chat", "m1"), [5000] * 40)
    CallWindow10s.objects.create(**row)
    CallWindow1m.objects.create(**row)
    LateHour.objects.create(kind="ladder", hour=late)
    LateHour.objects.create(kind="windows", hour=floor(late, 3600))
    kept = {
        *TOGETHER[:-1],
        *(rung for rung in ALL_IN_ALL if "_all_" in rung.table),
        WHOLE["route"][-1],
        WHOLE["model"][-1],
    }
    before = {rung.table: _count(rung.table) for rung in kept}
    whole, steps = _count("telemetry_tenant_15m"), _count(TENANT_STEPS.table)

    _climbed()
    _climbed()

    assert {rung.table: _count(rung.table) - before[rung.table] for rung in kept} == dict.fromkeys(before, 40)
    assert _count("telemetry_tenant_15m") == whole + 2 * 40  # of the tenant, and of all together
    assert _count(TENANT_STEPS.table) == steps + 2 * 40
    assert not LateHour.objects.exists()


@pytest.mark.parametrize("apart", [True, False])
def test_table_of__steps_that_begin_between_windows__are_read_from_minutes_which_are_kept_longest(apart: bool) -> None:
    table = table_of(NOW - timedelta(hours=48), NOW - timedelta(hours=24), step_s=900, apart=apart, marks={})

    assert "telemetry_window_1m" in table
    assert "telemetry_window_10s" not in table


MARKS = st.fixed_dictionaries(
    {rung.mark: st.integers(0, 10**6).map(lambda s: EPOCH + timedelta(seconds=s)) for rung in (*BY_TENANT, *TOGETHER) if rung.mark}
)  # fmt: skip


@settings(deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    MARKS,
    st.sampled_from([None, 10, 60, 900, 3600, 21600]),
    st.booleans(),
)
def test_pieces__any_span_of_time__are_cut_without_gap_or_overlap(
    begins: int, length: int, marks: dict[str, datetime], step_s: int | None, together: bool
) -> None:
    since, until = EPOCH + timedelta(seconds=begins), EPOCH + timedelta(seconds=begins + length)
    rungs = TOGETHER if together else BY_TENANT[:-1]

    found = pieces(since, until, rungs, marks, step_s=step_s, finest_s=10)

    steps = {rung.table: rung for rung in rungs}
    assert (found[0].since, found[-1].until) == (since, until)
    assert all(a.until == b.since for a, b in itertools.pairwise(found))
    for piece in found:
        rung = steps[piece.table]
        if rung.mark:
            assert piece.until <= marks[rung.mark]
            assert floor(piece.since, rung.step_s) == piece.since
            assert floor(piece.until, rung.step_s) == piece.until
            assert step_s is None or step_s % rung.step_s == 0


def test_pieces__a_day_till_now__is_few_long_ones_with_short_ones_at_the_end() -> None:
    marks = {"window_6h": floor(NOW, 21600), "windows": floor(NOW, 3600), "window_15m": floor(NOW, 900)}

    found = pieces(floor(NOW, 3600) - timedelta(hours=24), NOW, BY_TENANT[:-1], marks)

    assert [piece.table.rpartition("_")[2] for piece in found] == ["1h", "6h", "1h", "1m"]
    assert isinstance(found[0], Piece)


@given(st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=400), min_size=1, max_size=6))
def test_tails__of_rows_that_are_merged_or_only_searched__are_the_same(rows: list[list[int]]) -> None:
    packed, every = [], Distribution()
    for values in rows:
        spread = Distribution()
        spread.add_all(values)
        every.add_all(values)
        packed.append(Packed(spread.packed()[4:]))

    whole = tails_of([Packed(every.packed()[4:])])

    assert sought(packed) == whole
    assert tails_of(packed) == whole
    assert tails_of(packed, [tails_of([each]) for each in packed]) == whole
