"""Folding spans into what they say (``telemetry.terms``): a filter of terms for every minute, made anew when the minute got late spans."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import psycopg
from django.db import connection

from controlplane.telemetry.resolutions import Interval, whole_windows
from controlplane.telemetry.terms import COLUMNS, NAME, NAMED, OF_OTHER, OF_TEXT, PAIR, STEP_S, TABLE, filters_of

_CHUNK = timedelta(minutes=10)  # in one statement
_WITHIN = "starts_at >= %(since)s AND starts_at < %(until)s"
_AT = f"date_bin(interval '{STEP_S} seconds', starts_at, '1970-01-01Z') AS at"
_HASH = f"CASE jsonb_typeof(value) WHEN 'string' THEN {OF_TEXT} ELSE {OF_OTHER} END".format(value="value")
_NAMES = ", ".join(COLUMNS)
_TERMS = " UNION ALL ".join(
    (
        f"SELECT at, {PAIR.format(name='key', hash='hash')} AS term FROM said",  # noqa: S608 - names of ours
        f"SELECT DISTINCT at, {NAME.format(name='key')} FROM said",  # noqa: S608
        *(
            f"SELECT DISTINCT at, {NAMED[name].format(value=name)} FROM who WHERE {name} <> ''"  # noqa: S608
            for name in COLUMNS
        ),
    )
)
# Attributes are looked at one by one, resources only once each.
_SAID = f"""
    WITH who AS MATERIALIZED (SELECT {_AT}, resource, {_NAMES}, count(*) AS spans FROM telemetry_span WHERE {_WITHIN} GROUP BY 1, 2, {_NAMES}),
    said AS MATERIALIZED (
        SELECT DISTINCT {_AT}, key, {_HASH} AS hash FROM telemetry_span CROSS JOIN LATERAL jsonb_each(attributes) WHERE {_WITHIN}
        UNION SELECT at, key, {_HASH} FROM (SELECT DISTINCT at, resource FROM who) AS every CROSS JOIN LATERAL jsonb_each(resource))
    SELECT at, (SELECT tg_whole(sum(spans)) FROM who WHERE who.at = each.at), array_agg(term) FROM ({_TERMS}) AS each GROUP BY at"""  # noqa: S608


def fold_terms(intervals: Iterable[Interval], until: datetime) -> None:
    """Fold the minutes around ``intervals`` that end by ``until``, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_memoize = off")  # no two spans say the same
        for begins, ends in whole_windows(STEP_S, intervals, until):
            at = begins
            while at < ends:
                _fold(at, at := min(ends, at + _CHUNK))
        cursor.execute("SET LOCAL enable_memoize TO DEFAULT")


def _fold(begins: datetime, ends: datetime) -> None:
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE starts_at >= %s AND starts_at < %s", [begins, ends])  # noqa: S608 - a table of ours
        cursor.execute(_SAID, {"since": begins, "until": ends}, binary=True)
        rows = [
            (at, part, spans, blocks)
            for at, spans, terms in cursor.fetchall()
            for part, blocks in filters_of(terms).items()
        ]
        cursor.executemany(f"INSERT INTO {TABLE} (starts_at, part, spans, blocks) VALUES (%s, %s, %s, %s)", rows)  # noqa: S608
