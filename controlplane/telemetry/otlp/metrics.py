"""OTLP metrics, protobuf or JSON, as points: a number, or a distribution as the sender cut it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from controlplane.telemetry.otlp.attributes import Attribute, clean, from_json, from_wire
from controlplane.telemetry.otlp.decoding import BadRequest, Decoded, Origin, Reading, hex_id
from controlplane.telemetry.otlp.series import Exemplar, Exponential, Kind, Measure, PointRow, key_of, place_of

MAX_EXEMPLARS = 3
MAX_BUCKETS = 512
MAX_COUNT = 2**53
MAX_PLACE = 2**31 + MAX_BUCKETS
MOST_VALUE = 1e300  # so that sums of some hundred million values stay numbers
_CUMULATIVE = (2, "AGGREGATION_TEMPORALITY_CUMULATIVE")
_NO_VALUE = 1  # DataPointFlags


class Metric(NamedTuple):
    """One metric of a request, whatever its encoding was."""

    name: str
    unit: str
    kind: Kind
    cumulative: bool
    monotonic: bool


def decode_protobuf(body: bytes, reading: Reading) -> Decoded[PointRow]:
    """Return the points of a protobuf request; ``BadRequest`` when it is none."""
    request = ExportMetricsServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise BadRequest(f"The body is no ExportMetricsServiceRequest: {error}.") from None
    points = _Points(reading)
    for group in request.resource_metrics:
        origin = Origin.of(_attributes(group.resource.attributes))
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                for head, measure in _measured(metric):
                    points.add(origin, head, measure)
    return points.decoded


def _attributes(pairs: Iterable[Any]) -> list[Attribute]:
    return [from_wire(pair.SerializeToString()) for pair in pairs]


def _measured(metric: pb.Metric) -> Iterator[tuple[Metric, Measure]]:
    which = metric.WhichOneof("data")
    if which is None:
        return
    kind, read = _READERS[which]
    data: Any = getattr(metric, which)
    cumulative = kind is Kind.SUMMARY or getattr(data, "aggregation_temporality", 0) in _CUMULATIVE
    head = Metric(metric.name, metric.unit, kind, cumulative, _monotonic(kind, getattr(data, "is_monotonic", False)))
    for point in data.data_points:
        yield head, read(point)


def _monotonic(kind: Kind, said: object) -> bool:
    return bool(said) if kind is Kind.SUM else kind is not Kind.GAUGE


def _common(point: Any, samples: int, total: float, **more: Any) -> Measure:
    return Measure(
        attributes=_attributes(point.attributes),
        start_ns=point.start_time_unix_nano,
        at_ns=point.time_unix_nano,
        empty=bool(point.flags & _NO_VALUE),
        samples=samples,
        sum=total,
        **more,
    )


def _exemplars(point: Any) -> list[Exemplar]:
    return [
        Exemplar(each.trace_id.hex(), each.span_id.hex(), float(getattr(each, each.WhichOneof("value") or "as_int")))
        for each in point.exemplars
    ]


def _number(point: pb.NumberDataPoint) -> Measure:
    value = float(getattr(point, point.WhichOneof("value") or "as_int"))
    return _common(point, 1, value, exemplars=_exemplars(point))


def _summary(point: pb.SummaryDataPoint) -> Measure:
    return _common(point, point.count, point.sum)


def _histogram(point: pb.HistogramDataPoint) -> Measure:
    return _common(
        point,
        point.count,
        point.sum,
        min=point.min if point.HasField("min") else None,
        max=point.max if point.HasField("max") else None,
        bounds=list(point.explicit_bounds),
        counts=list(point.bucket_counts),
        exemplars=_exemplars(point),
    )


def _exponential(point: pb.ExponentialHistogramDataPoint) -> Measure:
    below = sum(point.negative.bucket_counts)
    return _common(
        point,
        point.count,
        point.sum,
        min=point.min if point.HasField("min") else None,
        max=point.max if point.HasField("max") else None,
        exponential=Exponential.of(
            point.scale, point.zero_count + below, point.positive.offset, list(point.positive.bucket_counts)
        ),
        exemplars=_exemplars(point),
    )


_READERS: dict[str, tuple[Kind, Callable[[Any], Measure]]] = {
    "gauge": (Kind.GAUGE, _number),
    "sum": (Kind.SUM, _number),
    "histogram": (Kind.HISTOGRAM, _histogram),
    "exponential_histogram": (Kind.EXPONENTIAL, _exponential),
    "summary": (Kind.SUMMARY, _summary),
}


# JSON.


def decode_json(body: bytes, reading: Reading) -> Decoded[PointRow]:
    """Return the points of a JSON request; ``BadRequest`` when it is none."""
    points = _Points(reading)
    try:
        for group in orjson.loads(body).get("resourceMetrics") or []:
            origin = Origin.of([from_json(pair) for pair in (group.get("resource") or {}).get("attributes") or []])
            for scope in group.get("scopeMetrics") or []:
                for metric in scope.get("metrics") or []:
                    for head, measure in _measured_json(metric):
                        points.add(origin, head, measure)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise BadRequest(f"The body is no ExportMetricsServiceRequest in JSON: {error!r}.") from None
    return points.decoded


_JSON_KINDS = {
    "gauge": Kind.GAUGE,
    "sum": Kind.SUM,
    "histogram": Kind.HISTOGRAM,
    "exponentialHistogram": Kind.EXPONENTIAL,
    "summary": Kind.SUMMARY,
}


def _measured_json(metric: Mapping[str, Any]) -> Iterator[tuple[Metric, Measure]]:
    for name, kind in _JSON_KINDS.items():
        data = metric.get(name)
        if not data:
            continue
        cumulative = kind is Kind.SUMMARY or data.get("aggregationTemporality") in _CUMULATIVE
        monotonic = _monotonic(kind, data.get("isMonotonic"))
        head = Metric(str(metric.get("name") or ""), str(metric.get("unit") or ""), kind, cumulative, monotonic)
        for point in data.get("dataPoints") or []:
            yield head, _json_measure(kind, point)


def _json_measure(kind: Kind, point: Mapping[str, Any]) -> Measure:
    number = kind in (Kind.GAUGE, Kind.SUM)
    return Measure(
        attributes=[from_json(pair) for pair in point.get("attributes") or []],
        start_ns=int(point.get("startTimeUnixNano") or 0),
        at_ns=int(point.get("timeUnixNano") or 0),
        empty=bool(int(point.get("flags") or 0) & _NO_VALUE),
        samples=1 if number else int(point.get("count") or 0),
        sum=_json_number(point) if number else float(point.get("sum") or 0),
        min=_optional(point, "min"),
        max=_optional(point, "max"),
        bounds=[float(bound) for bound in point.get("explicitBounds") or []],
        counts=[int(count) for count in point.get("bucketCounts") or []],
        exponential=_json_exponential(point) if kind is Kind.EXPONENTIAL else None,
        exemplars=[
            Exemplar(str(each.get("traceId") or "").lower(), str(each.get("spanId") or "").lower(), _json_number(each))
            for each in point.get("exemplars") or []
        ],
    )


def _json_number(point: Mapping[str, Any]) -> float:
    return float(point["asInt"] if "asInt" in point else point.get("asDouble") or 0)


def _optional(point: Mapping[str, Any], name: str) -> float | None:
    value = point.get(name)
    return None if value is None else float(value)


def _json_exponential(point: Mapping[str, Any]) -> Exponential:
    positive, negative = point.get("positive") or {}, point.get("negative") or {}
    below = sum(int(count) for count in negative.get("bucketCounts") or [])
    return Exponential.of(
        int(point.get("scale") or 0),
        int(point.get("zeroCount") or 0) + below,
        int(positive.get("offset") or 0),
        [int(count) for count in positive.get("bucketCounts") or []],
    )


class _Points:
    """Makes points of what was measured, and counts what can't be kept."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.decoded: Decoded[PointRow] = Decoded()

    def add(self, origin: Origin, head: Metric, measure: Measure) -> None:
        fault = _fault(head.name, measure, self._reading.until_ns)
        if fault:
            self.decoded.reject(fault)
        elif not measure.empty:
            key = key_of(
                origin,
                clean(head.name),
                clean(head.unit),
                head.kind,
                head.monotonic,
                measure,
                self._reading.tenant_of,
            )
            # What may fall as well is a level, not something that adds up.
            adds_up = head.monotonic or head.kind is not Kind.SUM
            measure = measure._replace(exemplars=_usable(measure.exemplars))
            place = place_of(origin, measure)
            self.decoded.rows.append(PointRow(key, head.cumulative and adds_up, measure, place))


