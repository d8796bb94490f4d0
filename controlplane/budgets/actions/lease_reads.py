"""What merging lease reports reads and locks: budgets, leases, accounts, and what counts in rolling windows.

Raw psycopg, many rows at once. Rows are locked in one order (leases, then accounts, each by id).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import dict_row

from controlplane.budgets.schemas import Told
from controlplane.columns import ids, plain
from controlplane.domain.carry import CarryRule, Past, brought
from controlplane.domain.crowds import GIVES_BACK_WITHIN, SCARCE_FOR, WANTS_FOR, gather, is_due
from controlplane.domain.grants import Account, Counters
from controlplane.domain.leases import BudgetTerms, Crowd, LeaseKey, OpenAccount, OpenLease, Report, Stood
from controlplane.domain.periods import PeriodRule, leaves_window, rolling_cutoff
from controlplane.domain.plain import LeaseRow


async def rows_of(connection: AsyncConnection[Any], query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()


async def send_leases(connection: AsyncConnection[Any], told: Sequence[Told]) -> AsyncCursor[Any]:
    """Ask for the leases, and lock them. The answer has a ``LeaseRow`` of each that there is."""
    return await connection.execute(
        b"""
        SELECT wanted.place, lease.id, path, granted_nusd, settled_nusd, returned_nusd, corrected_nusd, held_nusd,
               denied_calls, seq, closed, created_at, presumed_nusd, false_denied_calls, overage_nusd, revoked, short_nusd
        FROM unnest(%s::uuid[]) WITH ORDINALITY AS wanted (incarnation, place)
        JOIN budgets_lease AS lease ON lease.incarnation = wanted.incarnation AND lease.number = (%s::bigint[])[place]
        ORDER BY lease.id FOR UPDATE OF lease
        """,
        [ids([each.incarnation for each in told]), plain([each.line.number for each in told])],
    )


def opened(row: LeaseRow, report: Report) -> OpenLease:
    """Return the lease of a report as it was locked."""
    (
        _, number, path, granted, settled, returned, corrected, held, denied, seq, closed, opened_at, presumed,
        false_denied, overage, revoked, short,
    ) = row  # fmt: skip
    counters = Counters(granted, settled, returned, corrected)
    return OpenLease(
        (report.incarnation, report.number), path, counters, held, denied, seq, closed, opened_at, presumed, false_denied, overage,
        short=short, revoked=revoked, row=number,
    )  # fmt: skip


class Terms(NamedTuple):
    """What a budget says: what stays as it is, and what an operator may change at any time."""

    budget: BudgetTerms
    amount: int
    blocks: bool
    carry: CarryRule
    created_at: datetime


async def send_terms(connection: AsyncConnection[Any], budgets: Iterable[int]) -> AsyncCursor[Any]:
    """Ask what budgets say; ``terms_in`` reads the answer."""
    return await connection.execute(
        b"""
        SELECT budget.id, budget.slug, tenant.slug AS tenant, period_kind, period_unit, period_timezone, period_days,
               budget.archived_at IS NOT NULL, amount_nusd, on_exhausted = 'block', carry_up_to_nusd, carries_debt,
               budget.created_at
        FROM budgets_budget AS budget LEFT JOIN tenancy_tenant AS tenant ON tenant.id = budget.tenant_id
        WHERE budget.id = ANY(%s::bigint[])
        """,
        [plain(budgets)],
    )


async def terms_in(cursor: AsyncCursor[Any]) -> dict[int, Terms]:
    return {row[0]: _terms(row) for row in await cursor.fetchall()}


@lru_cache(4096)
def _terms(row: tuple[Any, ...]) -> Terms:
    """Return what a row says. Budgets seldom say something new."""
    key, slug, tenant, kind, unit, zone, days, archived, amount, blocks, carry, debt, at = row
    budget = BudgetTerms(key, f"{tenant or ''}/{slug}", tenant, PeriodRule(kind, unit, zone, days), archived)
    return Terms(budget, amount, blocks, CarryRule(carry, debt), at)


class AccountRow(NamedTuple):
    """An account as its row has it."""

    id: int
    budget_id: int
    starts_at: datetime | None
    ends_at: datetime | None
    outstanding: int
    settled: int
    amount: int
    carried: int
    live: int
    wanting: int
    counted_at: datetime | None
    denied_at: datetime | None
    denied: int
    overage: int
    corrected: int
    left: int


_BY_ID = b"""
    SELECT id, budget_id, starts_at, ends_at, outstanding_nusd, settled_nusd, amount_nusd, carried_nusd, live_holders,
           wanting_holders, counted_at, denied_at, denied_calls, overage_nusd, corrected_nusd, left_nusd
    FROM budgets_account WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE
"""
# The last account of each one's budget before it, in whatever period that was.
_BEFORE = b"""
    SELECT held.id, account.id, account.ends_at, account.amount_nusd, account.carried_nusd,
           account.outstanding_nusd + account.settled_nusd
    FROM budgets_account AS held CROSS JOIN LATERAL (
        SELECT id FROM budgets_account AS earlier
        WHERE earlier.budget_id = held.budget_id AND earlier.ends_at <= held.starts_at
        ORDER BY earlier.ends_at DESC LIMIT 1
    ) AS last JOIN budgets_account AS account ON account.id = last.id
    WHERE held.id = ANY(%s::bigint[]) ORDER BY account.id FOR UPDATE OF account
