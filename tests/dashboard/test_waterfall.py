"""A trace as a tree in time: order, sums, time alone and the critical path, for any shape that spans may have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from controlplane.telemetry.models import Span
from dashboard.waterfall import Waterfall, as_columns, waterfall_of

START = datetime(2026, 11, 25, 12, tzinfo=UTC)


def span(name: str, parent: str, starts_us: int, took_us: int, **more: object) -> Span:
    fields = {"status": 1, "service": "app", "kind": 1, "tenant": "", **more}
    return Span(
        trace_id="t", span_id=name, parent_span_id=parent, name=name, starts_at=START + timedelta(microseconds=starts_us),
        duration_us=took_us, **fields,
    )  # fmt: skip


def named(found: Waterfall, what: str) -> dict[str, object]:
    return {line.span.name: getattr(line, what) for line in found.lines}


def test_waterfall__a_tree__is_in_order_with_depths_and_time_alone() -> None:
    found = waterfall_of([span("b", "a", 10, 20), span("a", "", 0, 100), span("c", "a", 20, 30), span("d", "b", 12, 5)])

    assert [(line.span.name, line.depth, line.parent) for line in found.lines] == [
        ("a", 0, -1),
        ("b", 1, 0),
        ("d", 2, 1),
        ("c", 1, 0),
    ]
    assert named(found, "self_us") == {"a": 60, "b": 15, "d": 5, "c": 30}
    assert named(found, "size") == {"a": 4, "b": 2, "d": 1, "c": 1}


def test_waterfall__critical_path__is_what_the_whole_waited_for() -> None:
    found = waterfall_of(
        [span("a", "", 0, 100), span("b", "a", 10, 40), span("c", "a", 20, 60), span("d", "c", 30, 10)]
    )

    # 80..100 a, 40..80 c, 30..40 d, 20..30 c, 0..20: before c began b ran, from 10 on
    assert named(found, "critical_us") == {"a": 30, "b": 10, "c": 50, "d": 10}


def test_waterfall__usage__is_of_all_below_and_counted_once() -> None:
    found = waterfall_of(
        [
            span("agent", "", 0, 9),
            span("call", "agent", 1, 5, usage_by=2, input_tokens=105, cost_nusd=7),
            span("chat", "call", 2, 3, usage_by=1, input_tokens=100, output_tokens=2, status=2),
        ]
    )

    assert named(found, "tokens") == {"agent": 105, "call": 105, "chat": 102}
    assert named(found, "cost_nusd") == {"agent": 7, "call": 7, "chat": 0}
    assert named(found, "errors") == {"agent": 1, "call": 1, "chat": 1}


def test_waterfall__parents_that_are_missing_and_rings__stand_at_the_top() -> None:
    found = waterfall_of([span("x", "gone", 5, 5), span("y", "z", 0, 9), span("z", "y", 1, 3), span("me", "me", 2, 1)])

    assert found.missing == ["gone"]
    assert {line.span.name for line in found.lines if line.depth == 0} == {"x", "y", "me"}
    assert [line.span.name for line in found.lines if line.orphan] == ["y", "x"] or len(found.lines) == 4


@given(st.lists(st.tuples(st.integers(-1, 30), st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=30))
def test_waterfall__any_spans__keeps_each_once_and_the_path_is_no_longer_than_the_whole(
    shapes: list[tuple[int, int, int]],
) -> None:
    spans = [
        span(f"s{number}", f"s{parent}" if parent >= 0 else "", starts, took)
        for number, (parent, starts, took) in enumerate(shapes)
    ]

    found = waterfall_of(spans)

    assert sorted(line.span.span_id for line in found.lines) == sorted(each.span_id for each in spans)
    assert all(line.parent < place for place, line in enumerate(found.lines))
    assert sum(line.critical_us for line in found.lines) <= found.whole_us
    assert all(0 <= line.self_us <= line.span.duration_us for line in found.lines)
    assert len(as_columns(found)["rows"]) == len(spans)


def test_waterfall__a_chain_of_fifty_thousand__is_drawn() -> None:
    spans = [span(f"{n}", f"{n - 1}" if n else "", n, 100_000 - n) for n in range(50_000)]

    found = waterfall_of(spans)

    assert found.lines[-1].depth == 49_999
    assert found.lines[0].size == 50_000
