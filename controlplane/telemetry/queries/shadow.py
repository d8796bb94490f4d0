"""What enforcement that only watches would have done."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from controlplane.telemetry.queries.reading import rows, slugs_read, where
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
    """Return what would have been refused in the windows from ``since`` to ``until``, the most calls first."""
    clause, values = where(slugs_read(asker, tenant))
    sql = f"""
        WITH hit AS MATERIALIZED (
            SELECT tenant, route, calls, kinds FROM telemetry_window_1m WHERE starts_at >= %s AND starts_at < %s {clause})
        SELECT tenant, route, kind, sum(amount::bigint)::bigint,
               (SELECT sum(calls)::bigint FROM hit AS all_of WHERE (all_of.tenant, all_of.route) = (hit.tenant, hit.route))
        FROM hit, jsonb_each_text(kinds) AS each (kind, amount)
        WHERE starts_with(kind, %s)
        GROUP BY 1, 2, 3
        """  # noqa: S608 - names of ours, values as parameters
    found: dict[tuple[str, str], Watched] = {}
    for slug, route, kind, amount, calls in rows(sql, [since, until, *values, _PREFIX]):
        of = found.setdefault((slug, route), Watched(slug, route, calls or 0))
        word = kind.removeprefix(_PREFIX)
        if word == "calls":
            of.would_refuse = amount
        elif word == "cost_nusd":
            of.cost_nusd = amount
        else:
            of.reasons[word] = amount
    ranked = sorted(found.values(), key=lambda each: (-each.would_refuse, each.tenant, each.route))
    return ranked[:limit]
