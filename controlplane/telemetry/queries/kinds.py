"""What became of calls, by kind: the errors and refusals that rows of windows count."""

from __future__ import annotations

from datetime import datetime

from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.telemetry.queries.tables import windows_of
from controlplane.tenancy.queries import Asker


def kinds(asker: Asker, since: datetime, until: datetime, *, route: str, model: str = "") -> dict[str, int]:
    """Return how often each kind (``error.timeout``, ``refused.budget``) was counted on a route and model, the most first.

    What watching alone would have done is left out.
    """
    slugs = slugs_read(asker, None)
    clause, values = where(slugs, route=route, model=model)
    table = windows_of(slugs, since, until, route=route, model=model)
    sql = f"""SELECT kind, tg_whole(sum(amount::bigint)) FROM {table}, jsonb_each_text(kinds) AS each (kind, amount)
              WHERE starts_at >= %s AND starts_at < %s {clause} AND NOT starts_with(kind, 'shadow.')
              GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20"""  # noqa: S608 - names of ours, values as parameters
    return dict(rows(sql, [since, until, *values]))
