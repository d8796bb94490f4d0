"""Merging lease reports: what SDKs spent comes in, what they may spend goes out, in the caller's transaction.

Raw psycopg on purpose: this runs on the edge, many reports at once, in a fixed number of statements. Rows are locked in
one order (leases, then accounts, each by id), so that concurrent batches queue up instead of deadlocking.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from controlplane.budgets.schemas import LeaseAnswer, LeaseReport
from controlplane.domain.grants import Account, Counters
from controlplane.domain.leases import BudgetTerms, LeaseKey, OpenAccount, OpenLease, may_touch, merge_report, unknown
from controlplane.domain.ledger import Entry, entry_of, slot_moves, stand_of
from controlplane.domain.periods import Period, PeriodRule, period_of, rolling_cutoff


async def merge(
    connection: AsyncConnection[Any], reports: Sequence[LeaseReport], *, now: datetime, ttl_ms: int
) -> dict[LeaseKey, LeaseAnswer]:
    """Merge ``reports`` and return an answer for each. Nothing of it counts before the caller commits.

    Merging the same report twice, or an older one after a newer, changes nothing.
    """
    if not reports:
        return {}
    budgets = await _budgets(connection, {budget for report in reports for budget in report.budgets})
    leases = await _leases(connection, reports)
    stood = {key: stand_of(lease) for key, lease in leases.items()}
    refused = await _open_new(connection, reports, budgets, leases, now)
    accounts = await _accounts(connection, leases.values(), budgets, now)
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
    await _store_accounts(connection, accounts.values(), now)
    await _store_slots(connection, entries, accounts.values())
    await _store_leases(connection, leases.values(), now)
    await _store_entries(connection, entries)
    return answers


# What the transaction reads and locks.


async def _rows(connection: AsyncConnection[Any], query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()


async def _budgets(connection: AsyncConnection[Any], ids: set[int]) -> dict[int, BudgetTerms]:
    rows = await _rows(
        connection,
        """
        SELECT budget.id, budget.slug, tenant.slug AS tenant, period_kind, period_unit, period_timezone, period_days,
               budget.archived_at IS NOT NULL AS archived
        FROM budgets_budget AS budget LEFT JOIN tenancy_tenant AS tenant ON tenant.id = budget.tenant_id
        WHERE budget.id = ANY(%s)
        """,
        [sorted(ids)],
    )
    return {row["id"]: _budget(row) for row in rows}


def _budget(row: dict[str, Any]) -> BudgetTerms:
    rule = PeriodRule(row["period_kind"], row["period_unit"], row["period_timezone"], row["period_days"])
    return BudgetTerms(row["id"], f"{row['tenant'] or ''}/{row['slug']}", row["tenant"], rule, row["archived"])


async def _leases(connection: AsyncConnection[Any], reports: Sequence[LeaseReport]) -> dict[LeaseKey, OpenLease]:
    keys = sorted({(report.incarnation, report.number) for report in reports})
    rows = await _rows(
        connection,
        """
        SELECT lease.* FROM unnest(%s::uuid[], %s::bigint[]) AS wanted (incarnation, number)
        JOIN budgets_lease AS lease USING (incarnation, number)
        ORDER BY lease.id FOR UPDATE OF lease
        """,
        [[key[0] for key in keys], [key[1] for key in keys]],
    )
    return {
        (row["incarnation"], row["number"]): OpenLease(
            key=(row["incarnation"], row["number"]),
            path=list(row["path"]),
            counters=Counters(row["granted_nusd"], row["settled_nusd"], row["returned_nusd"], row["corrected_nusd"]),
            held=row["held_nusd"],
            denied=row["denied_calls"],
            seq=row["seq"],
            closed=row["closed"],
            opened_at=row["created_at"],
            presumed=row["presumed_nusd"],
            false_denied=row["false_denied_calls"],
            overage=row["overage_nusd"],
        )
        for row in rows
    }


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
                                     denied_calls, highest_nusd)
        SELECT opened.*, 0, 0, 0, amount_nusd
        FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::timestamptz[])
             AS opened (budget_id, period_key, starts_at, ends_at)
        JOIN budgets_budget AS budget ON budget.id = opened.budget_id
        ON CONFLICT (budget_id, period_key) DO NOTHING
        """,
        values,
    )
    rows = await _rows(
        connection,
        """
        SELECT account.id, budget_id FROM unnest(%s::bigint[], %s::text[]) AS wanted (budget_id, period_key)
        JOIN budgets_account AS account USING (budget_id, period_key)
        """,
        values[:2],
    )
    return {row["budget_id"]: row["id"] for row in rows}


