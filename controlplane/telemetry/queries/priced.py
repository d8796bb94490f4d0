"""Usage by the prices that it was charged at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import orjson

from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.tenancy.queries import Asker


@dataclass(frozen=True)
class Charged:
    """What calls of one model used, by class, and what they were charged."""

    model: str
    calls: int
    unpriced_calls: int
    cost_nusd: int
    usage: dict[str, int]


def charged(
    asker: Asker, *, first_day: date, last_day: date, tenant: str | None = None, book: str | None = None
) -> list[Charged]:
    """Return the usage of every model between two UTC days, both included; of one ``book`` when its etag is given."""
    clause, values = where(slugs_read(asker, tenant), book=book)
    sql = f"""SELECT model, tg_whole(sum(calls)), tg_whole(sum(unpriced_calls)), tg_whole(sum(cost_nusd)), tg_counts_sum(usage)::text
              FROM telemetry_usage_priced WHERE day BETWEEN %s AND %s {clause} GROUP BY model ORDER BY model"""  # noqa: S608 - names of ours
    found = rows(sql, [first_day, last_day, *values])
    return [Charged(model, calls, unpriced, cost, orjson.loads(usage)) for model, calls, unpriced, cost, usage in found]
