"""What enforcement that only watches would have done."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.telemetry.queries.tables import BY_HOURS
from controlplane.tenancy.queries import Asker

_PREFIX = "shadow."


@dataclass
class Watched:
    """Calls of one tenant and route that were let through and would have been refused, of ``calls`` in all."""

    tenant: str
    route: str
    calls: int
    would_refuse: int = 0
    cost_nusd: int = 0  # what those calls did cost
    reasons: dict[str, int] = field(default_factory=dict)  # a call may have several

    @property
    def share(self) -> float | None:
        """0 to 1; ``None`` without calls."""
        return self.would_refuse / self.calls if self.calls else None


def watched(
    asker: Asker, since: datetime, until: datetime, tenant: str | None = None, limit: int = 100
) -> list[Watched]:
    """Return what would have been refused from the hour of ``since`` to ``until``, the most calls first."""
    clause, values = where(slugs_read(asker, tenant))
    span = f"starts_at >= date_trunc('hour', %s::timestamptz) AND starts_at < %s {clause}"
    sql = f"""
        WITH shadow AS (
            SELECT tenant, route, kind, tg_whole(sum(amount::bigint)) AS amount
            FROM {BY_HOURS}, jsonb_each_text(kinds) AS each (kind, amount)
            WHERE {span} AND jsonb_exists(kinds, 'shadow.calls') AND starts_with(kind, %s)
            GROUP BY 1, 2, 3),
        of_all AS (
            SELECT tenant, route, tg_whole(sum(calls)) AS calls FROM {BY_HOURS}
            WHERE {span} AND EXISTS (SELECT FROM shadow) GROUP BY 1, 2)
        SELECT tenant, route, kind, amount, calls FROM shadow JOIN of_all USING (tenant, route)
        """  # noqa: S608 - names of ours, values as parameters
    given = [since, until, *values]
    found: dict[tuple[str, str], Watched] = {}
    for slug, route, kind, amount, calls in rows(sql, [*given, _PREFIX, *given]):
        of = found.setdefault((slug, route), Watched(slug, route, calls))
        word = kind.removeprefix(_PREFIX)
        if word == "calls":
            of.would_refuse = amount
        elif word == "cost_nusd":
            of.cost_nusd = amount
        else:
            of.reasons[word] = amount
    ranked = sorted(found.values(), key=lambda each: (-each.would_refuse, each.tenant, each.route))
    return ranked[:limit]
