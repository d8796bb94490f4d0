"""Usage by the prices that it was charged at: per day, tenant, model and price book, every class of usage apart.

What another book would make of it can be reckoned from that (``controlplane.budgets.repricing``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any

from psycopg import AsyncConnection

from controlplane.columns import plain, texts
from controlplane.telemetry.actions.bounds import added, bounded, counts_json
from controlplane.telemetry.schemas import WindowRow
from tidegate.core.usage import CLASSES, apart
from tidegate.core.window import MOST

# Few, as there is a statement for each of their sets.
_USUAL = {"input", "cached_input", "cache_write", "output", "reasoning"}
Key = tuple[date, str, str, str]  # day, tenant, model, book
Values = tuple[Any, ...]  # of a ``WindowRow``, in the order of its fields


# Where the values of a row are that is counted here.
_PLACES = {name: place for place, name in enumerate(WindowRow.__struct_fields__)}
_TENANT, _MODEL, _KINDS, _USAGE, _CALLS, _COST, _INPUT, _CACHED, _OUTPUT = (
    _PLACES[name]
    for name in (
        "tenant", "model", "kinds", "usage", "calls", "cost_nusd", "input_tokens", "cached_input_tokens", "output_tokens",
    )
)  # fmt: skip


def _amounts_of(row: Values) -> tuple[int, int, int]:
    return row[_CALLS], row[_KINDS].get("unpriced", 0), row[_COST]


def _usage_of(rows: Iterable[Values]) -> dict[str, int]:
    """Return the disjoint usage of rows. Those that say no more than the three sums are added up first."""
    usage: Counter[str] = Counter()
    fresh = cached = out = 0
    for row in rows:
        if row[_USAGE] or row[_CACHED] > row[_INPUT]:
            beyond = {name: count for name, count in row[_USAGE].items() if name in CLASSES}
            usage.update(apart(beyond, fresh=row[_INPUT], cached=row[_CACHED], out=row[_OUTPUT]))
        else:
            fresh += row[_INPUT]
            cached += row[_CACHED]
            out += row[_OUTPUT]
    usage.update(apart({}, fresh=fresh, cached=cached, out=out))
    return usage


class Priced:
    """What rows of windows come to; kept apart until they are stored."""

    def __init__(self) -> None:
        self._sums: dict[Key, list[int]] = {}  # calls, of them unpriced, cost
        self._usage: dict[Key, dict[str, int]] = {}

    def add(self, day: date, book: str, rows: Iterable[Values]) -> None:
        """Count rows of one tenant and model whose costs were reckoned by ``book``."""
        counted = [row for row in rows if row[_CALLS] or row[_COST]]
        if not counted:
            return
        key = (day, counted[0][_TENANT], counted[0][_MODEL], book)
        amounts = [sum(column) for column in zip(*map(_amounts_of, counted), strict=True)]
        self.count(key, amounts, _usage_of(counted))

    def count(self, key: Key, amounts: Sequence[int], usage: Mapping[str, int]) -> None:
        """Count calls, those of them without a price, and cost; and their disjoint usage."""
        sums = self._sums.setdefault(key, [0, 0, 0])
        for index, amount in enumerate(amounts):
            sums[index] += amount
        kept = self._usage.setdefault(key, {})
        for name, number in usage.items():
            kept[name] = kept.get(name, 0) + number

    async def store(self, connection: AsyncConnection[Any]) -> None:
        """Add everything to the table, in the order of its keys."""
        if not self._sums:
            return
        keys = sorted(self._sums)
        days, tenants, models, books = (list(column) for column in zip(*keys, strict=True))
        named = {name for usage in self._usage.values() for name in usage}
        await connection.execute(
            _upsert(tuple(sorted(named)) if named <= _USUAL else None),
            [
                plain(days),
                *(bounded(self._sums[key][index] for key in keys) for index in range(3)),
                *map(texts, (tenants, models, books)),
                texts([counts_json(self._usage[key]) for key in keys]),
            ],
        )


@cache
def _upsert(names: tuple[str, ...] | None) -> bytes:
    """Return the statement for usage that has no other classes than these; ``None``: any.

    To add up a few classes by their names takes PostgreSQL a fifth of what it takes to go through all that there are.
    """
    usage = "tg_counts_merge(kept.usage, excluded.usage)" if names is None else _added_by_name(names)
    return f"""
        INSERT INTO telemetry_usage_priced AS kept (day, tenant, model, book, calls, unpriced_calls, cost_nusd, usage)
        SELECT (%s::date[])[place], tenant, model, book, (%s::bigint[])[place], (%s::bigint[])[place], (%s::bigint[])[place],
               usage::jsonb
        FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS row (tenant, model, book, usage, place)
        ON CONFLICT (day, tenant, model, book) DO UPDATE
        SET calls = {added("calls")}, unpriced_calls = {added("unpriced_calls")}, cost_nusd = {added("cost_nusd")},
            usage = {usage}
    """.encode()  # noqa: S608  (names of our own columns and classes)


def _added_by_name(names: Iterable[str]) -> str:
    sums = [
        f"'{name}', nullif(least(coalesce((kept.usage->>'{name}')::bigint, 0) + coalesce((excluded.usage->>'{name}')::bigint, 0), "
        f"{MOST}), 0)"
        for name in names
    ]
    return f"kept.usage || jsonb_strip_nulls(jsonb_build_object({', '.join(sums)}))"
