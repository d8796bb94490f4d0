"""What windows of calls tell besides calls: when any arrived, and which breakers refused."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.telemetry.patience import patient_rows
from controlplane.telemetry.queries.reading import slugs_read, where
from controlplane.telemetry.queries.tables import windows_of
from controlplane.tenancy.queries import Asker


def minutes_with_windows(asker: Asker, since: datetime, until: datetime) -> list[datetime]:
    """Return the minutes of a time of which windows arrived, the oldest first."""
    slugs = slugs_read(asker, None)
    clause, values = where(slugs)
    sql = f"""SELECT DISTINCT date_trunc('minute', starts_at) AS minute FROM {windows_of(slugs, since, until, step_s=60)}
              WHERE starts_at >= %s AND starts_at < %s {clause} ORDER BY minute"""  # noqa: S608 - names of ours, values as parameters
    return [row[0] for row in patient_rows(sql, [since, until, *values])]


def breakers_refusing(
    asker: Asker, since: datetime, until: datetime, step_s: int, route: str = "", model: str = ""
) -> dict[datetime, int]:
    """Return, by the start of each step, on how many pairs of route and model an open breaker refused calls; no zeros."""
    slugs = slugs_read(asker, None)
    clause, values = where(slugs, route=route, model=model)
    table = windows_of(slugs, since, until, by="route", step_s=step_s)  # routes and models are told apart
    sql = f"""SELECT date_bin(%s, starts_at, %s) AS slot, count(DISTINCT (route, model)) FROM {table}
              WHERE starts_at >= %s AND starts_at < %s AND kinds ? 'refused.breaker_open' {clause} GROUP BY slot"""  # noqa: S608
    return dict(patient_rows(sql, [timedelta(seconds=step_s), since, since, until, *values]))
