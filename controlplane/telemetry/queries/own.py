"""What the server last measured of itself: how long telemetry waits, what it refused, how much room it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.telemetry.queries.reading import rows

FRESH = timedelta(minutes=10)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Intake:
    """One signal over the last hour. ``lag_us`` is how long its batches waited when that was last measured."""

    signal: str
    records: int
    refused: int
    lag_us: float | None


@dataclass(frozen=True)
class Own:
    """``tables`` are the largest first, in bytes with indexes; ``behind`` is by what is folded, in seconds."""

    intake: Sequence[Intake]
    rejected: int
    tables: Sequence[tuple[str, float]]
    database: float | None
    behind: Sequence[tuple[str, float]]


def own_figures(now: datetime) -> Own:
    """Return what is known; it is of the installation, so only those may see it who see all of that."""
    sql = """SELECT series.name, series.instance, newest.sum FROM telemetry_series AS series
             CROSS JOIN LATERAL (SELECT sum FROM telemetry_point WHERE series_id = series.id AND at > %s ORDER BY at DESC LIMIT 1) AS newest
             WHERE series.name IN ('tidegate.ingest.lag', 'tidegate.storage.size', 'tidegate.database.size', 'tidegate.fold.lag')
             AND tenant = '' ORDER BY newest.sum DESC, series.instance"""
    newest: dict[str, dict[str, float]] = {}
    for name, instance, value in rows(sql, [now - FRESH]):
        newest.setdefault(name, {})[instance] = value
    sql = """SELECT name, instance, sum(point.sum) FROM telemetry_series AS series JOIN telemetry_point AS point ON series_id = series.id
             WHERE name IN ('tidegate.ingest.records', 'tidegate.ingest.refused', 'tidegate.ingest.rejected') AND tenant = ''
             AND at > %s GROUP BY 1, 2"""
    added = {(name.rpartition(".")[2], instance): int(value) for name, instance, value in rows(sql, [now - _HOUR])}
    lags = newest.get("tidegate.ingest.lag", {})
    signals = sorted({instance for name, instance in added if name == "records"} | set(lags))
    return Own(
        [
            Intake(
                each,
                added.get(("records", each), 0),
                added.get(("refused", each), 0),
                lags[each] * 1e6 if each in lags else None,
            )
            for each in signals
        ],
        added.get(("rejected", ""), 0),
        list(newest.get("tidegate.storage.size", {}).items()),
        newest.get("tidegate.database.size", {}).get(""),
        list(newest.get("tidegate.fold.lag", {}).items()),
    )
