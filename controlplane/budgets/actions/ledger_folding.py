"""Old days of the ledger are carried forward: what their entries come to takes their place, and every counter stays their sum.

A day goes in one transaction, the oldest first. Of a lease that is still there one entry is left, of an account one for each slot of
its window that still counts, and one for all else. Those are carried on in their turn, so that no account ever has more of them
than days are kept.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import structlog
from django.db import OperationalError, connection, transaction

from controlplane.budgets.actions.ledger_keeping import is_there, keeping, partition_of
from controlplane.domain.periods import ROLLING_SLOTS

log = structlog.get_logger(__name__)

MOST_DAYS = 100  # in one run
# Proofs and pages read old days; whoever wants one for itself waits for them so long, and tries again with the next run. Nobody
# else waits: syncs write to the partition of today.
PATIENCE = "2s"
# To drop a partition is for a moment to stop everybody who writes to the ledger.
BRIEFLY = "100ms"
_SLOT_S_PER_DAY = 86_400 // ROLLING_SLOTS

_CARRY_LEASES = """
INSERT INTO budgets_ledgerentry (at, incarnation, number, path, kind, opened_at, counts_at, closes, granted_nusd, settled_nusd,
                                 returned_nusd, corrected_nusd, presumed_nusd, overage_nusd, denied_calls, false_denied_calls)
SELECT %(now)s, incarnation, number, min(entry.path), 'carry', min(opened_at), max(counts_at), bool_or(closes),
       sum(entry.granted_nusd), sum(entry.settled_nusd), sum(entry.returned_nusd), sum(entry.corrected_nusd),
       sum(entry.presumed_nusd), sum(entry.overage_nusd), sum(entry.denied_calls), sum(entry.false_denied_calls)
FROM budgets_ledgerentry AS entry JOIN budgets_lease USING (incarnation, number)
WHERE at >= %(since)s AND at < %(until)s GROUP BY incarnation, number
"""
# What was charged counts from ``counts_at``, what was taken back from ``opened_at``: each in its slot, where accounts roll.
_CARRY_ACCOUNTS = f"""
INSERT INTO budgets_ledgerentry (at, path, kind, opened_at, counts_at, settled_nusd, corrected_nusd, presumed_nusd,
                                 overage_nusd, denied_calls, false_denied_calls)
WITH charge AS (
    SELECT account.id AS account_id, counts_at, opened_at, entry.settled_nusd, entry.corrected_nusd, entry.presumed_nusd,
           entry.overage_nusd, entry.denied_calls, entry.false_denied_calls,
           make_interval(secs => {_SLOT_S_PER_DAY} * budget.period_days) AS length, coalesce(slots_since, '-infinity') AS slots_since
    FROM budgets_ledgerentry AS entry CROSS JOIN unnest(entry.path) AS named (id)
    JOIN budgets_account AS account ON account.id = named.id JOIN budgets_budget AS budget ON budget.id = account.budget_id
    WHERE at >= %(since)s AND at < %(until)s AND (incarnation IS NULL OR kind NOT IN ('carry', 'fold'))
), part AS (
    SELECT account_id, date_bin(length, counts_at, 'epoch') AS slot, slots_since, settled_nusd, 0 AS corrected_nusd,
           greatest(0, presumed_nusd) AS presumed_nusd, overage_nusd, denied_calls, false_denied_calls
    FROM charge
    UNION ALL
    SELECT account_id, date_bin(length, opened_at, 'epoch'), slots_since, 0, corrected_nusd, least(0, presumed_nusd), 0, 0, 0
    FROM charge WHERE corrected_nusd <> 0 OR presumed_nusd < 0
)
SELECT %(now)s, ARRAY[account_id], 'carry', kept_slot, kept_slot, sum(settled_nusd), sum(corrected_nusd), sum(presumed_nusd),
       sum(overage_nusd), sum(denied_calls), sum(false_denied_calls)
FROM (SELECT *, CASE WHEN part.slot >= slots_since THEN part.slot ELSE 'epoch' END AS kept_slot FROM part) AS part
GROUP BY account_id, kept_slot
"""  # noqa: S608

_DELETE_STRAYS = "DELETE FROM budgets_ledgerentry_strays WHERE at >= %(since)s AND at < %(until)s"


def carry_forward(*, now: datetime, keep_days: int) -> list[date]:
    """Carry forward the days of the ledger that are older than ``keep_days``; return them. Those that are in use wait."""
    done: list[date] = []
    last = now.astimezone(UTC).date() - timedelta(days=keep_days)
    while len(done) < MOST_DAYS and (day := _oldest()) is not None and day < last:
        if not _carry(day, now):
            break
        done.append(day)
    _drop_empty(last)
    return done


def _oldest() -> date | None:
    """Return the day of the oldest entry."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT at FROM budgets_ledgerentry ORDER BY at LIMIT 1")
        row = cursor.fetchone()
    return row[0].astimezone(UTC).date() if row else None


def _carry(day: date, now: datetime) -> bool:
    """Put what a day's entries come to in their place; return whether nobody else was reading them."""
    since = datetime.combine(day, time(), UTC)
    values = {"now": now, "since": since, "until": since + timedelta(days=1)}
    own = partition_of(day)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [PATIENCE])
            there = is_there(cursor, own)
            if there:
                cursor.execute(f"LOCK TABLE {own} IN ACCESS EXCLUSIVE MODE")
            cursor.execute(_CARRY_LEASES, values)
            cursor.execute(_CARRY_ACCOUNTS, values)
            if there:
                cursor.execute(f"TRUNCATE {own}")
            else:  # entries of a day for which no partition had been made
                with keeping(cursor):
                    cursor.execute(_DELETE_STRAYS, values)
    except OperationalError as error:
        log.info("ledger.not_carried", day=str(day), error=str(error).strip())
        return False
    log.info("ledger.carried", day=str(day))
    return True


def _drop_empty(last: date) -> None:
    """Drop the partitions of days that were carried forward, if nobody writes or reads just now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'budgets_ledgerentry'::regclass"
        )
        days = [name for (name,) in cursor.fetchall() if name < partition_of(last)]
    for name in sorted(days):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [BRIEFLY])
                cursor.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
                cursor.execute(f"SELECT EXISTS (SELECT FROM {name})")  # noqa: S608
                if not cursor.fetchone()[0]:
                    cursor.execute(f"DROP TABLE {name}")
        except OperationalError:
            return  # the next run does
