"""Lines of a metric over time: one per name, each in steps, with percentiles out of merged buckets.

A source is SQL for rows ``(name, at, amount, part, whole, samples, total, least, most, weight, entries, bounds, tails)``: what adds up, a
share's part and whole, the samples of a distribution with their sum and extremes, what ranks names, and buckets: packed ones or,
with ``bounds``, one count per bucket of an explicit histogram. With ``tails``, the buckets that the quantiles lie in, a row is all that there
is of its name and step, and has no buckets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from controlplane.telemetry.packed import QUANTILES, SHIFT, Packed, gathered, tails_of
from controlplane.telemetry.patience import packed_rows, patient_rows
from tidegate.core.window import BUCKETS_PER_OCTAVE

MOST_LINES = 8
NO_QUANTILES: tuple[float | None, ...] = (None,) * len(QUANTILES)
_WHOLE = datetime(1, 1, 1, tzinfo=UTC)  # stands for the whole range where a step would stand
_LN_2 = math.log(2.0)
_GREATEST = 65_536  # the bucket of the greatest number that there is
_ZERO = -90_000  # below it lies OTLP's bucket of zero, and of what is negative


class Source(NamedTuple):
    """Where rows come from: a statement and its parameters. Without a ``spread`` it has no buckets; ``packed``: all are packed and in
    few long rows."""

    sql: str
    values: list[Any]
    spread: bool = True
    packed: bool = False
    whole: tuple[str, list[Any]] | None = None  # the same range in rows that are fewer, with all their buckets


class Step(NamedTuple):
    """What one line came to in one step of time, in the units of its source. ``quantiles`` are those of ``QUANTILES``."""

    amount: float = 0.0
    part: float = 0.0
    whole: float = 0.0
    samples: int = 0
    total: float = 0.0
    least: float | None = None
    most: float | None = None
    quantiles: tuple[float | None, ...] = NO_QUANTILES


@dataclass(frozen=True)
class Line:
    """One name's course; ``steps`` has all steps of the range, empty ones as ``None``. ``all`` is of the whole range."""

    name: str
    steps: list[Step | None]
    all: Step


