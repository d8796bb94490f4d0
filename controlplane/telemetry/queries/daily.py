"""Usage by day, kept for good: what calls, tokens and money went to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.tenancy.queries import Asker

Dimension = Literal["tenant", "route", "model", "category", "user"]
_MATCHED = ("route", "model", "category")


@dataclass(frozen=True)
class Usage:
    """What one tenant, route, model, category or user used in some days."""

    name: str
    calls: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cost_nusd: int


def usage(
    asker: Asker,
    by: Dimension,
    tenant: str | None = None,
    days: int = 30,
    today: date | None = None,
    limit: int = 50,
    match: Mapping[str, str] | None = None,
) -> list[Usage]:
    """Return usage of the last ``days`` UTC days up to ``today``, the dearest first.

    ``match`` may name a route, model and category to count alone; not by user. By user, tokens are all input.
    """
    named = {} if by == "user" or not match else {name: match[name] for name in _MATCHED if name in match}
    clause, values = where(slugs_read(asker, tenant), **named)
    if by == "user":
        columns, table = "sum(calls), sum(tokens), 0, 0, sum(cost_nusd)", "telemetry_usage_daily_user"
    else:
        columns = "sum(calls), sum(input_tokens), sum(output_tokens), sum(cached_input_tokens), sum(cost_nusd)"
        table = "telemetry_usage_daily"
    sql = f"""SELECT "{by}", {columns} FROM {table} WHERE day > coalesce(%s, (now() AT TIME ZONE 'UTC')::date) - %s {clause}
              GROUP BY 1 ORDER BY sum(cost_nusd) DESC, 1 LIMIT %s"""  # noqa: S608 - names of ours
    return [Usage(row[0], *map(int, row[1:])) for row in rows(sql, [today, days, *values, limit])]


@dataclass(frozen=True)
class DayCost:
    """Cost and calls of one UTC day under one name."""

    day: date
    name: str
    calls: int
    cost_nusd: int


def daily_costs(
    asker: Asker,
    by: Literal["tenant", "route", "model", "category"],
    today: date,
    days: int = 30,
    tenant: str | None = None,
    match: Mapping[str, str] | None = None,
) -> list[DayCost]:
    """Return cost per day and name, the oldest day first; names beyond the dearest seven are put under ``(others)``."""
    named = {name: match[name] for name in _MATCHED if name in match} if match else {}
    clause, values = where(slugs_read(asker, tenant), **named)
    sql = f"""
        WITH hit AS (SELECT day, "{by}" AS name, calls, cost_nusd FROM telemetry_usage_daily
                     WHERE day > %s::date - %s AND day <= %s {clause}),
        top AS (SELECT name FROM hit GROUP BY name ORDER BY sum(cost_nusd) DESC LIMIT 7)
        SELECT day, CASE WHEN name IN (SELECT name FROM top) THEN name ELSE '(others)' END,
               tg_whole(sum(calls)), tg_whole(sum(cost_nusd))
        FROM hit GROUP BY 1, 2 ORDER BY 1, 2"""  # noqa: S608 - names of ours
    return [DayCost(*row) for row in rows(sql, [today, days, today, *values])]
