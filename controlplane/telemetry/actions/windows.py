"""Folding windows into the rollups: 10 seconds, 1 minute, and days; in the caller's transaction.

Who calls sees to it that every window is folded once: in the same transaction as its number is acknowledged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from operator import add, itemgetter, le
from typing import Any, NamedTuple

from msgspec.structs import astuple
from psycopg import AsyncConnection

from controlplane.columns import moments, plain, texts
from controlplane.telemetry.actions.bounds import added, bounded, counts_json
from controlplane.telemetry.actions.late import note_late, note_late_minutes
from controlplane.telemetry.actions.priced import Priced, Values
from controlplane.telemetry.schemas import DISTRIBUTIONS, SUMS, SessionsRow, UserRow, WindowRow
from tidegate.core.usage import apart
from tidegate.core.window import Distribution

Names = tuple[str, str, str, str]  # tenant, route, model, category
Bucket = tuple[datetime, str, str, str, str]  # start, and names
Day = tuple[date, str, str, str, str]
UserDay = tuple[date, str, str]

# Clocks that are wrong must not put calls into a future that no page shows, nor before anything is kept.
_AHEAD = timedelta(seconds=5)
_BEHIND = timedelta(days=31)
_DAILY = ("calls", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nusd")
_DAILY_PLACES = tuple(map(SUMS.index, _DAILY))
_SHAPES = {"kinds": "jsonb", **dict.fromkeys((*DISTRIBUTIONS, "sessions"), "bigint[]")}
_CALLS, _INPUT, _CACHED = map(SUMS.index, _DAILY[:3])
_NAMES = 4  # columns of a row before its sums: ``Names``
_SLOT_MS = 10_000


class Counted(NamedTuple):
    """What one window of one instance, or one report of its sessions, adds. Tenants have been checked by the caller.

    ``samples``: for how many seconds the report of sessions stands.
    """

    starts_ms: int
    book: str = ""
    rows: Sequence[WindowRow] = ()
    users: Sequence[UserRow] = ()
    sessions: Sequence[SessionsRow] = ()
    samples: int = 1


@dataclass(slots=True)
class _Sums:
    amounts: list[int] = field(default_factory=lambda: [0] * len(SUMS))
    kinds: dict[str, int] = field(default_factory=dict)
    distributions: dict[str, Distribution] = field(default_factory=dict)

    def add(self, more: _Sums) -> None:
        self.amounts = list(map(add, self.amounts, more.amounts))
        for kind, count in more.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count
        for name, distribution in more.distributions.items():
            self.of(name).merge(distribution)

    def of(self, name: str) -> Distribution:
        return self.distributions.setdefault(name, Distribution())

    def packed(self, name: str) -> str:
        """Return the array literal of a distribution: arrays of arrays can't be ragged, texts can. Of kinds, their JSON."""
        if name == "kinds":
            return counts_json(self.kinds)
        distribution = self.distributions.get(name)
        return "{" + ",".join(map(str, distribution.packed())) + "}" if distribution else "{}"


def _sums_of(rows: Iterable[Values]) -> tuple[_Sums, bool]:
    """Add up rows, column by column: most columns of most rows are empty. Tell, too, whether their usage is what its sums say."""
    columns = list(zip(*rows, strict=True))[_NAMES:]
    kinds, usage, *distributions = columns[len(SUMS) :]
    sums = _Sums([sum(column) for column in columns[: len(SUMS)]])
    for counts in filter(None, kinds):
        for kind, count in counts.items():
            sums.kinds[kind] = sums.kinds.get(kind, 0) + count
    for name, column in zip(DISTRIBUTIONS, distributions, strict=True):
        for packed in filter(None, column):
            sums.of(name).merge(Distribution.from_packed(packed))
    cached, fresh = columns[_CACHED], columns[_INPUT]
    return sums, all(columns[_CALLS]) and not any(usage) and all(map(le, cached, fresh))