def _usable(exemplars: Sequence[Exemplar]) -> list[Exemplar]:
    """Return the last few of those that name a trace and a value."""
    named = [
        each
        for each in exemplars
        if hex_id(each.trace_id, 32) and hex_id(each.span_id, 16) and abs(each.value) <= MOST_VALUE
    ]
    return named[-MAX_EXEMPLARS:]


def _fault(name: str, measure: Measure, until_ns: int) -> str:
    if not 1 <= len(name) <= 255:
        return "a metric has a name of 1 to 255 characters"
    if not 0 < measure.at_ns < until_ns or not 0 <= measure.start_ns < until_ns:
        return "a point has a time, in nanoseconds since 1970, that is not to come"
    if measure.counts and len(measure.counts) != len(measure.bounds) + 1:
        return "a histogram has one more bucket than it has bounds"
    if not all(-MOST_VALUE <= low < high <= MOST_VALUE for low, high in pairwise([-MOST_VALUE, *measure.bounds])):
        return "the bounds of a histogram are numbers that rise"
    return _unusable(measure)


def _unusable(measure: Measure) -> str:
    counts = [measure.samples, *measure.counts]
    if measure.exponential is not None:
        counts += [measure.exponential.zero, *measure.exponential.counts.values()]
        if not -100 < measure.exponential.scale <= 20:
            return "an exponential histogram has a scale from -99 to 20"
        if any(abs(place) > MAX_PLACE for place in measure.exponential.counts):
            return "an exponential histogram has an offset of 32 bits"
    if len(counts) > MAX_BUCKETS + 2:
        return f"a histogram has at most {MAX_BUCKETS} buckets"
    if min(counts) < 0 or max(counts) >= MAX_COUNT:
        return "a count is out of range"
    # Written so that what is no number is beyond as well.
    if any(number is not None and not abs(number) <= MOST_VALUE for number in (measure.sum, measure.min, measure.max)):
        return f"a value is a number of at most {MOST_VALUE:g}"
    return ""