"""


async def send_accounts(connection: AsyncConnection[Any], ids: Iterable[int]) -> AsyncCursor[Any]:
    """Ask for accounts, and lock them; ``accounts_in`` reads the answer."""
    return await connection.execute(_BY_ID, [plain(ids)])


async def accounts_in(cursor: AsyncCursor[Any]) -> dict[int, AccountRow]:
    return {row[0]: AccountRow(*row) for row in await cursor.fetchall()}


async def open_accounts(
    connection: AsyncConnection[Any], rows: Mapping[int, AccountRow], terms: Mapping[int, Terms], now: datetime
) -> dict[int, OpenAccount]:
    """Return locked accounts as they stand. ``terms`` were read after they were locked: an amount lowered before counts.

    Of budgets that carry something over, the accounts of the periods before are locked, too.
    """
    windows = await _windows_of(connection, rows.values(), terms, now)
    carrying = [row.id for row in rows.values() if terms[row.budget_id].carry.carries]
    past: dict[int, Past] = {}
    if carrying:
        found = await connection.execute(_BEFORE, [plain(carrying)])
        past = {row[0]: Past(*row[2:]) for row in await found.fetchall()}
    return {key: _open(row, terms[row.budget_id], windows, past.get(key), now) for key, row in rows.items()}


def _open(
    row: AccountRow,
    terms: Terms,
    windows: Mapping[int, tuple[int, datetime | None]],
    past: Past | None,
    now: datetime,
) -> OpenAccount:
    budget = terms.budget
    settled, oldest = windows.get(row.id, (row.settled, None))
    extra = brought(terms.carry, budget.rule, row.starts_at, past, amount=row.amount, created_at=terms.created_at)
    scarce = row.denied_at is not None and now - row.denied_at < SCARCE_FOR
    return OpenAccount(
        id=row.id,
        budget=budget,
        ends_at=row.ends_at,
        state=Account(
            terms.amount + extra, row.outstanding, settled, terms.blocks, archived=budget.archived, scarce=scarce
        ),
        crowd=Crowd(row.live, row.wanting, row.left),
        counted_at=row.counted_at,
        frees_at=leaves_window(budget.rule.days, oldest) if budget.rule.days and oldest else None,
        carried=extra if extra != row.carried else None,
        stood=Stood(row.settled, row.denied, row.overage, row.corrected),
    )


async def floors_of(connection: AsyncConnection[Any], incarnations: Iterable[UUID]) -> dict[UUID, int]:
    """Return up to which number leases of incarnations have been folded; of those of which none was, nothing."""
    found = await connection.execute(
        b"SELECT incarnation, number FROM budgets_leasefloor WHERE incarnation = ANY(%s::uuid[])", [ids(incarnations)]
    )
    return dict(await found.fetchall())


async def count_holders(
    connection: AsyncConnection[Any],
    reports: Iterable[Report],
    leases: Mapping[LeaseKey, OpenLease],
    accounts: Mapping[int, OpenAccount],
    *,
    now: datetime,
    ttl_ms: int,
) -> None:
    """Count who holds leases on the accounts whose last is to be divided, unless that was done a moment ago.

    What is left to holders counts as long as they were heard of a moment ago: the others may be gone, and give nothing back soon.
    """
    most = gather(reports, leases, accounts)
    due = [key for key, missing in most.items() if is_due(accounts[key], missing, now)]
    if not due:
        return
    found = await rows_of(
        connection,
        """
        SELECT account_id, count(*) AS live, count(*) FILTER (WHERE short_nusd > 0 AND seen_at > %s) AS wanting,
               coalesce(sum(greatest(0, granted_nusd - returned_nusd - settled_nusd)) FILTER (WHERE seen_at > %s), 0) AS left_over
        FROM (
            SELECT unnest(path) AS account_id, short_nusd, seen_at, granted_nusd, returned_nusd, settled_nusd
            FROM budgets_lease WHERE NOT closed AND NOT revoked AND seen_at > %s AND path && %s::bigint[]
        ) AS lease
        WHERE account_id = ANY(%s) GROUP BY account_id
        """,
        [now - WANTS_FOR, now - GIVES_BACK_WITHIN, now - timedelta(milliseconds=ttl_ms), due, due],
    )
    crowds = {row["account_id"]: Crowd(row["live"], row["wanting"], int(row["left_over"])) for row in found}
    for key in due:
        accounts[key].crowd, accounts[key].recounted = crowds.get(key, Crowd()), True


async def _windows_of(
    connection: AsyncConnection[Any], accounts: Iterable[AccountRow], terms: Mapping[int, Terms], now: datetime
) -> dict[int, tuple[int, datetime | None]]:
    """Return, for the rolling accounts, what was settled in their windows, and the oldest slot with a charge."""
    rolling = {row.id: days for row in accounts if (days := terms[row.budget_id].budget.rule.days)}
    if not rolling:
        return {}
    rows = await rows_of(
        connection,
        """
        SELECT wanted.id, coalesce(sum(slot.settled_nusd), 0) AS settled,
               min(slot.starts_at) FILTER (WHERE slot.settled_nusd > 0) AS oldest
        FROM unnest(%s::bigint[], %s::timestamptz[]) AS wanted (id, since)
        LEFT JOIN budgets_accountslot AS slot ON slot.account_id = wanted.id AND slot.starts_at > wanted.since
        GROUP BY wanted.id
        """,
        [list(rolling), [rolling_cutoff(days, now) for days in rolling.values()]],
    )
    return {row["id"]: (int(row["settled"]), row["oldest"]) for row in rows}
