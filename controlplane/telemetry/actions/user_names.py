"""Keeping the names of each tenant's users on every day, in lower case, some together in a row: a few rows tell who has a part of a name."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

_PARTS = 16  # a row for each of a tenant and day: a new name is added to a text that is not too long
_LINE = "chr(10)"
# With an OFFSET the names that are known are not joined, which would read all of them, but looked up.
_ADD = f"""
    WITH said AS (
        SELECT date_trunc('day', starts_at, 'UTC') AS day, tenant, lower("user") AS name FROM telemetry_span
        WHERE "user" <> '' AND starts_at >= %s AND starts_at < %s GROUP BY 1, 2, 3),
    placed AS (SELECT *, (hashtext(name) & {_PARTS - 1})::smallint AS part FROM said)
    INSERT INTO telemetry_user_names AS kept (starts_at, tenant, part, names)
    SELECT day, tenant, part, {_LINE} || string_agg(name, {_LINE} ORDER BY name) || {_LINE} FROM placed
    WHERE NOT EXISTS (
        SELECT 1 FROM telemetry_user_names AS known WHERE known.tenant = placed.tenant AND known.part = placed.part
        AND known.starts_at = placed.day AND strpos(known.names, {_LINE} || name || {_LINE}) > 0 OFFSET 0)
    GROUP BY 1, 2, 3
    ON CONFLICT (tenant, part, starts_at) DO UPDATE SET names = kept.names || substr(excluded.names, 2)"""  # noqa: S608 - names of ours


def add_names(begins: datetime, ends: datetime) -> None:
    """Add the users of the spans of a span of time to those that are known, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_ADD, [begins, ends])
