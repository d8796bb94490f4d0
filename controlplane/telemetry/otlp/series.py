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
_LEAST, _MOST = -68_736, 65_536  # indexes of the least and the greatest number that there is
MOST_STREAMS = 64  # of one cumulative series
_FORGOTTEN_NS = 3600 * 10**9
FIRST_NS = 600 * 10**9  # within that time of its start anybody is heard for the first time
APART = 1000  # places within a millisecond


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
    """One point of a series. ``cumulative`` ones say what came together since ``start_ns``, others what was added.

    ``place``: of processes that send one series, the microsecond within a millisecond at which this one's point is kept.
    """

    key: SeriesKey
    cumulative: bool
    measure: Measure
    place: int | None = None

    @property
    def at_us(self) -> int:
        """When it was measured, in microseconds since 1970."""
        at_us = self.measure.at_ns // 1000
        return at_us if self.place is None else at_us - at_us % APART + self.place


def place_of(origin: Origin, measure: Measure) -> int | None:
    """Return where within its millisecond a point is kept, ``None`` where its time says that.

    Processes that are one instance may measure one series at one time. The same point that comes again has the same place.
    """
    if origin.alone:
        return None
    said = (measure.start_ns, measure.at_ns, measure.samples, measure.sum, measure.counts, measure.exponential)
    return int.from_bytes(hashlib.blake2b(origin.json + repr(said).encode(), digest_size=8).digest()) % APART


class Stream(NamedTuple):
    """What is known of one of those who send a cumulative series: its last point. Times in nanoseconds.

    Workers of one application that don't tell themselves apart send one series, each from its own start on.
    """

    at_ns: int
    start_ns: int
    samples: int
    sum: float
    counts: list[int]
    exponential: Exponential | None


State = tuple[Stream, ...]  # the one heard of last is the last


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
    if len(measure.attributes) > MAX_ATTRIBUTES:
        kept["tidegate.cut"] = b'"tidegate.cut":{"(attributes)":%d}' % (len(measure.attributes) - MAX_ATTRIBUTES)
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


def advance(state: State, point: PointRow, *, unheard: bool = False) -> tuple[State, Added | None]:
    """Return the state of a series after ``point``, and what the point added; ``None`` when it is known already.

    A stream that starts anew, or is seen for the first time, adds all that it says. Not so of a sender that was ``unheard`` before and has
    been counting for long: what it counted before now belongs to a time that nobody knows, so its first point only says from where on.
    """
    measure = point.measure
    if not point.cumulative:
        return state, _whole(measure)
    before = next((each for each in state if each.start_ns == measure.start_ns), None)
    if measure.at_ns <= (before.at_ns if before else _forgotten_ns(state)):
        return state, None
    fresh = Stream(measure.at_ns, measure.start_ns, measure.samples, measure.sum, measure.counts, measure.exponential)
    after = _with(state, before, fresh)
    if before is None and unheard and measure.at_ns - measure.start_ns > FIRST_NS:
        return after, None
    if before is None or _fell(before, measure):
        return after, _whole(measure)
    counts = [now - then for now, then in zip(measure.counts, before.counts, strict=True)]
    exponential = measure.exponential
    if exponential is not None and before.exponential is not None:
        exponential = exponential.since(before.exponential)
    samples = 1 if point.key.kind == Kind.SUM else measure.samples - before.samples
    # The least and the greatest of a cumulative point are those since its start: of what was added nobody knows.
    return after, Added(samples, measure.sum - before.sum, None, None, _buckets(counts, exponential))


def _forgotten_ns(state: State) -> int:
    """Return until when streams are forgotten: what is older is no new stream, but one that comes too late."""
    return state[-1].at_ns - _FORGOTTEN_NS if state else 0


def _with(state: State, before: Stream | None, fresh: Stream) -> State:
    others = [each for each in state if each is not before]
    newest = max([fresh.at_ns, *(each.at_ns for each in others)])
    kept = [each for each in others if each.at_ns > newest - _FORGOTTEN_NS]
    return tuple(sorted([*kept, fresh], key=lambda each: each.at_ns)[-MOST_STREAMS:])


def _fell(before: Stream, measure: Measure) -> bool:
    """Return whether a stream started anew without saying so."""
    if measure.samples < before.samples or len(measure.counts) != len(before.counts):
        return True
    if any(now < then for now, then in zip(measure.counts, before.counts, strict=True)):
        return True
    return not measure.counts and measure.exponential is None and measure.sum < before.sum


def _whole(measure: Measure) -> Added:
    buckets = _buckets(measure.counts, measure.exponential)
    return Added(measure.samples, measure.sum, measure.min, measure.max, buckets)


def _buckets(counts: Sequence[int], exponential: Exponential | None) -> list[int] | None:
    if exponential is not None:
        return exponential.packed()
    return list(counts) if counts else None