@dataclass(frozen=True)
class Course:
    """The lines of a range, the heaviest first, and how many names there were in all."""

    since: datetime
    until: datetime
    step_s: int
    lines: list[Line] = field(default_factory=list)
    names: int = 0

    @property
    def times(self) -> list[datetime]:
        """The starts of all steps."""
        count = max(0, -(-int((self.until - self.since).total_seconds()) // self.step_s))
        return [self.since + timedelta(seconds=self.step_s * number) for number in range(count)]


def _index(value: str) -> str:
    """Return SQL for the packed index of a value."""
    return f"ceil({BUCKETS_PER_OCTAVE} * ln(greatest({value}, 1e-300)) / ln(2.0::float8))::bigint"


def _index_of(value: float) -> int:
    return math.ceil(BUCKETS_PER_OCTAVE * math.log(max(value, 1e-300)) / _LN_2)


@lru_cache(maxsize=256)
def _middles(bounds: tuple[float, ...]) -> list[int]:
    """Return the packed indexes of the middles of explicit buckets, but for the last one."""
    first = _index_of(bounds[0] / 2)
    return [first] + [
        _index_of(math.sqrt(low) * math.sqrt(high) if low > 0 else high / 2) for low, high in pairwise(bounds)
    ]


def _packed(bounds: Sequence[float], amounts: Sequence[int], most: float | None) -> Packed:
    """Return the amounts of an explicit histogram as packed buckets: the same as ``_SPREAD`` makes of them."""
    last = _index_of(max(bounds[-1], bounds[-1] if most is None else most))
    buckets = [*_middles(tuple(bounds)), last]
    known = [(bucket, amount) for bucket, amount in zip(buckets, amounts, strict=False) if amount]
    return Packed(
        [(bucket << SHIFT) + amount for bucket, amount in known],
        seen=list(accumulate([amount for _, amount in known], initial=0)),
    )


# An explicit bucket counts at its middle. The first has no beginning, the last no end but the greatest value that there was.
_BUCKET = f"""CASE WHEN cardinality(bounds) = 0 THEN packed
    WHEN place > cardinality(bounds) THEN {_index("greatest(bounds[place - 1], coalesce(most, bounds[place - 1]))")}
    WHEN place = 1 OR bounds[place - 1] <= 0 THEN {_index("bounds[place] / 2")}
    ELSE {_index("sqrt(bounds[place - 1] * bounds[place])")} END"""
_COUNTED = "CASE WHEN cardinality(bounds) = 0 THEN entry & ((1::bigint << 40) - 1) ELSE entry END"
_TAILS = ", ".join(
    f"min(bucket) FILTER (WHERE seen >= ceil(total * {share})) AS t{place}" for place, share in enumerate(QUANTILES)
)
# Equal buckets of equal bounds are added up before it is told which of ours they are; the last one ends at what was the most.
_SPREAD = f""", added AS (
        SELECT name, slot, bounds, CASE WHEN cardinality(bounds) = 0 THEN 0 ELSE place END AS place,
               CASE WHEN cardinality(bounds) = 0 THEN entry >> 40 END AS packed,
               CASE WHEN cardinality(bounds) > 0 AND place > cardinality(bounds) THEN most END AS most, tg_whole(sum({_COUNTED})) AS amount
        FROM kept, unnest(entries) WITH ORDINALITY AS each (entry, place) GROUP BY 1, 2, 3, 4, 5, 6),
    spread AS (
        SELECT name, slot, bucket, tg_whole(sum(amount)) AS amount FROM (SELECT name, slot, {_BUCKET} AS bucket, amount FROM added) AS told
        GROUP BY GROUPING SETS ((name, slot, bucket), (name, bucket))),
    ranked AS (
        SELECT name, coalesce(slot, '0001-01-01Z') AS slot, bucket,
               sum(amount) OVER (PARTITION BY name, slot ORDER BY bucket) AS seen,
               sum(amount) OVER (PARTITION BY name, slot) AS total FROM spread WHERE amount > 0),
    tails AS (SELECT name, slot, {_TAILS} FROM ranked GROUP BY name, slot)"""  # noqa: S608 - names of ours


def _statement(source: Source, most: int, *, named: bool) -> str:
    """Return SQL whose parameters are those of the source, the step, the start, and the names when they are given."""
    chosen = "name = ANY(%s)" if named else f"rank <= {most}"
    tails = "t0, t1, t2, t3" if source.spread else "NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint"
    return f"""
        WITH hit AS MATERIALIZED ({source.sql}),
        weighed AS (SELECT name, row_number() OVER (ORDER BY sum(weight) DESC, name) AS rank FROM hit GROUP BY name),
        kept AS MATERIALIZED (
            SELECT hit.*, date_bin(%s, at, %s) AS slot FROM hit JOIN weighed USING (name) WHERE {chosen})
        {_SPREAD if source.spread else ""},
        summed AS (
            SELECT name, slot AS step, sum(amount)::float AS amount, sum(part)::float AS part, sum(whole)::float AS whole,
                   tg_whole(sum(samples)) AS samples, sum(total)::float AS total, min(least)::float AS least, max(most)::float AS most
            FROM kept GROUP BY GROUPING SETS ((name, slot), (name))),
        placed AS (SELECT *, coalesce(step, '0001-01-01Z') AS slot FROM summed)
        SELECT name, slot, amount, part, whole, samples, total, least, most, {tails},
               (SELECT rank FROM weighed WHERE weighed.name = placed.name), (SELECT count(*) FROM weighed)
        FROM placed {"LEFT JOIN tails USING (name, slot)" if source.spread else ""}"""  # noqa: S608 - sources of ours


class Merged:
    """What rows of one name in one step add up to."""

    __slots__ = ("figures", "known", "least", "most", "rows")

    def __init__(self) -> None:
        self.figures = [0.0] * 5  # amount, part, whole, samples, total
        self.least: float | None = None
        self.most: float | None = None
        self.rows: list[Packed] = []
        # The buckets of the quantiles, where all that there is was merged.
        self.known: Sequence[int | None] | None = None

    def add(self, figures: Sequence[Any], least: float | None, most: float | None) -> None:
        amount, part, whole, samples, total = figures
        own = self.figures
        own[0] += amount or 0
        own[1] += part or 0
        own[2] += whole or 0
        own[3] += samples or 0
        own[4] += total or 0
        if least is not None and (self.least is None or least < self.least):
            self.least = least
        if most is not None and (self.most is None or most > self.most):
            self.most = most

    def add_row(
        self, amount: float, part: float, whole: float, samples: int | None, total: float | None, least: float | None, most: float | None,
        entries: Packed | None, tails: Packed | None, bounds: list[float] | None,
    ) -> None:  # fmt: skip
        """Add a row of a source. It has no buckets where nothing was counted, as in a cumulative histogram that stood still."""
        self.add((amount, part, whole, samples, total), least, most)
        if tails:
            self.known = tails.entries
        elif entries:
            spread = _packed(bounds, entries.entries, most) if bounds else entries
            if spread:
                self.rows.append(spread)

    def merge(self, other: Merged) -> None:
        self.add(other.figures, other.least, other.most)
        self.rows += other.rows

    def step(self, parts: Sequence[Sequence[int | None]] = ()) -> Step:
        """Tell what it comes to; ``parts``: the buckets of the quantiles of what it is merged of."""
        amount, part, whole, samples, total = self.figures
        least, most = self.least, self.most
        tails = tuple([_within(bucket, least, most) for bucket in self.tails(parts)])
        return Step(amount, part, whole, int(samples), total, least, most, tails)

    def tails(self, parts: Sequence[Sequence[int | None]] = ()) -> Sequence[int | None]:
        """Return the buckets that the quantiles lie in."""
        if self.known is None:
            if not parts:
                self.rows = list(gathered(self.rows))  # who merges this with others need not do it again
            self.known = self.rows[0].tails() if len(self.rows) == 1 else tails_of(self.rows, parts)
        return self.known


def _merged(source: Source, course: Course, names: Sequence[str] | None, most: int) -> Course:
    """Merge packed buckets here: where rows are few and long that is ten times as quick as in SQL."""
    chosen = "name = ANY(%s)" if names is not None else f"rank <= {most}"
    sql = f"""
        WITH hit AS MATERIALIZED ({source.sql}),
        weighed AS (
            SELECT name, row_number() OVER (ORDER BY sum(weight) DESC, name) AS rank, count(*) OVER () AS names FROM hit GROUP BY name)
        SELECT name, rank, names, date_bin(%s, at, %s), amount::float8, part::float8, whole::float8, samples, total::float8,
               least::float8, most::float8, entries, tails, bounds FROM hit JOIN weighed USING (name) WHERE {chosen}"""  # noqa: S608 - sources of ours
    values = [*source.values, timedelta(seconds=course.step_s), course.since]
    found: dict[tuple[int, str], dict[datetime, Merged]] = {}
    count = 0
    for name, rank, count, slot, *rest in packed_rows(  # noqa: B007
        sql, [*values, list(names)] if names is not None else values
    ):
        slots = found.setdefault((rank, name), {})
        sums = slots.get(slot)
        if sums is None:
            sums = slots[slot] = Merged()
        sums.add_row(*rest)
    buckets = _buckets(source.whole, [name for _, name in found]) if source.whole else {}
    lines = []
    times = course.times
    for (_, name), slots in sorted(found.items()):
        every, parts = Merged(), [sums.tails() for sums in slots.values()]  # told first: then the rows of each are one
        for sums in slots.values():
            every.merge(sums)
        every.rows = buckets.get(name, every.rows)
        steps = [sums.step() if (sums := slots.get(at)) else None for at in times]
        lines.append(Line(name, steps, every.step(parts)))
    return replace(course, lines=lines, names=count)


def _buckets(source: tuple[str, list[Any]], names: Sequence[str]) -> dict[str, list[Packed]]:
    """Return the packed buckets of all rows of some names."""
    sql, values = source
    found: dict[str, list[Packed]] = {}
    sql = f"SELECT name, entries FROM ({sql}) AS hit WHERE name = ANY(%s) AND entries IS NOT NULL"  # noqa: S608 - sources of ours
    for name, entries in packed_rows(sql, [*values, list(names)]):
        if entries:
            found.setdefault(name, []).append(entries)
    return found


def course_of(
    source: Source,
    since: datetime,
    until: datetime,
    step_s: int,
    names: Sequence[str] | None = None,
    most: int = MOST_LINES,
) -> Course:
    """Return the ``most`` heaviest lines of a source, or those of ``names``; ``TooDear`` when that takes too long."""
    if source.packed:
        return _merged(source, Course(since, until, step_s), names, most)
    values = [*source.values, timedelta(seconds=step_s), since]
    if names is not None:
        values.append(list(names))
    found: dict[str, dict[datetime, Step]] = {}
    ranks: dict[str, int] = {}
    count = 0
    for name, slot, *rest in patient_rows(_statement(source, most, named=names is not None), values):
        *figures, rank, count = rest
        ranks[name] = rank
        found.setdefault(name, {})[slot] = _step(figures)
    course = Course(since, until, step_s, [], count)
    times = course.times
    for name in sorted(found, key=ranks.__getitem__):
        steps = found[name]
        course.lines.append(Line(name, [steps.get(at) for at in times], steps.get(_WHOLE, Step())))
    return course


def _step(figures: Sequence[Any]) -> Step:
    amount, part, whole, samples, total, least, most, *tails = figures
    quantiles = tuple(_within(tail, least, most) for tail in tails)
    return Step(amount or 0.0, part or 0.0, whole or 0.0, samples or 0, total or 0.0, least, most, quantiles)


@lru_cache(maxsize=8192)
def _middle(bucket: int) -> float:
    return 0.0 if bucket < _ZERO else 2.0 ** ((min(bucket, _GREATEST) - 0.5) / BUCKETS_PER_OCTAVE)


def _within(bucket: int | None, least: float | None, most: float | None) -> float | None:
    """Return the middle of a bucket, no less than the least and no more than the greatest value that there was."""
    if bucket is None:
        return None
    value = _middle(bucket)
    if most is not None and value > most:
        value = most
    return least if least is not None and value < least else value
