"""What comes back from a period that is over is carried on through all periods since.

An account says what it was carried when it was last opened, and the next period asks the last account before it alone. So
whoever changes an account of the past works out those after it, up to one that somebody else has locked: who holds that works out
what it has from the one before as soon as that is let go, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from itertools import groupby, takewhile
from typing import Any, NamedTuple

from django.db import connection
from psycopg import AsyncConnection

from controlplane.budgets.models import Account
from controlplane.columns import plain
from controlplane.domain.carry import CarryRule, Later, Past, carried_on
from controlplane.domain.periods import PeriodRule

# The accounts of budgets from the first one named on, in order of their periods; of those that somebody else holds, nothing.
_FROM_THERE = """
    WITH moved AS (
        SELECT budget_id, min(starts_at) AS starts_at FROM budgets_account WHERE id = ANY(%s::bigint[]) GROUP BY budget_id
    ), held AS MATERIALIZED (
        SELECT account.id, account.starts_at, account.ends_at, account.amount_nusd, account.carried_nusd,
               account.outstanding_nusd + account.settled_nusd AS exposure
        FROM moved JOIN budgets_account AS account ON account.budget_id = moved.budget_id AND account.ends_at > moved.starts_at
        FOR UPDATE OF account SKIP LOCKED
    )
    SELECT account.budget_id, held.id, held.starts_at, held.ends_at, held.amount_nusd, held.carried_nusd, held.exposure
    FROM moved JOIN budgets_account AS account ON account.budget_id = moved.budget_id AND account.ends_at > moved.starts_at
    LEFT JOIN held ON held.id = account.id
    ORDER BY account.budget_id, account.starts_at
"""
_CARRY = """
    UPDATE budgets_account AS account
    SET carried_nusd = said.carried, highest_nusd = greatest(account.highest_nusd, account.amount_nusd + said.carried)
    FROM unnest(%s::bigint[], %s::bigint[]) AS said (id, carried) WHERE account.id = said.id
"""


class Carrying(NamedTuple):
    """What a budget carries from period to period."""

    carry: CarryRule
    rule: PeriodRule


async def carry_on(link: AsyncConnection[Any], accounts: Collection[int], budgets: Mapping[int, Carrying]) -> None:
    """Work out what periods after these accounts are carried; ``budgets`` are theirs."""
    if not accounts:
        return
    found = await link.execute(_FROM_THERE.encode(), [plain(accounts)])
    changed = _changed(await found.fetchall(), budgets)
    if changed:
        await link.execute(_CARRY.encode(), [plain(changed), plain(changed.values())])


def carry_on_from(accounts: Iterable[Account], now: datetime) -> None:
    """Do the same where an operator, or time, has changed accounts, which are locked."""
    over = [row for row in accounts if row.budget.carry.carries and row.ends_at is not None and row.ends_at <= now]
    if not over:
        return
    budgets = {row.budget_id: Carrying(row.budget.carry, row.budget.rule) for row in over}
    with connection.cursor() as cursor:
        cursor.execute(_FROM_THERE, [[row.pk for row in over]])
        changed = _changed(cursor.fetchall(), budgets)
        if changed:
            cursor.execute(_CARRY, [list(changed), list(changed.values())])


def _changed(rows: Iterable[tuple[Any, ...]], budgets: Mapping[int, Carrying]) -> dict[int, int]:
    """Return what accounts are carried that their rows don't say. A row: its budget, id, and period, and how it stands."""
    changed: dict[int, int] = {}
    for budget, found in groupby(rows, key=lambda row: row[0]):
        mine = takewhile(lambda row: row[1] is not None, found)
        first, *later = (Later(row[1], row[2], Past(*row[3:])) for row in mine)
        changed |= carried_on(budgets[budget].carry, budgets[budget].rule, first.stands, later)
    return changed
