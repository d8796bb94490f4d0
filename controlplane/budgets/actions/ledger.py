"""The proof of the ledger: every counter of leases, accounts and slots again from its entries, compared with the rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import connection, transaction

from controlplane import live
from controlplane.budgets.models import LedgerProof
from controlplane.domain.periods import ROLLING_SLOTS
from controlplane.problems import Conflict, Forbidden
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker

log = structlog.get_logger(__name__)

MOST_DIFFERENCES = 100
KEEP_PROOFS = 400
_PROVING = 7_206_001  # the advisory lock of a proof at an operator's word
_SLOT_S_PER_DAY = 86_400 // ROLLING_SLOTS

# Sums are numeric: a proof must not fail on counters that a bigint can't hold, it must tell of them.
# Entries of a lease speak of the lease and, unless they carry it forward or fold it, of the accounts on its path. Entries without
# an incarnation carry accounts forward. A lease that was folded has no row, and its older entries may be carried already.
_SUMS = """
CREATE TEMPORARY TABLE proof_lease ON COMMIT DROP AS
SELECT incarnation, number, min(path) AS path, min(opened_at) AS opened_at, sum(granted_nusd) AS granted_nusd,
       sum(settled_nusd) AS settled_nusd, sum(returned_nusd) AS returned_nusd,
       sum(corrected_nusd) AS corrected_nusd, sum(presumed_nusd) AS presumed_nusd,
       sum(denied_calls) AS denied_calls, sum(false_denied_calls) AS false_denied_calls,
       sum(overage_nusd) AS overage_nusd, bool_or(closes) AS closed
FROM budgets_ledgerentry WHERE incarnation IS NOT NULL GROUP BY incarnation, number HAVING NOT bool_or(kind = 'fold');

CREATE TEMPORARY TABLE proof_charge ON COMMIT DROP AS
SELECT account_id, counts_at, opened_at, settled_nusd + greatest(0, presumed_nusd) AS added,
       corrected_nusd + greatest(0, -presumed_nusd) AS taken_back, denied_calls, false_denied_calls, presumed_nusd,
       overage_nusd, corrected_nusd
FROM budgets_ledgerentry AS entry CROSS JOIN unnest(entry.path) AS account_id
WHERE incarnation IS NULL OR kind NOT IN ('carry', 'fold');
"""

_LEASES = """
SELECT coalesce(lease.incarnation, proof.incarnation)::text || '/' || coalesce(lease.number, proof.number) AS name,
       ARRAY[proof.granted_nusd, proof.settled_nusd, proof.returned_nusd, proof.corrected_nusd, proof.presumed_nusd,
             proof.denied_calls, proof.false_denied_calls, proof.overage_nusd, proof.closed::int] AS entries,
       ARRAY[lease.granted_nusd, lease.settled_nusd, lease.returned_nusd, lease.corrected_nusd, lease.presumed_nusd,
             lease.denied_calls, lease.false_denied_calls, lease.overage_nusd, lease.closed::int]::numeric[] AS stored
FROM budgets_lease AS lease FULL JOIN proof_lease AS proof USING (incarnation, number)
"""
_LEASE_FIELDS = (
    "granted",
    "settled",
    "returned",
    "corrected",
    "presumed",
    "denied",
    "false_denied",
    "overage",
    "closed",
)

_ACCOUNTS = """
SELECT account.id::text AS name,
       ARRAY[coalesce(held.outstanding, 0), coalesce(charge.settled, 0), coalesce(charge.denied, 0),
             coalesce(charge.false_denied, 0), coalesce(charge.presumed, 0), coalesce(charge.overage, 0),
             coalesce(charge.corrected, 0)] AS entries,
       ARRAY[account.outstanding_nusd, account.settled_nusd, account.denied_calls, account.false_denied_calls,
             account.presumed_nusd, account.overage_nusd, account.corrected_nusd]::numeric[] AS stored
FROM budgets_account AS account
LEFT JOIN (
    SELECT account_id, sum(added - taken_back) AS settled, sum(denied_calls) AS denied,
           sum(false_denied_calls) AS false_denied, sum(presumed_nusd) AS presumed,
           sum(overage_nusd) AS overage, sum(corrected_nusd) AS corrected
    FROM proof_charge GROUP BY account_id
) AS charge ON charge.account_id = account.id
LEFT JOIN (
    SELECT account_id, sum(greatest(0, granted_nusd - returned_nusd - settled_nusd)) AS outstanding
    FROM proof_lease CROSS JOIN unnest(path) AS account_id WHERE NOT closed GROUP BY account_id
) AS held ON held.account_id = account.id
"""
_ACCOUNT_FIELDS = ("outstanding", "settled", "denied", "false_denied", "presumed", "overage", "corrected")

_SLOTS = f"""
WITH rolling AS (
    SELECT account.id, make_interval(secs => {_SLOT_S_PER_DAY} * budget.period_days) AS length,
           coalesce(slots_since, '-infinity') AS since
    FROM budgets_account AS account JOIN budgets_budget AS budget ON budget.id = account.budget_id
    WHERE budget.period_kind = 'rolling'
), kept AS (
    SELECT slot.* FROM budgets_accountslot AS slot LEFT JOIN rolling ON rolling.id = account_id
    WHERE since IS NULL OR starts_at >= since
), proof AS (
    SELECT account_id, starts_at, sum(amount) AS settled_nusd
    FROM (
        SELECT account_id, since, date_bin(length, counts_at, 'epoch') AS starts_at, added AS amount
        FROM proof_charge JOIN rolling ON rolling.id = account_id WHERE added <> 0
        UNION ALL
        SELECT account_id, since, date_bin(length, opened_at, 'epoch'), -taken_back
        FROM proof_charge JOIN rolling ON rolling.id = account_id WHERE taken_back <> 0
    ) AS charges
    WHERE starts_at >= since
    GROUP BY account_id, starts_at
)
SELECT coalesce(slot.account_id, proof.account_id) || ' from ' || coalesce(slot.starts_at, proof.starts_at) AS name,
       ARRAY[coalesce(proof.settled_nusd, 0)] AS entries, ARRAY[coalesce(slot.settled_nusd, 0)]::numeric[] AS stored
