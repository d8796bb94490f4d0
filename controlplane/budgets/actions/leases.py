"""Merging lease reports: what SDKs spent comes in, what they may spend goes out, in the caller's transaction.

Raw psycopg on purpose: this runs on the edge, many reports at once, in a fixed number of statements. Rows are locked in
one order (leases, then accounts, each by id), so that concurrent batches queue up instead of deadlocking.
What is read is in ``lease_reads``, what is written in ``lease_writes``; decisions are ``controlplane.domain.leases``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection, AsyncCursor

from controlplane.budgets.actions.lease_reads import (
    AccountRow,
    Terms,
    accounts_in,
    count_holders,
    leases_in,
    open_accounts,
    rows_of,
    send_accounts,
    send_leases,
    send_terms,
    terms_in,
)
from controlplane.budgets.actions.lease_writes import store
from controlplane.budgets.schemas import LeaseAnswer, LeaseReport
from controlplane.domain.leases import (
    LeaseKey,
    OpenAccount,
    OpenLease,
    drop_strangers,
    may_touch,
    merge_report,
    unknown,
)
from controlplane.domain.ledger import stand_of
from controlplane.domain.periods import Period, period_of


class Held:
    """Reports whose leases, accounts and budgets have been asked for and locked; the answers are still to be read."""

    def __init__(self, reports: Sequence[LeaseReport], keys: list[LeaseKey], cursors: list[AsyncCursor[Any]]) -> None:
        self.reports = reports
        self.keys = keys
        self.leases, self.accounts, self.terms = cursors


async def hold(
    connection: AsyncConnection[Any], reports: Sequence[LeaseReport], accounts: Mapping[int, int] | None = None
) -> Held | None:
    """Lock what ``reports`` are about; ``None`` when there are none. In a pipeline this only sends.

    ``accounts`` are those that the paths probably lead to, by budget: what is not among them is locked later.
    """
    if not reports:
        return None
    known = accounts or {}
    keys = list({(report.incarnation, report.number): None for report in reports})
    budgets = {budget for report in reports for budget in report.budgets}
    cursors = [
        await send_leases(connection, keys),
        await send_accounts(connection, {known[budget] for budget in budgets if budget in known}),
        await send_terms(connection, budgets),
    ]
    return Held(reports, keys, cursors)


async def merge(
    connection: AsyncConnection[Any], reports: Sequence[LeaseReport], *, now: datetime, ttl_ms: int
) -> dict[LeaseKey, LeaseAnswer]:
    """Merge ``reports`` and return an answer for each. Nothing of it counts before the caller commits.

    Merging the same report twice, or an older one after a newer, changes nothing.
    """
    held = await hold(connection, reports)
    answers = await merge_held(connection, held, {}, now=now, ttl_ms=ttl_ms) if held else []
    return {(report.incarnation, report.number): said for report, said in zip(reports, answers, strict=True)}


async def merge_held(
    connection: AsyncConnection[Any], held: Held, known: dict[int, int], *, now: datetime, ttl_ms: int
) -> list[LeaseAnswer]:
    """Merge reports that are held, and return their answers in order; note in ``known`` which account a budget has now."""
    leases = await leases_in(held.leases, held.keys)
    rows = await accounts_in(held.accounts)
    terms = await terms_in(held.terms)
    stood = {key: stand_of(lease) for key, lease in leases.items()}
    refused = await _open_new(connection, held, terms, leases, now)
    accounts = await _accounts_of(connection, leases.values(), rows, terms, now)
    known.update((account.budget.id, account.id) for account in accounts.values())
    drop_strangers(held.reports, leases, accounts)
    await count_holders(connection, held.reports, leases, accounts, now=now, ttl_ms=ttl_ms)
    answers = []
    for report in held.reports:
        key = (report.incarnation, report.number)
        lease = leases.get(key)
        if lease is not None:
            said = merge_report(report, lease, accounts, now=now, ttl_ms=ttl_ms)
        else:
            said = unknown(report, refused=key in refused, ttl_ms=ttl_ms)
        answers.append(LeaseAnswer(report.number, *said))
    await store(connection, leases, stood, accounts, now)
    return answers


async def _accounts_of(
    connection: AsyncConnection[Any],
    leases: Iterable[OpenLease],
    rows: dict[int, AccountRow],
    terms: dict[int, Terms],
    now: datetime,
) -> dict[int, OpenAccount]:
    """Return the accounts on all paths, locked; those in ``rows`` are."""
    wanted = {account for lease in leases for account in lease.path}
    missing = wanted - rows.keys()
    if missing:
        rows |= await accounts_in(await send_accounts(connection, missing))
        # What their budgets say is read after they were locked.
        budgets = {rows[key].budget_id for key in missing if key in rows}
        terms |= await terms_in(await send_terms(connection, budgets))
    return await open_accounts(connection, {key: rows[key] for key in sorted(wanted)}, terms, now)


async def _open_new(
    connection: AsyncConnection[Any],
    held: Held,
    terms: Mapping[int, Terms],
    leases: dict[LeaseKey, OpenLease],
    now: datetime,
) -> set[LeaseKey]:
    """Add to ``leases`` those that are heard of for the first time; return those that can't be opened."""
    if len(leases) == len(held.keys):
        return set()
    reports = ((report.incarnation, report.number, report) for report in held.reports)
    new = {
        (incarnation, number): report for incarnation, number, report in reports if (incarnation, number) not in leases
    }
    budgets = {key: each.budget for key, each in terms.items()}
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
