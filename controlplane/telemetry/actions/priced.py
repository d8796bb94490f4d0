"""Usage by the prices that it was charged at: per day, tenant, model and price book, every class of usage apart.

What another book would make of it can be reckoned from that (``controlplane.budgets.repricing``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from psycopg import AsyncConnection

from controlplane.columns import plain, texts
from controlplane.telemetry.actions.bounds import added, bounded, counts_json
from controlplane.telemetry.schemas import WindowRow
from tidegate.core.usage import CLASSES, apart

Key = tuple[date, str, str, str]  # day, tenant, model, book


def _amounts_of(row: WindowRow) -> tuple[int, int, int]:
    return row.calls, row.kinds.get("unpriced", 0), row.cost_nusd


def _usage_of(rows: Iterable[WindowRow]) -> dict[str, int]:
    """Return the disjoint usage of rows. Those that say no more than the three sums are added up first."""
    usage: Counter[str] = Counter()
    fresh = cached = out = 0
    for row in rows:
        if row.usage or row.cached_input_tokens > row.input_tokens:
            beyond = {name: count for name, count in row.usage.items() if name in CLASSES}
            sums = {"fresh": row.input_tokens, "cached": row.cached_input_tokens, "out": row.output_tokens}
            usage.update(apart(beyond, **sums))
        else:
            fresh += row.input_tokens
            cached += row.cached_input_tokens
            out += row.output_tokens
    usage.update(apart({}, fresh=fresh, cached=cached, out=out))
    return usage


class Priced:
    """What rows of windows come to; kept apart until they are stored."""

    def __init__(self) -> None:
        self._sums: dict[Key, list[int]] = {}  # calls, of them unpriced, cost
        self._usage: dict[Key, dict[str, int]] = {}

    def add(self, day: date, book: str, rows: Iterable[WindowRow]) -> None:
        """Count rows of one tenant and model whose costs were reckoned by ``book``."""
        counted = [row for row in rows if row.calls or row.cost_nusd]
        if not counted:
            return
        key = (day, counted[0].tenant, counted[0].model, book)
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
        await connection.execute(
            f"""
            INSERT INTO telemetry_usage_priced AS kept (day, tenant, model, book, calls, unpriced_calls, cost_nusd, usage)
            SELECT (%s::date[])[place], tenant, model, book, (%s::bigint[])[place], (%s::bigint[])[place], (%s::bigint[])[place],
                   usage::jsonb
            FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS row (tenant, model, book, usage, place)
            ON CONFLICT (day, tenant, model, book) DO UPDATE
            SET calls = {added("calls")}, unpriced_calls = {added("unpriced_calls")}, cost_nusd = {added("cost_nusd")},
                usage = tg_counts_merge(kept.usage, excluded.usage)
            """.encode(),  # noqa: S608  (names of our own columns)
            [
                plain(days),
                *(bounded(self._sums[key][index] for key in keys) for index in range(3)),
                *map(texts, (tenants, models, books)),
                texts([counts_json(self._usage[key]) for key in keys]),
            ],
        )
