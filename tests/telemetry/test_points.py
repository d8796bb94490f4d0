"""Points of metrics: what cumulative series add, how distributions are cut, what is beyond the cap."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from controlplane.telemetry.actions import points
from controlplane.telemetry.otlp.decoding import Decoded, Reading
from controlplane.telemetry.otlp.metrics import decode_json, decode_protobuf
from controlplane.telemetry.otlp.series import MOST_STREAMS, Exponential, PointRow, State, advance
from tidegate.core.window import Distribution

PLAIN = Reading(lambda claimed: claimed)
START = 1_700_000_000 * 10**9


def body(*metrics: dict[str, Any], **resource: str) -> bytes:
    """A request; ``resource`` by names with two lines for a dot: ``host__name``."""
    said = [{"key": name.replace("__", "."), "value": {"stringValue": value}} for name, value in resource.items()]
    return orjson.dumps(
        {"resourceMetrics": [{"resource": {"attributes": said}, "scopeMetrics": [{"metrics": list(metrics)}]}]}
    )


def counter(*points: tuple[int, float], cumulative: bool = True, monotonic: bool = True, **more: Any) -> dict[str, Any]:
    """A sum with points of (seconds after the start, value)."""
    made = [
        {"startTimeUnixNano": str(START), "timeUnixNano": str(START + at * 10**9), "asDouble": v} for at, v in points
    ]
    return {"name": "calls", "sum": {"dataPoints": made, "aggregationTemporality": 2 if cumulative else 1,
                                     "isMonotonic": monotonic}, **more}  # fmt: skip


def rows(*metrics: dict[str, Any]) -> list[PointRow]:
    return decode_json(body(*metrics), PLAIN).rows


def added(points: list[PointRow]) -> list[float | None]:
    state: State = ()
    found: list[float | None] = []
    for point in points:
        state, new = advance(state, point)
        found.append(None if new is None else new.sum)
    return found


def test_advance__cumulative__adds_differences_and_all_after_a_new_start() -> None:
    assert added(rows(counter((10, 5), (20, 7), (20, 7), (15, 6), (30, 7), (40, 2)))) == [5, 2, None, None, 0, 2]


def of_worker(start: int, *points: tuple[int, float]) -> dict[str, Any]:
    """A cumulative sum of a process that began ``start`` nanoseconds after the others."""
    made = counter(*points)
    for point in made["sum"]["dataPoints"]:
        point["startTimeUnixNano"] = str(START + start)
    return made


def test_advance__a_sender_never_heard_of_before__adds_what_it_counted_since_its_first_point_or_its_recent_start() -> (
    None
):
    def first(at: int, **more: Any) -> float | None:
        _, new = advance((), rows(counter((at, 9), **more))[0], unheard=True)
        return None if new is None else new.sum

    assert [first(at) for at in (60, 600, 601)] == [9, 9, None]
    assert first(6000, cumulative=False) == 9
    state, _ = advance((), rows(counter((6000, 9)))[0], unheard=True)
    for at, value, adds in ((6060, 12, 3), (6120, 4, 4)):  # the second one starts anew
        state, new = advance(state, rows(counter((at, value)))[0], unheard=True)
        assert new is not None
        assert new.sum == adds


@pytest.mark.parametrize("cumulative", [True, False])
def test_place__of_points_of_one_time__is_told_by_who_sent_them_and_what(cumulative: bool) -> None:
    def at_us(value: float = 1, **resource: str) -> int:
        (row,) = decode_json(body(counter((10, value), cumulative=cumulative), **resource), PLAIN).rows
        return row.at_us

    one, again = at_us(host__name="h", process__pid="1"), at_us(host__name="h", process__pid="1")
    two, more = at_us(host__name="h", process__pid="2"), at_us(2, host__name="h", process__pid="1")
    own = at_us(service__instance__id="i", process__pid="1")

    assert one == again
    assert len({one, two, more}) == 3
    assert {each // 1000 for each in (one, two, more)} == {own // 1000}
    assert own == (START + 10 * 10**9) // 1000


def test_advance__workers_that_do_not_tell_themselves_apart__add_up_to_what_all_of_them_counted() -> None:
    one, two = rows(of_worker(1, (10, 5), (20, 7), (30, 9))), rows(of_worker(2, (11, 50), (21, 70), (31, 90)))
    turns = [point for pair in zip(one, two, strict=True) for point in pair]

    assert added([*turns, *turns]) == [5, 50, 2, 20, 2, 20, *[None] * 6]


def test_advance__a_point_that_comes_very_late_from_nobody_known__adds_nothing() -> None:
    assert added(rows(of_worker(1, (7200, 5)), of_worker(2, (3000, 90)), of_worker(1, (7300, 6)))) == [5, None, 1]


def test_advance__a_new_process_every_minute__keeps_no_more_than_an_hour_of_them() -> None:
    state: State = ()
    for number in range(200):
        state, _ = advance(state, rows(of_worker(number + 1, (60 * (number + 1), 5)))[0])

    assert len(state) <= min(60, MOST_STREAMS)


def test_state__of_one_stream_and_of_several__is_read_as_it_was_kept() -> None:
    one, two = rows(of_worker(1, (10, 5)))[0], rows(of_worker(2, (11, 50)))[0]
    state, _ = advance((), one)
    both, _ = advance(state, two)

    assert points._state(orjson.loads(str(points._document(both)))) == both
    assert (
        points._state(orjson.loads(str(points._document(state)))[0]) == state
    )  # as it was kept before there were several
    assert (points._document(()), points._state(None)) == (None, ())


def refused(metric: dict[str, Any]) -> str:
    decoded = decode_json(body(metric), PLAIN)
    assert (len(decoded.rows), decoded.rejected) == (0, 1)
    return decoded.reason


def explicit(bounds: list[Any], **more: Any) -> dict[str, Any]:
    point = {
        "timeUnixNano": str(START),
        "count": "3",
        "sum": 6,
        "bucketCounts": ["1", "1", "1"],
        "explicitBounds": bounds,
    }
    return {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [point | more]}}


@pytest.mark.parametrize("bounds", [[2, 1], [1, 1], ["NaN", 1], [1, "Infinity"], ["-Infinity", 1], [1, 1.5e308]])
def test_decode__bounds_that_do_not_rise_or_are_no_numbers__are_refused(bounds: list[Any]) -> None:
    assert refused(explicit(bounds)) == "the bounds of a histogram are numbers that rise"


@pytest.mark.parametrize("value", ["NaN", "Infinity", 1.7e308])
def test_decode__a_value_that_no_sum_could_hold__is_refused(value: Any) -> None:
    assert "a value is a number" in refused(explicit([1, 2], sum=value))
    assert "a value is a number" in refused(explicit([1, 2], max=value))


def test_decode__what_does_not_fit_into_a_row__is_refused_by_itself() -> None:
    assert "time" in refused(explicit([1, 2], startTimeUnixNano=str(2**70)))
    assert "time" in refused(explicit([1, 2], timeUnixNano=str(2**70)))
    spread = {
        "timeUnixNano": str(START),
        "count": "1",
        "scale": 3,
        "positive": {"offset": 2**40, "bucketCounts": ["1"]},
    }
    assert "offset" in refused({"name": "e", "exponentialHistogram": {"dataPoints": [spread]}})


def test_decode__points_of_a_time_to_come__are_refused() -> None:
    reading = PLAIN._replace(until_ns=START + 10**9)

    assert decode_json(body(counter((0, 1))), reading).rejected == 0
    assert decode_json(body(counter((1, 1))), reading).rejected == 1


def test_decode__exemplars_without_a_trace_or_a_value__are_left_out() -> None:
    ids = {"traceId": "ab" * 16, "spanId": "cd" * 8}
    exemplars = [
        {**ids, "asDouble": 1}, {**ids, "asDouble": "NaN"}, {**ids, "traceId": "<b>", "asDouble": 2},
        {**ids, "spanId": "", "asDouble": 3}, {"asDouble": 4},
    ]  # fmt: skip

    (row,) = decode_json(body(explicit([1, 2], exemplars=exemplars)), PLAIN).rows

    assert [each.value for each in row.measure.exemplars] == [1]


def test_packed__counts_beyond_all_numbers__lie_at_the_greatest_one() -> None:
    (entry,) = Exponential.of(-99, 0, 5, [3]).packed()

    assert math.isfinite(2.0 ** ((entry >> 40) / 64 - 0.5 / 64))


def test_advance__delta_and_levels__are_taken_as_they_are() -> None:
    assert added(rows(counter((10, 5), (20, 7), cumulative=False))) == [5, 7]
    assert added(rows(counter((10, 5), (20, 3), monotonic=False))) == [5, 3]


def exponential(values: list[float], scale: int) -> dict[str, Any]:
    indexes = sorted(math.ceil(math.log2(value) * 2**scale) - 1 for value in values)
    counts = [0] * (indexes[-1] - indexes[0] + 1)
    for place in indexes:
        counts[place - indexes[0]] += 1
    return {"scale": scale, "offset": indexes[0], "counts": counts}


@given(st.lists(st.integers(2, 10**9), min_size=1, max_size=60), st.integers(6, 9))
def test_packed__an_exponential_histogram_as_fine_as_ours__is_the_distribution_of_windows(
    values: list[int], scale: int
) -> None:
    ours = Distribution()
    for value in values:
        ours.add(value)
    theirs = exponential([float(value) for value in values], scale)

    packed = Exponential.of(theirs["scale"], 0, theirs["offset"], theirs["counts"]).packed()

    mine = ours.packed()[4:]
    off = [abs((a >> 40) - (b >> 40)) for a, b in zip(packed, mine, strict=False)]
    assert len(packed) == len(mine)
    assert max(off) <= 1  # a logarithm that ends on a bound may fall to either side
    assert sum(entry & (2**40 - 1) for entry in packed) == len(values)


def test_packed__a_coarser_histogram__puts_counts_in_the_middle_of_its_buckets() -> None:
    (entry,) = Exponential.of(0, 0, 3, [5]).packed()  # (8, 16]

    assert 8 < 2 ** (((entry >> 40) - 0.5) / 64) < 16
    assert entry & (2**40 - 1) == 5


def test_since__scales_that_differ__are_compared_at_the_coarser_one() -> None:
    before, now = Exponential(3, 0, {8: 2, 9: 1}), Exponential(2, 1, {4: 4, 5: 1})

    assert now.since(before) == Exponential(2, 1, {4: 1, 5: 1})


def test_decode__protobuf_and_json_of_one_histogram__are_the_same_point() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="took", unit="s")
    metric.histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    point = metric.histogram.data_points.add(
        start_time_unix_nano=START, time_unix_nano=START + 1, count=3, sum=2.5, min=0.1, max=2.0,
        explicit_bounds=[0.5, 1.0], bucket_counts=[1, 1, 1],
    )  # fmt: skip
    exemplar = point.exemplars.add(as_double=2.0, trace_id=b"t" * 16, span_id=b"s" * 8)
    as_json = {
        "name": "took", "unit": "s",
        "histogram": {"aggregationTemporality": 2, "dataPoints": [{
            "startTimeUnixNano": str(START), "timeUnixNano": str(START + 1), "count": "3", "sum": 2.5, "min": 0.1, "max": 2,
            "explicitBounds": [0.5, 1], "bucketCounts": ["1", 1, "1"],
            "exemplars": [{"asDouble": 2.0, "traceId": exemplar.trace_id.hex(), "spanId": exemplar.span_id.hex()}]}]},
    }  # fmt: skip

    assert decode_protobuf(request.SerializeToString(), PLAIN).rows == rows(as_json)


@pytest.mark.parametrize(
    "broken",
    [
        {"name": "", "gauge": {"dataPoints": [{"timeUnixNano": "1", "asInt": "1"}]}},
        {"name": "x", "gauge": {"dataPoints": [{"asInt": "1"}]}},
        {"name": "x", "gauge": {"dataPoints": [{"timeUnixNano": "1", "asDouble": "NaN"}]}},
        {"name": "x", "histogram": {"dataPoints": [{"timeUnixNano": "1", "bucketCounts": [1], "explicitBounds": [1]}]}},
        {"name": "x", "histogram": {"dataPoints": [{"timeUnixNano": "1", "count": str(2**63)}]}},
    ],
)
def test_decode__points_that_can_not_be_kept__are_counted(broken: dict[str, Any]) -> None:
    decoded: Decoded[PointRow] = decode_json(body(broken, counter((1, 1))), PLAIN)

    assert (len(decoded.rows), decoded.rejected) == (1, 1)
    assert decoded.reason
