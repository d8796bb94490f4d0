"""Traces: listed by their root spans, and one with all its spans."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.problems import NotFound
from controlplane.telemetry.models import Span
from controlplane.telemetry.queries.reading import rows, slugs_read, where
from controlplane.tenancy.queries import Asker, slugs_seen_by


@dataclass(frozen=True)
class TraceFilter:
    """What traces to list. ``status`` is ``""``, ``"ok"`` or ``"error"``; ``text`` is sought in names and services."""

    tenant: str = ""
    route: str = ""
    model: str = ""
    status: str = ""
    text: str = ""
    trace_id: str = ""


@dataclass(frozen=True)
class Trace:
    """One line of the list: the root span, and sums over its spans."""

    trace_id: str
    starts_at: datetime
    duration_us: int
    tenant: str
    service: str
    name: str
    route: str
    model: str
    spans: int
    errors: int
    tokens: int
    cost_nusd: int

    @property
    def cursor(self) -> str:
        """Where the next page goes on."""
        return f"{self.starts_at.isoformat()}~{self.trace_id}"


def _trace_clauses(asker: Asker, wanted: TraceFilter, cursor: str) -> tuple[str, list[Any]]:
    clauses, values = where(slugs_read(asker, wanted.tenant or None))
    inside = "AND EXISTS (SELECT 1 FROM telemetry_span AS c WHERE c.trace_id = r.trace_id AND {})"
    for column, value in (("route", wanted.route), ("model", wanted.model)):
        if value:
            clauses += inside.format(f"c.{column} = %s")
            values.append(value)
    if wanted.status:
        clauses += inside.format("c.status = 2") if wanted.status == "error" else " AND r.status <> 2"
    if wanted.text:
        clauses += " AND (r.name ILIKE %s OR r.service ILIKE %s)"
        like = "%" + wanted.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        values += [like, like]
    if wanted.trace_id:
        clauses += " AND r.trace_id = %s"
        values.append(wanted.trace_id.strip().lower())
    at, _, trace_id = cursor.partition("~")
    if trace_id:
        clauses += " AND (r.starts_at, r.trace_id) < (%s::timestamptz, %s)"
        values += [at, trace_id]
    return clauses, values


def traces_seen_by(
    asker: Asker, wanted: TraceFilter, since: datetime, cursor: str = "", limit: int = 50
) -> list[Trace]:
    """Return traces by their root spans since ``since``, the newest first; ``cursor`` is that of the last one shown.

    ``ValueError`` for a cursor that is none.
    """
    if cursor:
        datetime.fromisoformat(cursor.partition("~")[0])
    clause, values = _trace_clauses(asker, wanted, cursor)
    sql = f"""
        WITH page AS (SELECT * FROM telemetry_span AS r WHERE parent_span_id = '' AND starts_at >= %s {clause}
                      ORDER BY starts_at DESC, trace_id DESC LIMIT %s)
        SELECT r.trace_id, r.starts_at, r.duration_us, r.tenant, r.service, r.name, sums.*
        FROM page AS r CROSS JOIN LATERAL (
            SELECT coalesce(max(nullif(c.route, '')), ''), coalesce(max(nullif(c.model, '')), ''),
                   count(*), count(*) FILTER (WHERE c.status = 2),
                   coalesce(sum(c.input_tokens), 0)::bigint + coalesce(sum(c.output_tokens), 0)::bigint,
                   coalesce(sum(c.cost_nusd), 0)::bigint
            FROM telemetry_span AS c WHERE c.trace_id = r.trace_id) AS sums
        ORDER BY r.starts_at DESC, r.trace_id DESC"""  # noqa: S608 - clauses of ours, values as parameters
    return [Trace(*row) for row in rows(sql, [since, *values, limit])]


def trace_seen_by(asker: Asker, trace_id: str, limit: int = 2000) -> list[Span]:
    """Return the spans of one trace in order of start, at most ``limit``; ``NotFound`` for none that the asker may see."""
    spans = Span.objects.filter(trace_id=trace_id.strip().lower())
    slugs = slugs_seen_by(asker)
    if slugs is not None:
        spans = spans.filter(tenant__in=slugs)
    found = list(spans.order_by("starts_at", "span_id")[:limit])
    if not found:
        raise NotFound(f"There is no trace {trace_id!r} that you may see. Spans are kept for some days only.")
    return found
