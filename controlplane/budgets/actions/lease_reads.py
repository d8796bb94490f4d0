"""What merging lease reports reads and locks: budgets, leases, accounts, and what counts in rolling windows.

Raw psycopg, many rows at once. Rows are locked in one order (leases, then accounts, each by id).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from controlplane.budgets.schemas import LeaseReport
from controlplane.columns import plain
from controlplane.domain.carry import Before, CarryRule, carried
from controlplane.domain.crowds import SCARCE_FOR, WANTS_FOR, gather, is_due
from controlplane.domain.grants import Account, Counters
from controlplane.domain.leases import BudgetTerms, Crowd, LeaseKey, OpenAccount, OpenLease
from controlplane.domain.periods import PeriodRule, leaves_window, rolling_cutoff


async def rows_of(connection: AsyncConnection[Any], query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()


async def budgets_of(connection: AsyncConnection[Any], ids: set[int]) -> dict[int, BudgetTerms]:
    rows = await rows_of(
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


async def leases_of(connection: AsyncConnection[Any], reports: Sequence[LeaseReport]) -> dict[LeaseKey, OpenLease]:
    keys = sorted({(report.incarnation, report.number) for report in reports})
    rows = await rows_of(
        connection,
        """
        SELECT lease.* FROM unnest(%s::uuid[], %s::bigint[]) AS wanted (incarnation, number)
        JOIN budgets_lease AS lease USING (incarnation, number)
        ORDER BY lease.id FOR UPDATE OF lease
        """,
        [plain([key[0] for key in keys]), plain([key[1] for key in keys])],
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
            revoked=row["revoked"],
            short=row["short_nusd"],
        )
        for row in rows
    }


class _Terms(NamedTuple):
    """What an operator may change of a budget at any time, read after its accounts are locked; and what it carries."""

    amount: int
    blocks: bool
    archived: bool
    carry: CarryRule
    created_at: datetime


async def accounts_of(
    connection: AsyncConnection[Any], leases: Iterable[OpenLease], budgets: dict[int, BudgetTerms], now: datetime
) -> dict[int, OpenAccount]:
    """Lock the accounts on all paths, then read what their budgets allow: an amount that was lowered before counts.

    Of budgets that carry something over, the accounts of the periods before are locked, too.
    """
    ids = sorted({account for lease in leases for account in lease.path})
    locked = await rows_of(
        connection,
        """
        SELECT * FROM budgets_account
        WHERE id = ANY(%s) OR id IN (
            SELECT before.id
            FROM budgets_account AS held
            JOIN budgets_budget AS budget ON budget.id = held.budget_id
            JOIN budgets_account AS before ON before.budget_id = held.budget_id AND before.ends_at = held.starts_at
            WHERE held.id = ANY(%s) AND (budget.carry_up_to_nusd > 0 OR budget.carries_debt)
        )
        ORDER BY id FOR UPDATE
        """,
        [ids, ids],
    )
    budget_ids = {row["budget_id"] for row in locked}
    budgets |= await budgets_of(connection, budget_ids - budgets.keys())
    terms = await _terms_of(connection, budget_ids)
    windows = await _windows_of(connection, locked, budgets, now)
    before = {(row["budget_id"], row["ends_at"]): row for row in locked}
    wanted = set(ids)
    return {
        row["id"]: _open(row, budgets[row["budget_id"]], terms[row["budget_id"]], windows, before, now)
        for row in locked
        if row["id"] in wanted
    }


async def _terms_of(connection: AsyncConnection[Any], budget_ids: set[int]) -> dict[int, _Terms]:
    rows = await rows_of(
        connection,
        "SELECT id, amount_nusd, on_exhausted = 'block' AS blocks, archived_at IS NOT NULL AS archived, carry_up_to_nusd, "
        "carries_debt, created_at FROM budgets_budget WHERE id = ANY(%s)",
        [sorted(budget_ids)],
    )
    return {
        row["id"]: _Terms(
            row["amount_nusd"],
            row["blocks"],
            row["archived"],
            CarryRule(row["carry_up_to_nusd"], row["carries_debt"]),
            row["created_at"],
        )
        for row in rows
    }


def _open(
    row: dict[str, Any],
    budget: BudgetTerms,
    terms: _Terms,
    windows: dict[int, tuple[int, datetime | None]],
    before: dict[tuple[int, datetime], dict[str, Any]],
    now: datetime,
) -> OpenAccount:
    settled, oldest = windows.get(row["id"], (row["settled_nusd"], None))
    extra = _carried(terms, row, before.get((row["budget_id"], row["starts_at"])))
    return OpenAccount(
        id=row["id"],
        budget=budget,
        ends_at=row["ends_at"],
        state=Account(
            amount=terms.amount + extra,
            outstanding=row["outstanding_nusd"],
            settled=settled,
            blocks=terms.blocks,
            archived=terms.archived,
            scarce=row["denied_at"] is not None and now - row["denied_at"] < SCARCE_FOR,
        ),
        crowd=Crowd(row["live_holders"], row["wanting_holders"]),
        counted_at=row["counted_at"],
        frees_at=leaves_window(budget.rule.days, oldest) if budget.rule.days and oldest else None,
        carried=extra if extra != row["carried_nusd"] else None,
    )


def _carried(terms: _Terms, row: dict[str, Any], before: dict[str, Any] | None) -> int:
    """Return what the account has from the period before; one that nobody used is unused whole, if the budget was there."""
    if not terms.carry.carries or row["starts_at"] is None:
        return 0
    if before is not None:
        amount = before["amount_nusd"] + before["carried_nusd"]
        return carried(terms.carry, Before(amount, before["outstanding_nusd"] + before["settled_nusd"]))
    return carried(terms.carry, Before(row["amount_nusd"], 0) if terms.created_at < row["starts_at"] else None)


async def count_holders(
    connection: AsyncConnection[Any],
    reports: Iterable[LeaseReport],
    leases: Mapping[LeaseKey, OpenLease],
    accounts: Mapping[int, OpenAccount],
    *,
    now: datetime,
    ttl_ms: int,
) -> None:
    """Count who holds leases on the accounts whose last is to be divided, unless that was done a moment ago."""
    most = gather(reports, leases, accounts)
    due = [key for key, missing in most.items() if is_due(accounts[key], missing, now)]
    if not due:
        return
    found = await rows_of(
        connection,
        """
        SELECT account_id, count(*) AS live, count(*) FILTER (WHERE short_nusd > 0 AND seen_at > %s) AS wanting
        FROM (
            SELECT unnest(path) AS account_id, short_nusd, seen_at
            FROM budgets_lease WHERE NOT closed AND NOT revoked AND seen_at > %s AND path && %s::bigint[]
        ) AS lease
        WHERE account_id = ANY(%s) GROUP BY account_id
        """,
        [now - WANTS_FOR, now - timedelta(milliseconds=ttl_ms), due, due],
    )
    crowds = {row["account_id"]: Crowd(row["live"], row["wanting"]) for row in found}
    for key in due:
        accounts[key].crowd, accounts[key].recounted = crowds.get(key, Crowd()), True


async def _windows_of(
    connection: AsyncConnection[Any], accounts: list[dict[str, Any]], budgets: dict[int, BudgetTerms], now: datetime
) -> dict[int, tuple[int, datetime | None]]:
    """Return, for the rolling accounts, what was settled in their windows, and the oldest slot with a charge."""
    rolling = {row["id"]: days for row in accounts if (days := budgets[row["budget_id"]].rule.days)}
    if not rolling:
        return {}
    rows = await rows_of(
        connection,
        """
        SELECT wanted.id, coalesce(sum(slot.settled_nusd), 0)::bigint AS settled,
               min(slot.starts_at) FILTER (WHERE slot.settled_nusd > 0) AS oldest
        FROM unnest(%s::bigint[], %s::timestamptz[]) AS wanted (id, since)
        LEFT JOIN budgets_accountslot AS slot ON slot.account_id = wanted.id AND slot.starts_at > wanted.since
        GROUP BY wanted.id
        """,
        [list(rolling), [rolling_cutoff(days, now) for days in rolling.values()]],
    )
    return {row["id"]: (row["settled"], row["oldest"]) for row in rows}