class _Folded:
    """What windows add to the tables, by the keys of each."""

    def __init__(self) -> None:
        self.fine: defaultdict[Bucket, _Sums] = defaultdict(_Sums)
        self.days: defaultdict[Day, list[int]] = defaultdict(lambda: [0] * len(_DAILY))
        self.users: defaultdict[UserDay, list[int]] = defaultdict(lambda: [0, 0, 0])
        self.priced = Priced()

    def add_rows(self, ten_s: datetime, book: str, rows: Mapping[Names, list[Values]]) -> None:
        """Add the rows of ten seconds whose costs were reckoned by one book."""
        day = ten_s.date()
        for names, alike in rows.items():
            sums, plain_usage = _sums_of(alike)
            self.fine[ten_s, *names].add(sums)
            daily = [sums.amounts[index] for index in _DAILY_PLACES]
            _accumulate(self.days[day, *names], daily)
            if plain_usage:
                calls, fresh, cached, out, cost = daily
                usage = apart({}, fresh=fresh, cached=cached, out=out)
                self.priced.count((day, names[0], names[2], book), (calls, sums.kinds.get("unpriced", 0), cost), usage)
            else:
                self.priced.add(day, book, alike)

    def add_rest(self, ten_s: datetime, window: Counted) -> None:
        """Add what a window says of users and sessions."""
        for user in window.users:
            _accumulate(self.users[ten_s.date(), user.tenant, user.user], [user.calls, user.tokens, user.cost_nusd])
        for seen in window.sessions:
            self.fine[ten_s, seen.tenant, seen.route, "", ""].of("sessions").add_same(seen.active, window.samples)


async def fold(connection: AsyncConnection[Any], windows: Iterable[Counted], *, now: datetime) -> None:
    """Add ``windows`` to all rollups."""
    folded = _fold(windows, now)
    starts = {key[0] for key in folded.fine}
    await _store_windows(connection, folded.fine, starts)
    await _store_days(connection, folded.days)
    await _store_users(connection, folded.users)
    await folded.priced.store(connection)
    await note_late(connection, "windows", starts, now=now)
    await note_late_minutes(connection, starts, now=now)