FROM kept AS slot FULL JOIN proof USING (account_id, starts_at)
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that is not what its entries come to. ``entries`` or ``row`` is ``None`` where there is none at all."""

    what: str  # "lease", "account", "slot"
    name: str
    field: str
    entries: int | None
    row: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a rebuild found: how much was compared, and the first differences of all there are."""

    entries: int
    leases: int
    accounts: int
    slots: int
    difference_count: int
    differences: list[Difference]


def rebuild() -> Comparison:
    """Add up every counter from the entries of the ledger and compare it with its row. Changes nothing.

    It sees one instant: syncs that are committed meanwhile are in neither side.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if not connection.savepoint_ids:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute(_SUMS)
        cursor.execute("SELECT count(*) FROM budgets_ledgerentry")
        entries = int(cursor.fetchone()[0])
        found: list[Difference] = []
        compared = [
            _compare(cursor, what, query, fields, found)
            for what, query, fields in (
                ("lease", _LEASES, _LEASE_FIELDS),
                ("account", _ACCOUNTS, _ACCOUNT_FIELDS),
                ("slot", _SLOTS, ("settled",)),
            )
        ]
        cursor.execute("DROP TABLE proof_lease, proof_charge")
    counts = [rows for rows, _ in compared]
    return Comparison(entries, counts[0], counts[1], counts[2], sum(differing for _, differing in compared), found)


def _compare(cursor: Any, what: str, query: str, fields: tuple[str, ...], found: list[Difference]) -> tuple[int, int]:
    """Return how many rows there are and how many differ; add the first differences to ``found``."""
    cursor.execute(
        f"WITH pairs AS ({query}) SELECT count(*), count(*) FILTER (WHERE entries IS DISTINCT FROM stored) FROM pairs"  # noqa: S608
    )
    rows, differing = cursor.fetchone()
    if differing and len(found) < MOST_DIFFERENCES:
        cursor.execute(
            f"WITH pairs AS ({query}) SELECT name, entries, stored FROM pairs "  # noqa: S608
            "WHERE entries IS DISTINCT FROM stored ORDER BY name LIMIT %s",
            [MOST_DIFFERENCES - len(found)],
        )
        for name, entries, row in cursor.fetchall():
            pairs = zip(fields, map(_whole, entries), map(_whole, row), strict=True)
            found += [Difference(what, name, field, *pair) for field, *pair in pairs if pair[0] != pair[1]]
            del found[MOST_DIFFERENCES:]
    return int(rows), int(differing)


def _whole(value: Decimal | None) -> int | None:
    return None if value is None else int(value)


def prove(*, now: datetime) -> LedgerProof:
    """Rebuild, keep the result, and log it loudly when anything differs."""
    started = time.monotonic()
    result = rebuild()
    proof = LedgerProof.objects.create(
        at=now,
        took_ms=round((time.monotonic() - started) * 1000),
        entries=result.entries,
        leases=result.leases,
        accounts=result.accounts,
        slots=result.slots,
        difference_count=result.difference_count,
        differences=[
            {name: getattr(each, name) for name in ("what", "name", "field", "entries", "row")}
            for each in result.differences
        ],
    )
    old = LedgerProof.objects.order_by("-at").values_list("pk", flat=True)[KEEP_PROOFS:]
    LedgerProof.objects.filter(pk__in=list(old)).delete()
    tell = log.error if proof.difference_count else log.info
    tell("ledger.proved", entries=proof.entries, differences=proof.difference_count, took_ms=proof.took_ms)
    live.changed("budgets")
    return proof


def prove_now(*, by: Asker, now: datetime) -> LedgerProof:
    """Prove at an operator's word. ``Conflict`` while another proof runs: each reads the whole ledger."""
    by.must(Role.OPERATOR)
    if by.tenant is not None:
        raise Forbidden("The ledger is proved as a whole, for all tenants together.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_PROVING])
        if not cursor.fetchone()[0]:
            raise Conflict("The ledger is being proved right now.")
    try:
        proof = prove(now=now)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_PROVING])
    differ = f"{proof.difference_count} differ" if proof.difference_count else "all agree"
    record(
        by=by,
        action="ledger.proved",
        target_kind="ledger",
        target="ledger",
        summary=f"Proved the ledger: {proof.entries} entries, {differ}",
    )
    return proof