async def _accounts(
    connection: AsyncConnection[Any], leases: Iterable[OpenLease], budgets: dict[int, BudgetTerms], now: datetime
) -> dict[int, OpenAccount]:
    """Lock the accounts on all paths, then read what their budgets allow: an amount that was lowered before counts."""
    ids = sorted({account for lease in leases for account in lease.path})
    locked = await _rows(connection, "SELECT * FROM budgets_account WHERE id = ANY(%s) ORDER BY id FOR UPDATE", [ids])
    budget_ids = {row["budget_id"] for row in locked}
    budgets |= await _budgets(connection, budget_ids - budgets.keys())
    amounts = await _rows(
        connection,
        "SELECT id, amount_nusd, on_exhausted = 'block' AS blocks, archived_at IS NOT NULL AS archived "
        "FROM budgets_budget WHERE id = ANY(%s)",
        [sorted(budget_ids)],
    )
    terms = {row["id"]: row for row in amounts}
    in_window = await _settled_in_windows(connection, locked, budgets, now)
    return {
        row["id"]: OpenAccount(
            id=row["id"],
            budget=budgets[row["budget_id"]],
            ends_at=row["ends_at"],
            state=Account(
                amount=terms[row["budget_id"]]["amount_nusd"],
                outstanding=row["outstanding_nusd"],
                settled=in_window.get(row["id"], row["settled_nusd"]),
                blocks=terms[row["budget_id"]]["blocks"],
                archived=terms[row["budget_id"]]["archived"],
            ),
        )
        for row in locked
    }


async def _settled_in_windows(
    connection: AsyncConnection[Any], accounts: list[dict[str, Any]], budgets: dict[int, BudgetTerms], now: datetime
) -> dict[int, int]:
    """Return, for the rolling accounts, what was settled in their windows."""
    rolling = {row["id"]: days for row in accounts if (days := budgets[row["budget_id"]].rule.days)}
    if not rolling:
        return {}
    rows = await _rows(
        connection,
        """
        SELECT wanted.id, coalesce(sum(slot.settled_nusd), 0)::bigint AS settled
        FROM unnest(%s::bigint[], %s::timestamptz[]) AS wanted (id, since)
        LEFT JOIN budgets_accountslot AS slot ON slot.account_id = wanted.id AND slot.starts_at > wanted.since
        GROUP BY wanted.id
        """,
        [list(rolling), [rolling_cutoff(days, now) for days in rolling.values()]],
    )
    return {row["id"]: row["settled"] for row in rows}


# What it writes.


async def _store_accounts(connection: AsyncConnection[Any], accounts: Iterable[OpenAccount], now: datetime) -> None:
    changed = sorted(
        (account for account in accounts if account.changed),
        key=lambda account: account.id,
    )
    if not changed:
        return
    await connection.execute(
        b"""
        UPDATE budgets_account AS account
        SET outstanding_nusd = account.outstanding_nusd + moved.outstanding,
            settled_nusd = account.settled_nusd + moved.settled,
            denied_calls = account.denied_calls + moved.denied,
            false_denied_calls = account.false_denied_calls + moved.false_denied,
            presumed_nusd = account.presumed_nusd + moved.presumed,
            overage_nusd = account.overage_nusd + moved.overage,
            denied_at = coalesce(moved.denied_at, account.denied_at), updated_at = %s
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                    %s::timestamptz[])
             AS moved (id, outstanding, settled, denied, false_denied, presumed, overage, denied_at)
        WHERE account.id = moved.id
        """,
        [
            now,
            [account.id for account in changed],
            [account.outstanding for account in changed],
            [account.settled for account in changed],
            [account.denied for account in changed],
            [account.false_denied for account in changed],
            [account.presumed for account in changed],
            [account.overage for account in changed],
            [now if account.blocked else None for account in changed],
        ],
    )


async def _store_slots(
    connection: AsyncConnection[Any], entries: Iterable[Entry], accounts: Iterable[OpenAccount]
) -> None:
    rolling = {account.id: days for account in accounts if (days := account.budget.rule.days)}
    moves = sorted(slot_moves(entries, rolling).items())
    if not moves:
        return
    await connection.execute(
        b"""
        INSERT INTO budgets_accountslot AS slot (account_id, starts_at, settled_nusd)
        SELECT * FROM unnest(%s::bigint[], %s::timestamptz[], %s::bigint[])
        ON CONFLICT (account_id, starts_at) DO UPDATE SET settled_nusd = slot.settled_nusd + excluded.settled_nusd
        """,
        [[account for (account, _), _ in moves], [at for (_, at), _ in moves], [amount for _, amount in moves]],
    )


