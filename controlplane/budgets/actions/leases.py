"""Merging lease reports: what SDKs spent comes in, what they may spend goes out, in the caller's transaction.

Raw psycopg on purpose: this runs on the edge, many reports at once, in a fixed number of statements. Rows are locked in
one order (leases, then accounts, each by id), so that concurrent batches queue up instead of deadlocking.
What is read is in ``lease_reads``, what is written in ``lease_writes``; decisions are ``controlplane.domain.leases``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from controlplane.budgets.actions.lease_reads import accounts_of, budgets_of, count_holders, leases_of, rows_of
from controlplane.budgets.actions.lease_writes import store_accounts, store_entries, store_leases, store_slots
from controlplane.budgets.schemas import LeaseAnswer, LeaseReport
from controlplane.domain.leases import BudgetTerms, LeaseKey, OpenLease, may_touch, merge_report, unknown
from controlplane.domain.ledger import entry_of, stand_of
from controlplane.domain.periods import Period, period_of


async def merge(
    connection: AsyncConnection[Any], reports: Sequence[LeaseReport], *, now: datetime, ttl_ms: int
) -> dict[LeaseKey, LeaseAnswer]:
    """Merge ``reports`` and return an answer for each. Nothing of it counts before the caller commits.

    Merging the same report twice, or an older one after a newer, changes nothing.
    """
    if not reports:
        return {}
    budgets = await budgets_of(connection, {budget for report in reports for budget in report.budgets})
    leases = await leases_of(connection, reports)
    stood = {key: stand_of(lease) for key, lease in leases.items()}
    refused = await _open_new(connection, reports, budgets, leases, now)
    accounts = await accounts_of(connection, leases.values(), budgets, now)
    await count_holders(connection, reports, leases, accounts, now=now, ttl_ms=ttl_ms)
    answers = {}
    for report in reports:
        key = (report.incarnation, report.number)
        if key in refused:
            said = unknown(report, ttl_ms=ttl_ms)
        else:
            said = merge_report(report, leases[key], accounts, now=now, ttl_ms=ttl_ms)
        answers[key] = LeaseAnswer(number=report.number, **said._asdict())
    found = (entry_of(lease, stood.get(key), now=now) for key, lease in leases.items())
    entries = [entry for entry in found if entry is not None]
    async with connection.pipeline():  # one round trip for all that is written
        await store_accounts(connection, accounts.values(), now)
        await store_slots(connection, entries, accounts.values())
        await store_leases(connection, leases.values(), now)
        await store_entries(connection, entries)
    return answers


async def _open_new(
    connection: AsyncConnection[Any],
    reports: Sequence[LeaseReport],
    budgets: dict[int, BudgetTerms],
    leases: dict[LeaseKey, OpenLease],
    now: datetime,
) -> set[LeaseKey]:
    """Add to ``leases`` those that are heard of for the first time; return those that can't be opened."""
    new = {
        (report.incarnation, report.number): report
        for report in reports
        if (report.incarnation, report.number) not in leases
    }
    refused = {key for key, report in new.items() if not may_touch(report, budgets)}
    opened = {key: report for key, report in new.items() if key not in refused}
    periods = {budget: period_of(budgets[budget].rule, now) for report in opened.values() for budget in report.budgets}
    accounts = await _ensure_accounts(connection, periods)
    for key, report in opened.items():
        leases[key] = OpenLease(key=key, path=[accounts[budget] for budget in report.budgets], opened_at=now)
    return refused


async def _ensure_accounts(connection: AsyncConnection[Any], periods: dict[int, Period]) -> dict[int, int]:
    """Return the account of each budget in its period, made when it is the period's first."""
    if not periods:
        return {}
    ordered = sorted(periods.items())
    values = [
        [budget for budget, _ in ordered],
        [period.key for _, period in ordered],
        [period.starts_at for _, period in ordered],
        [period.ends_at for _, period in ordered],
    ]
    await connection.execute(
        b"""
        INSERT INTO budgets_account (budget_id, period_key, starts_at, ends_at, outstanding_nusd, settled_nusd,
                                     denied_calls, highest_nusd, amount_nusd)
        SELECT opened.*, 0, 0, 0, amount_nusd, amount_nusd
        FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::timestamptz[])
             AS opened (budget_id, period_key, starts_at, ends_at)
        JOIN budgets_budget AS budget ON budget.id = opened.budget_id
        ON CONFLICT (budget_id, period_key) DO NOTHING
        """,
        values,
    )
    rows = await rows_of(
        connection,
        """
        SELECT account.id, budget_id FROM unnest(%s::bigint[], %s::text[]) AS wanted (budget_id, period_key)
        JOIN budgets_account AS account USING (budget_id, period_key)
        """,
        values[:2],
    )
    return {row["budget_id"]: row["id"] for row in rows}
