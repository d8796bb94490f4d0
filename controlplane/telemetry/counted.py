"""Reads of what the worker has added up of spans, and of the spans that it has not folded yet.

The mark of ``actions.span_sums`` parts them: what began before it is in the sums, what began since is counted here from the spans. Nothing
is counted twice, and a page shows what happened a second ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from controlplane.telemetry.models import Fold
from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.resolutions import EVERYBODY, Piece, floor, pieces
from controlplane.telemetry.spansums import (
    FINE_S,
    FIRST_SPANS,
    MARK,
    MESH,
    MOST_SPANS,
    NAMES,
    OF_MESH,
    OF_TRACES,
    RAW,
    TRACES,
    Kept,
    calls_between,
    sessions_between,
)
from controlplane.telemetry.store import Session, TraceFilter, Wanted

_NEVER = datetime(9000, 1, 1, tzinfo=UTC)
MOST_FRESH = 1000
FEW_TENANTS = 20  # whose sessions are sought by a user's name
Statement = tuple[str, list[Any]]


def _marks() -> dict[str, datetime]:
    return dict(Fold.objects.filter(kind=MARK).values_list("kind", "until"))


def like(text: str) -> str:
    """Return the pattern of what has ``text`` in it."""
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def of_first_span(wanted: TraceFilter, prefix: str = "") -> Statement:
    """Return the rest of a WHERE for what a filter wants of the name, service and duration of first spans, and its parameters."""
    clauses, values = "", list[Any]()
    if wanted.text:
        clauses += f" AND ({prefix}name ILIKE %s OR {prefix}service ILIKE %s)"
        values += [like(wanted.text)] * 2
    if wanted.service:
        clauses += f" AND {prefix}service = %s"
        values.append(wanted.service)
    for value, sign in ((wanted.min_ms, ">="), (wanted.max_ms, "<=")):
        if (limit := number(value)) is not None:
            clauses += f" AND {prefix}duration_us {sign} %s"
            values.append(limit * 1000)
    return clauses, values


def _kept(kept: Kept, piece: Piece, slugs: Sequence[str] | None) -> Statement:
    """Return SQL for the rows of one table of sums."""
    scope, values = ("tenant = %s", [EVERYBODY]) if slugs is None else ("tenant = ANY(%s)", [list(slugs)])
    if slugs is not None and kept is OF_MESH:
        scope, values = f"{scope} AND from_tenant = ANY(%s)", [*values, *values]
    columns = ", ".join(("starts_at", *kept.names[1:], *kept.sums))
    sql = f"SELECT {columns} FROM {piece.table} WHERE {scope} AND starts_at >= %s AND starts_at < %s"  # noqa: S608 - names of ours
    return sql, [*values, piece.since, piece.until]


def together(parts: Sequence[Statement]) -> Statement:
    return " UNION ALL ".join(f"({sql})" for sql, _ in parts), [value for _, values in parts for value in values]


def is_counted(wanted: Wanted) -> bool:
    """Return whether sums by tenant answer a filter: it names nothing else."""
    return wanted.filter == TraceFilter(tenant=wanted.filter.tenant) and not wanted.cursor


def counted_traces(wanted: Wanted, step_s: int) -> Statement:
    """Return SQL for rows of ``starts_at``, traces and errors that fall into steps of ``step_s``."""
    until = wanted.until or _NEVER
    parts = []
    for piece in pieces(wanted.since, until, TRACES, _marks(), step_s=step_s, finest_s=FINE_S):
        if piece.table != RAW:
            parts.append(_kept(OF_TRACES, piece, wanted.slugs))
            continue
        scope, values = ("", []) if wanted.slugs is None else (" AND r.tenant = ANY(%s)", [list(wanted.slugs)])
        first = FIRST_SPANS.format(clause="AND r.starts_at < %s" + scope, order="")
        sql = f"SELECT starts_at, 1 AS traces, (status = 2)::int AS errors FROM ({first}) AS first"  # noqa: S608 - as above
        parts.append((sql, [piece.since, piece.until, *values] * 2))
    return together(parts)


def counted_calls(slugs: Sequence[str] | None, since: datetime, until: datetime) -> Statement:
    """Return SQL for the edges of the mesh from the ten seconds on that ``since`` lies in, each as often as it has been counted."""
    parts = []
    for piece in pieces(floor(since, FINE_S), until, MESH, _marks(), finest_s=FINE_S):
        if piece.table != RAW:
            parts.append(_kept(OF_MESH, piece, slugs))
            continue
        scope, values = ("", []) if slugs is None else ("AND tenant = ANY(%s)", [list(slugs)])
        within = [piece.since, piece.until, *values]
        sql = f"""SELECT starts_at, from_tenant, from_kind, from_name, to_kind, to_name, 1 AS calls, (status = 2)::int AS errors, tokens,
                         cost_nusd, duration_us
                  FROM ({calls_between(scope, f"ORDER BY starts_at DESC LIMIT {MOST_SPANS}")}) AS call"""  # noqa: S608 - as above
        parts.append((sql, [*within, *within]))
    return together(parts)


def enough_since(wanted: Wanted, counts: Sequence[int]) -> tuple[list[datetime], int]:
    """Return from when on so many traces of the tenants that are asked for began, for each of ``counts``, and at last the start of the time.

    Sums of quarters of an hour tell of what is folded; also how many there are in all.
    """
    at, _, _ = wanted.cursor.partition("~")
    before = datetime.fromisoformat(at) if at else wanted.until or _NEVER
    piece = Piece(f"{OF_TRACES.prefix}_15m", floor(wanted.since, 900), floor(before, 900))
    sql, values = _kept(OF_TRACES, piece, wanted.slugs)
    sql = f"SELECT starts_at, tg_whole(sum(traces)) FROM ({sql}) AS kept GROUP BY 1 ORDER BY 1 DESC"  # noqa: S608 - as above
    times, found, left = list[datetime](), 0, list(counts)
    for begins, traces in patient_rows(sql, values):
        found += traces
        while left and found >= left[0]:
            times.append(max(wanted.since, begins))
            left.pop(0)
    return [*times, wanted.since], found


def newest_sessions(wanted: Wanted, limit: int) -> list[Session]:
    """Return sessions with a span in the time, those seen last first; what they came to is counted from the day of ``since`` on."""
    clauses, values = _session_clauses(wanted, "kept", "users")
    mark = max(_marks().get(MARK, wanted.since), wanted.since)
    first_day = floor(wanted.since, 86400)
    parts = _parts_by_user(wanted, first_day, mark)
    fresh = _fresh_sessions(wanted, mark)
    days = (mark - first_day).days + 1
    newest, named = together(
        [
            (
                f"""SELECT tenant, session, last_at FROM telemetry_session_day AS kept
                    WHERE starts_at >= %s AND last_at >= %s{part}{clauses} ORDER BY last_at DESC LIMIT %s""",  # noqa: S608 - as above
                [first_day, wanted.since, *of_part, *values, limit * days],
            )
            for part, of_part in parts
        ]
    )
    sql = f"""
        WITH newest AS ({newest}),
        chosen AS (
            (SELECT tenant, session FROM newest GROUP BY 1, 2 ORDER BY max(last_at) DESC, 2, 1 LIMIT %s)
            UNION SELECT * FROM unnest(%s::text[], %s::text[]))
        SELECT session, string_agg(day.users, chr(10)), tenant, max(service), min(first_at), max(last_at), tg_whole(sum(turns)),
               tg_whole(sum(spans)), tg_whole(sum(errors)), tg_whole(sum(tokens_told)), tg_whole(sum(tokens_seen)),
               tg_whole(sum(cost_told_nusd)), tg_whole(sum(cost_seen_nusd))
        FROM chosen JOIN telemetry_session_day AS day USING (tenant, session) WHERE day.starts_at >= %s GROUP BY 1, 3"""  # noqa: S608
    tenants, sessions = [row[2] for row in fresh], [row[0] for row in fresh]
    kept = patient_rows(sql, [*named, limit, tenants, sessions, first_day])
    found: dict[tuple[str, str], tuple[Any, ...]] = {}
    for row in (*kept, *fresh):
        known = found.get((row[0], row[2]))
        found[row[0], row[2]] = row if known is None else _added(known, row)
    made = [_session(row) for row in found.values()]
    return sorted(made, key=lambda each: (-each.last_at.timestamp(), each.session, each.tenant))[:limit]


def _parts_by_user(wanted: Wanted, first_day: datetime, mark: datetime) -> list[Statement]:
    """Return clauses which together have every session of a user that is sought by a part of the name.

    Where few tenants have such users, these: the sessions of theirs, and those with spans of which the names are not known yet.
    """
    text = wanted.filter.user
    known = Fold.objects.filter(kind=NAMES).values_list("until", flat=True).first()
    if not text or "\n" in text or known is None or known < first_day:
        return [("", [])]
    scope, values = ("", []) if wanted.slugs is None else (" AND tenant = ANY(%s)", [list(wanted.slugs)])
    sql = f"""SELECT DISTINCT tenant FROM telemetry_user_names
              WHERE starts_at >= %s AND strpos(names, lower(%s)) > 0{scope} LIMIT {FEW_TENANTS + 1}"""  # noqa: S608 - as above
    tenants = [tenant for (tenant,) in patient_rows(sql, [first_day, text, *values])]
    if len(tenants) > FEW_TENANTS:
        return [("", [])]
    return [(" AND kept.tenant = ANY(%s)", [tenants]), (" AND last_at >= %s", [min(known, mark)])]


def _session_clauses(wanted: Wanted, table: str, users: str) -> Statement:
    """Return the rest of a WHERE over sessions in ``table``, whose users are in the column ``users``."""
    clauses, values = "", list[Any]()
    if wanted.slugs is not None:
        clauses += f" AND {table}.tenant = ANY(%s)"
        values.append(list(wanted.slugs))
    for column, text in (("session", wanted.filter.session), (users, wanted.filter.user)):
        if text:
            clauses += f' AND {table}."{column}" ILIKE %s'
            values.append(like(text))
    return clauses, values


def _fresh_sessions(wanted: Wanted, since: datetime) -> list[tuple[Any, ...]]:
    """Return the sessions of spans that are not folded yet, in the columns of those that are."""
    clauses, values = _session_clauses(wanted, "c", "user")
    sql = f"""SELECT session, users, tenant, service, first_at, last_at, turns, spans, errors, tokens_told, tokens_seen, cost_told_nusd,
                     cost_seen_nusd
              FROM ({sessions_between(clauses)}) AS fresh ORDER BY last_at DESC LIMIT {MOST_FRESH}"""  # noqa: S608 - as above
    return patient_rows(sql, [since, since, since, _NEVER, since, _NEVER, *values])


def _added(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a session comes to of two rows of it."""
    session, users, tenant, service, first_at, last_at, *sums = one
    _, more_users, _, more_service, more_first_at, more_last_at, *more = other
    return (
        session,
        f"{users}\n{more_users}",
        tenant,
        max(service, more_service),
        min(first_at, more_first_at),
        max(last_at, more_last_at),
        *(a + b for a, b in zip(sums, more, strict=True)),
    )


def _session(row: tuple[Any, ...]) -> Session:
    session, users, tenant, service, first_at, last_at, turns, spans, errors, *usage = row
    told, seen, cost_told, cost_seen = usage
    user = max(users.split("\n"))
    return Session(
        session,
        user,
        tenant,
        service,
        first_at,
        last_at,
        turns,
        spans,
        errors,
        max(told, seen),
        max(cost_told, cost_seen),
    )
