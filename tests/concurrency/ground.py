"""Budgets in trees on the test database, and what must be true of it at every instant, asked in SQL."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db import connection
from psycopg import AsyncConnection

Link = AsyncConnection[Any]

UNEVEN = """
    SELECT account.id, account.outstanding_nusd, account.settled_nusd, account.denied_calls, due.outstanding, due.settled, due.denied
    FROM budgets_account AS account
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(CASE WHEN closed THEN 0 ELSE greatest(0, granted_nusd - returned_nusd - settled_nusd) END), 0)
                   AS outstanding,
               coalesce(sum(settled_nusd - corrected_nusd + presumed_nusd), 0) AS settled,
               coalesce(sum(denied_calls), 0) AS denied
        FROM budgets_lease WHERE account.id = ANY(path)
    ) AS due
    WHERE (account.outstanding_nusd, account.settled_nusd, account.denied_calls)
          IS DISTINCT FROM (due.outstanding, due.settled, due.denied)
"""
OVERSPENT = """
    SELECT account.id, outstanding_nusd + settled_nusd AS exposed, most.amount
    FROM budgets_account AS account JOIN unnest(%s::bigint[], %s::bigint[]) AS most (budget_id, amount) USING (budget_id)
    WHERE outstanding_nusd + settled_nusd > most.amount
"""


def conninfo() -> str:
    """Return how to connect to the test database."""
    named = connection.settings_dict
    return psycopg.conninfo.make_conninfo(
        "", host=named["HOST"], port=named["PORT"], user=named["USER"], password=named["PASSWORD"], dbname=named["NAME"]
    )


async def connect() -> Link:
    """Return a connection of one's own."""
    return await AsyncConnection.connect(conninfo())


async def uneven(link: Link) -> list[Any]:
    """Return the accounts that differ from what their leases come to, as one snapshot of the database has it."""
    async with link.transaction():
        return await (await link.execute(UNEVEN)).fetchall()


async def overspent(link: Link, most: dict[int, int]) -> list[Any]:
    """Return the accounts that are exposed beyond the greatest amounts that their budgets ever had."""
    async with link.transaction():
        return await (await link.execute(OVERSPENT, [list(most), list(most.values())])).fetchall()


async def waiting(link: Link) -> bool:
    """Return whether some connection waits for a lock of another one."""
    async with link.transaction():
        query = b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        row = await (await link.execute(query)).fetchone()
    return row is not None and row[0] > 0