async def _store_leases(connection: AsyncConnection[Any], leases: Iterable[OpenLease], now: datetime) -> None:
    ordered = sorted(leases, key=lambda lease: lease.key)
    if not ordered:
        return
    columns = {
        "incarnation": [lease.key[0] for lease in ordered],
        "number": [lease.key[1] for lease in ordered],
        "path": [_array(lease.path) for lease in ordered],
        "granted_nusd": [lease.counters.granted for lease in ordered],
        "settled_nusd": [lease.counters.settled for lease in ordered],
        "returned_nusd": [lease.counters.returned for lease in ordered],
        "corrected_nusd": [lease.counters.corrected for lease in ordered],
        "held_nusd": [lease.held for lease in ordered],
        "denied_calls": [lease.denied for lease in ordered],
        "seq": [lease.seq for lease in ordered],
        "closed": [lease.closed for lease in ordered],
        "presumed_nusd": [lease.presumed for lease in ordered],
        "false_denied_calls": [lease.false_denied for lease in ordered],
        "overage_nusd": [lease.overage for lease in ordered],
        "created_at": [lease.opened_at for lease in ordered],
    }
    await connection.execute(
        b"""
        INSERT INTO budgets_lease (incarnation, number, path, granted_nusd, settled_nusd, returned_nusd, corrected_nusd,
                                   held_nusd, denied_calls, seq, closed, presumed_nusd, false_denied_calls, overage_nusd,
                                   created_at, seen_at)
        SELECT incarnation, number, path::bigint[], granted, settled, returned, corrected, held, denied, seq, closed,
               presumed, false_denied, overage, created_at, %s
        FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                    %s::bigint[], %s::bigint[], %s::bigint[], %s::boolean[], %s::bigint[], %s::bigint[], %s::bigint[],
                    %s::timestamptz[])
             AS lease (incarnation, number, path, granted, settled, returned, corrected, held, denied, seq, closed,
                       presumed, false_denied, overage, created_at)
        ON CONFLICT (incarnation, number) DO UPDATE
        SET granted_nusd = excluded.granted_nusd, settled_nusd = excluded.settled_nusd,
            returned_nusd = excluded.returned_nusd, corrected_nusd = excluded.corrected_nusd,
            held_nusd = excluded.held_nusd, denied_calls = excluded.denied_calls, seq = excluded.seq,
            closed = excluded.closed, presumed_nusd = excluded.presumed_nusd,
            false_denied_calls = excluded.false_denied_calls, overage_nusd = excluded.overage_nusd,
            seen_at = excluded.seen_at
        """,
        [now, *columns.values()],
    )


async def _store_entries(connection: AsyncConnection[Any], entries: Sequence[Entry]) -> None:
    if not entries:
        return
    columns = [
        [entry.key[0] for entry in entries],
        [entry.key[1] for entry in entries],
        [_array(entry.path) for entry in entries],
        [entry.kind for entry in entries],
        [entry.at for entry in entries],
        [entry.opened_at for entry in entries],
        [entry.counts_at for entry in entries],
        [entry.closes for entry in entries],
        *[list(column) for column in zip(*(entry.amounts for entry in entries), strict=True)],
    ]
    await connection.execute(
        b"""
        INSERT INTO budgets_ledgerentry (incarnation, number, path, kind, at, opened_at, counts_at, closes,
                                         granted_nusd, settled_nusd, returned_nusd, corrected_nusd, presumed_nusd,
                                         denied_calls, false_denied_calls, overage_nusd)
        SELECT incarnation, number, path::bigint[], kind, at, opened_at, counts_at, closes, granted, settled, returned,
               corrected, presumed, denied, false_denied, overage
        FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
                    %s::timestamptz[], %s::boolean[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
             AS entry (incarnation, number, path, kind, at, opened_at, counts_at, closes, granted, settled, returned,
                       corrected, presumed, denied, false_denied, overage)
        """,
        columns,
    )


def _array(values: Iterable[int]) -> str:
    return "{" + ",".join(map(str, values)) + "}"
