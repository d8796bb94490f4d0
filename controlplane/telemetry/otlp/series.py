"""Series and points of OTLP metrics: what makes a series one, and what a cumulative one added since its last point.

Exponential histograms are brought to buckets that grow by 2^(1/64) (OTLP's scale 6), the same as those of call windows: a finer
scale merges into it exactly; of a coarser one the middle of each bucket counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import orjson

from controlplane.telemetry.otlp import vocabulary as v
from controlplane.telemetry.otlp.attributes import Attribute
from controlplane.telemetry.otlp.decoding import Origin

SCALE = 6
ZERO = -100_000  # the bucket of zero and of what is below it
MAX_ATTRIBUTES = 64
_SHIFT = 40
_LEAST, _MOST = -99_999, 1 << 22  # indexes that fit beside a count into 64 bits


class Kind(StrEnum):
    GAUGE = "gauge"
    SUM = "sum"
    HISTOGRAM = "histogram"
    EXPONENTIAL = "exponential"
    SUMMARY = "summary"


class Exemplar(NamedTuple):
    trace_id: str
    span_id: str
    value: float


class Exponential(NamedTuple):
    """Counts by index at a scale: index i holds values in (base^i, base^(i+1)], base = 2^(2^-scale)."""

    scale: int
    zero: int
    counts: dict[int, int]

    @classmethod
    def of(cls, scale: int, zero: int, offset: int, counts: Sequence[int]) -> Exponential:
        """Return what a data point holds; a finer scale than ours is merged into ours at once."""
        found = cls(scale, zero, {offset + place: count for place, count in enumerate(counts) if count})
        return found.at(SCALE) if scale > SCALE else found

    def at(self, scale: int) -> Exponential:
        """Return the same at a coarser scale, exactly."""
        counts: dict[int, int] = {}
        for place, count in self.counts.items():
            merged = place >> (self.scale - scale)
            counts[merged] = counts.get(merged, 0) + count
        return Exponential(scale, self.zero, counts)

    def packed(self) -> list[int]:
        """Return ``index << 40 | count`` in order of index, at the scale of the tables."""
        wide = SCALE - self.scale
        placed: dict[int, int] = {ZERO: self.zero} if self.zero else {}
        for place, count in self.counts.items():
            middle = place + 1 if wide == 0 else (place << wide) + (1 << (wide - 1)) + 1
            middle = min(_MOST, max(_LEAST, middle))
            placed[middle] = placed.get(middle, 0) + count
        return [(place << _SHIFT) + count for place, count in sorted(placed.items())]

    def since(self, before: Exponential) -> Exponential:
        """Return what was added since ``before``, at the coarser scale of the two."""
        scale = min(self.scale, before.scale)
        now, then = self.at(scale), before.at(scale)
        counts = {place: count - then.counts.get(place, 0) for place, count in now.counts.items()}
        return Exponential(scale, max(0, now.zero - then.zero), {i: count for i, count in counts.items() if count > 0})


class Measure(NamedTuple):
    """One data point as it was sent. ``samples`` is the count of a distribution, 1 for a number."""

    attributes: list[Attribute]
    start_ns: int
    at_ns: int
    samples: int
    sum: float
    empty: bool = False
    min: float | None = None
    max: float | None = None
    bounds: list[float] = []  # noqa: RUF012 - never changed
    counts: list[int] = []  # noqa: RUF012
    exponential: Exponential | None = None
    exemplars: list[Exemplar] = []  # noqa: RUF012


class SeriesKey(NamedTuple):
    """What a series is known by. ``digest`` is over all of it."""

    digest: bytes
    tenant: str
    name: str
    unit: str
    kind: str
    monotonic: bool
    service: str
    instance: str
    route: str
    model: str
    release: str
    attributes: bytes
    bounds: list[float]

    def overflowing(self) -> SeriesKey:
        """Return the series that takes what goes beyond the number of series that a tenant may have."""
        bare = self._replace(instance="", route="", model="", release="", attributes=b'{"otel.metric.overflow":true}')
        return bare._replace(digest=_digest(bare))


class PointRow(NamedTuple):
    """One point of a series. ``cumulative`` ones say what came together since ``start_ns``, others what was added."""

    key: SeriesKey
    cumulative: bool
    measure: Measure


class State(NamedTuple):
    """What is known of a cumulative series: its last point. Times in nanoseconds."""

    at_ns: int
    start_ns: int
    samples: int
    sum: float
    counts: list[int]
    exponential: Exponential | None


class Added(NamedTuple):
    """What a point added to its series."""

    samples: int
    sum: float
    min: float | None
    max: float | None
    buckets: list[int] | None  # by the series' bounds, or packed


def key_of(
    origin: Origin,
    name: str,
    unit: str,
    kind: Kind,
    monotonic: bool,
    measure: Measure,
    tenant_of: Callable[[str], str],
) -> SeriesKey:
    """Return the key of the series that a point belongs to."""
    said = dict(origin.said)
    ranks: dict[int, int] = {}
    kept: dict[str, bytes] = {}
    for attribute in measure.attributes[:MAX_ATTRIBUTES]:
        if attribute.message:
            continue
        kept[attribute.key] = attribute.json
        if attribute.slot and attribute.rank <= ranks.get(attribute.slot, 99) and attribute.value not in (None, ""):
            ranks[attribute.slot] = attribute.rank
            said[attribute.slot] = attribute.value
    key = SeriesKey(
        digest=b"",
        tenant=tenant_of(str(said.get(v.TENANT, "")))[:64],
        name=name,
        unit=unit[:63],
        kind=kind.value,
        monotonic=monotonic,
        service=origin.service,
        instance=origin.instance,
        route=str(said.get(v.ROUTE, ""))[:64],
        model=str(said.get(v.MODEL, ""))[:120],
        release=str(said.get(v.RELEASE, ""))[:64],
        attributes=b"{" + b",".join(kept[each] for each in sorted(kept)) + b"}",
        bounds=measure.bounds,
    )
    return key._replace(digest=_digest(key))


def _digest(key: SeriesKey) -> bytes:
    names = "\0".join((key.tenant, key.name, key.unit, key.kind, key.service, key.instance, str(key.monotonic)))
    whole = names.encode() + b"\0" + key.attributes + b"\0" + orjson.dumps(key.bounds)
    return hashlib.blake2b(whole, digest_size=16).digest()


def advance(state: State | None, point: PointRow) -> tuple[State | None, Added | None]:
    """Return the state of a series after ``point``, and what the point added; ``None`` when it is known already.

    A cumulative series that starts anew, or is seen for the first time, adds all that it says.
    """
    measure = point.measure
    if not point.cumulative:
        return state, _whole(measure)
    if state is not None and measure.at_ns <= state.at_ns:
        return state, None
    fresh = State(measure.at_ns, measure.start_ns, measure.samples, measure.sum, measure.counts, measure.exponential)
    if state is None or state.start_ns != measure.start_ns or _fell(state, measure):
        return fresh, _whole(measure)
    counts = [now - then for now, then in zip(measure.counts, state.counts, strict=True)]
    exponential = measure.exponential
    if exponential is not None and state.exponential is not None:
        exponential = exponential.since(state.exponential)
    samples = 1 if point.key.kind == Kind.SUM else measure.samples - state.samples
    # The least and the greatest of a cumulative point are those since its start: of what was added nobody knows.
    return fresh, Added(samples, measure.sum - state.sum, None, None, _buckets(counts, exponential))


def _fell(state: State, measure: Measure) -> bool:
    """Return whether the series started anew without saying so."""
    if measure.samples < state.samples or len(measure.counts) != len(state.counts):
        return True
    if any(now < then for now, then in zip(measure.counts, state.counts, strict=True)):
        return True
    return not measure.counts and measure.exponential is None and measure.sum < state.sum


def _whole(measure: Measure) -> Added:
    buckets = _buckets(measure.counts, measure.exponential)
    return Added(measure.samples, measure.sum, measure.min, measure.max, buckets)


def _buckets(counts: Sequence[int], exponential: Exponential | None) -> list[int] | None:
    if exponential is not None:
        return exponential.packed()
    return list(counts) if counts else None