def _fold(windows: Iterable[Counted], now: datetime) -> _Folded:
    folded = _Folded()
    alike: defaultdict[tuple[int, str], defaultdict[Names, list[Values]]]
    alike = defaultdict(lambda: defaultdict(list))
    now_ms, first_ms, last_ms = map(_ms, (now, now - _BEHIND, now + _AHEAD))
    for window in windows:
        starts_ms = window.starts_ms if first_ms <= window.starts_ms <= last_ms else now_ms
        slot = starts_ms // _SLOT_MS
        if window.rows:
            same = alike[slot, window.book]
            for row in map(astuple, window.rows):
                same[row[:_NAMES]].append(row)
        if window.users or window.sessions:
            folded.add_rest(_slot_start(slot), window)
    for (slot, book), rows in alike.items():
        folded.add_rows(_slot_start(slot), book, rows)
    return folded


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _slot_start(slot: int) -> datetime:
    return datetime.fromtimestamp(slot * _SLOT_MS // 1000, UTC)


def _accumulate(sums: list[int], more: list[int]) -> None:
    for index, amount in enumerate(more):
        sums[index] += amount


@cache
def _window_upsert(table: str, shapes: tuple[str, ...]) -> bytes:
    """Return the statement for windows that have no others than these of ``kinds`` and the distributions.

    What merges a distribution is made ready for every statement that names it, whether any row has one or not.
    """
    keys = ("starts_at", "tenant", "route", "model", "category")
    casts = {name: f"{name}::{kind}" if name in shapes else f"'{{}}'::{kind}" for name, kind in _SHAPES.items()}
    merges = {name: "tg_counts_merge" if name == "kinds" else "tg_dist_merge" for name in shapes}
    updates = [
        *(f"{name} = {added(name)}" for name in SUMS),
        *(f"{name} = {merge}(kept.{name}, excluded.{name})" for name, merge in merges.items()),
    ]
    return f"""
        INSERT INTO {table} AS kept ({", ".join((*keys, *SUMS, *casts))})
        SELECT {", ".join(("(%s::timestamptz[])[place]", *keys[1:], *["(%s::bigint[])[place]"] * len(SUMS), *casts.values()))}
        FROM unnest({", ".join(["%s::text[]"] * (len(keys) - 1 + len(shapes)))}) WITH ORDINALITY
             AS row ({", ".join((*keys[1:], *shapes, "place"))})
        ON CONFLICT ({", ".join(keys)}) DO UPDATE SET {", ".join(updates)}
    """.encode()  # noqa: S608  (names of our own tables and columns)


async def _store_windows(
    connection: AsyncConnection[Any], fine: Mapping[Bucket, _Sums], starts: Collection[datetime]
) -> None:
    """Add windows of ten seconds, which begin at ``starts``, to their table and to that of minutes."""
    if not fine:
        return
    rows = _columns_of(fine)
    await rows.store(connection, "telemetry_window_10s")
    if len(starts) > 1:
        coarse: defaultdict[Bucket, _Sums] = defaultdict(_Sums)
        for (start, *names), sums in fine.items():
            coarse[start.replace(second=0), names[0], names[1], names[2], names[3]].add(sums)
        rows = _columns_of(coarse)
    else:  # the same rows in the same order
        rows = rows._replace(starts=[start.replace(second=0) for start in rows.starts])
    await rows.store(connection, "telemetry_window_1m")


class _Columns(NamedTuple):
    """Windows in the order of their keys, so that two processes never wait for each other."""

    shapes: tuple[str, ...]  # those of ``kinds`` and the distributions that there are
    starts: list[datetime]
    rest: list[str]

    async def store(self, connection: AsyncConnection[Any], table: str) -> None:
        await connection.execute(_window_upsert(table, self.shapes), [moments(self.starts), *self.rest])


def _columns_of(windows: Mapping[Bucket, _Sums]) -> _Columns:
    ordered = sorted(windows.items(), key=itemgetter(0))
    sums = [each for _, each in ordered]
    named = {name for each in sums for name in each.distributions}
    if any(each.kinds for each in sums):
        named.add("kinds")
    shapes = tuple(name for name in _SHAPES if name in named)
    starts, *names = (list(column) for column in zip(*(key for key, _ in ordered), strict=True))
    rest = [
        *map(bounded, zip(*(each.amounts for each in sums), strict=True)),
        *map(texts, names),
        *(texts([each.packed(name) for each in sums]) for name in shapes),
    ]
    return _Columns(shapes, starts, rest)


def _key_columns(first: Callable[[list[Any]], str], keys: Iterable[Sequence[Any]]) -> list[str]:
    """Return the columns of keys that start with a time and go on with names."""
    head, *names = (list(column) for column in zip(*keys, strict=True))
    return [first(head), *map(texts, names)]


async def _store_days(connection: AsyncConnection[Any], days: Mapping[Day, list[int]]) -> None:
    if not days:
        return
    ordered = sorted(days.items())
    starts, *names = _key_columns(plain, [key for key, _ in ordered])
    await connection.execute(
        f"""
        INSERT INTO telemetry_usage_daily AS kept (day, tenant, route, model, category, calls, input_tokens,
                                                   cached_input_tokens, output_tokens, cost_nusd)
        SELECT (%s::date[])[place], tenant, route, model, category, {", ".join(["(%s::bigint[])[place]"] * len(_DAILY))}
        FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS row (tenant, route, model, category, place)
        ON CONFLICT (day, tenant, route, model, category) DO UPDATE
        SET {", ".join(f"{name} = {added(name)}" for name in _DAILY)}
        """.encode(),  # noqa: S608  (names of our own columns)
        [
            starts,
            *(bounded(sums[index] for _, sums in ordered) for index in range(len(_DAILY))),
            *names,
        ],
    )


async def _store_users(connection: AsyncConnection[Any], users: Mapping[UserDay, list[int]]) -> None:
    if not users:
        return
    ordered = sorted(users.items())
    await connection.execute(
        f"""
        INSERT INTO telemetry_usage_daily_user AS kept (day, tenant, "user", calls, tokens, cost_nusd)
        SELECT * FROM unnest(%s::date[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])
        ON CONFLICT (day, tenant, "user") DO UPDATE
        SET {", ".join(f"{name} = {added(name)}" for name in ("calls", "tokens", "cost_nusd"))}
        """.encode(),  # noqa: S608  (names of our own columns)
        [
            *_key_columns(plain, [key for key, _ in ordered]),
            *(bounded(sums[index] for _, sums in ordered) for index in range(3)),
        ],
    )
