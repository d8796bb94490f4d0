"""Merging lease reports: what SDKs spent comes in, what they may spend goes out, in the caller's transaction.

Raw psycopg on purpose: this runs on the edge, many reports at once, in a fixed number of statements. Rows are locked in
one order (leases, then accounts, each by id), so that concurrent batches queue up instead of deadlocking.
What is read is in ``lease_reads``, what is written in ``lease_writes``; decisions are ``controlplane.domain.leases``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import AsyncConnection, AsyncCursor

from controlplane.budgets.actions.carrying import Carrying, carry_on
from controlplane.budgets.actions.lease_reads import (
    AccountRow,
    Terms,
    accounts_in,
    count_holders,
    floors_of,
    open_accounts,
    opened,
    rows_of,
    send_accounts,
    send_leases,
    send_terms,
    terms_in,
)
from controlplane.budgets.actions.lease_writes import store
from controlplane.budgets.schemas import LeaseAnswer, LeaseReport, Told
from controlplane.domain.excess import drop_excessive, is_excessive, refusal
from controlplane.domain.leases import (
    Denial,
    LeaseKey,
    OpenAccount,
    OpenLease,
    drop_strangers,
    may_touch,
    merge_report,
)
from controlplane.domain.ledger import stand_of
from controlplane.domain.periods import Period, period_of
from controlplane.domain.plain import Asked, LeaseRow, Path, merge_plainly
from controlplane.domain.retention import is_folded


class Held(NamedTuple):
    """Reports whose leases, accounts and budgets have been asked for and locked; the answers are still to be read."""

    told: Sequence[Told]
    leases: AsyncCursor[Any]
    accounts: AsyncCursor[Any]
    terms: AsyncCursor[Any]


async def hold(
    connection: AsyncConnection[Any], told: Sequence[Told], accounts: Mapping[int, int] | None = None
) -> Held | None:
    """Lock what reports are about; ``None`` when there are none. In a pipeline this only sends.

    ``accounts`` are those that the paths probably lead to, by budget: what is not among them is locked later.
    """
    if not told:
        return None
    known = accounts or {}
    budgets = {budget for each in told for budget in each.line.budgets}
    return Held(
        told,
        await send_leases(connection, told),
        await send_accounts(connection, {known[budget] for budget in budgets if budget in known}),
        await send_terms(connection, budgets),
    )


async def merge(
    connection: AsyncConnection[Any], reports: Sequence[LeaseReport], *, now: datetime, ttl_ms: int
) -> dict[LeaseKey, LeaseAnswer]:
    """Merge ``reports`` and return an answer for each. Nothing of it counts before the caller commits.

    Merging the same report twice, or an older one after a newer, changes nothing.
    """
    held = await hold(connection, [Told(report, report.incarnation, report.seq, report.allowed) for report in reports])
    answers = await merge_held(connection, held, {}, now=now, ttl_ms=ttl_ms) if held else []
    return {(report.incarnation, report.number): said for report, said in zip(reports, answers, strict=True)}


async def merge_held(
    connection: AsyncConnection[Any], held: Held, known: dict[int, int], *, now: datetime, ttl_ms: int
) -> list[LeaseAnswer]:
    """Merge reports that are held, and return their answers in order; note in ``known`` which account a budget has now.

    Those that are plain come first; which of a group comes before another is nobody's business.
    """
    found: dict[int, LeaseRow] = {row[0] - 1: row for row in await held.leases.fetchall()}
    rows = await accounts_in(held.accounts)
    terms = await terms_in(held.terms)
    new = [each.report for place, each in enumerate(held.told) if place not in found]
    leases, refused = await _open_new(connection, new, terms, now)
    wanted = {account for row in found.values() for account in row[2]}
    wanted.update(account for lease in leases.values() for account in lease.path)
    accounts = await _accounts_of(connection, wanted, rows, terms, now)
    known.update((account.budget.id, account.id) for account in accounts.values())
    paths = merge_plainly(_asked(held.told, found), accounts, now)
    answers = _plain_answers(held.told, paths, ttl_ms)
    rest = {place: each.report for place, each in enumerate(held.told) if place not in answers}
    leases |= {(each.incarnation, each.number): opened(found[at], each) for at, each in rest.items() if at in found}
    stood = {key: stand_of(lease) for key, lease in leases.items() if lease.row}
    reports = list(rest.values())
    excessive = drop_excessive(reports, leases)
    drop_strangers(reports, leases, accounts)
    await count_holders(connection, reports, leases, accounts, now=now, ttl_ms=ttl_ms)
    for place, report in rest.items():
        key = (report.incarnation, report.number)
        lease = leases.get(key)
        if lease is not None:
            said = merge_report(report, lease, accounts, now=now, ttl_ms=ttl_ms)
        elif key in excessive:
            said = refusal(report, "excessive", never=False, ttl_ms=ttl_ms)
        else:
            said = refusal(report, refused.get(key, "unknown"), never=key in refused, ttl_ms=ttl_ms)
        answers[place] = LeaseAnswer(report.number, *said)
    await store(connection, leases, stood, paths, accounts, now)
    await _carry_on(connection, accounts.values(), terms, now)
    return [answers[place] for place in range(len(held.told))]


async def _carry_on(
    connection: AsyncConnection[Any], accounts: Iterable[OpenAccount], terms: Mapping[int, Terms], now: datetime
) -> None:
    """What periods that are over gave back, or took, changes what those since were carried."""
    over = [
        account
        for account in accounts
        if account.ends_at is not None
        and account.ends_at <= now
        and account.changed
        and terms[account.budget.id].carry.carries
    ]
    budgets = {account.budget.id: Carrying(terms[account.budget.id].carry, account.budget.rule) for account in over}
    await carry_on(connection, [account.id for account in over], budgets)


def _asked(told: Sequence[Told], found: Mapping[int, LeaseRow]) -> Iterable[Asked]:
    """Return the reports of known leases, unless one of them is spoken of twice."""
    if len({row[1] for row in found.values()}) < len(found):
        return ()
    return ((each.line, each.seq, each.allowed, found[place]) for place, each in enumerate(told) if place in found)


def _plain_answers(told: Sequence[Told], paths: Iterable[Path], ttl_ms: int) -> dict[int, LeaseAnswer]:
    answers = {}
    for path in paths:
        for moved in path.moved:
            place = moved.place - 1
            number = told[place].line.number
            answers[place] = LeaseAnswer(number, moved.granted, moved.cap, ttl_ms, path.period_ms, False)
    return answers


async def _accounts_of(
    connection: AsyncConnection[Any],
    wanted: set[int],
    rows: dict[int, AccountRow],
    terms: dict[int, Terms],
    now: datetime,
) -> dict[int, OpenAccount]:
    """Return the accounts on all paths, locked; those in ``rows`` are."""
    missing = wanted - rows.keys()
    if missing:
        rows |= await accounts_in(await send_accounts(connection, missing))
        # What their budgets say is read after they were locked.
        budgets = {rows[key].budget_id for key in missing if key in rows}
        terms |= await terms_in(await send_terms(connection, budgets))
    return await open_accounts(connection, {key: rows[key] for key in sorted(wanted)}, terms, now)


async def _open_new(
    connection: AsyncConnection[Any], reports: Iterable[LeaseReport], terms: Mapping[int, Terms], now: datetime
) -> tuple[dict[LeaseKey, OpenLease], dict[LeaseKey, Denial]]:
    """Return the leases of which is heard for the first time, and why others can't be opened."""
    new = {(report.incarnation, report.number): report for report in reports if not is_excessive(report, None)}
    if not new:
        return {}, {}
    budgets = {key: each.budget for key, each in terms.items()}
    floors = await floors_of(connection, {incarnation for incarnation, _ in new})
    refused: dict[LeaseKey, Denial] = {}
    for key, report in new.items():
        if is_folded(report, floors):
            refused[key] = "closed"
        elif not may_touch(report, budgets):
            refused[key] = "unknown"
    opening = {key: report for key, report in new.items() if key not in refused}
    periods = {budget: period_of(budgets[budget].rule, now) for report in opening.values() for budget in report.budgets}
    accounts = await _ensure_accounts(connection, periods)
    leases = {
        key: OpenLease(key=key, path=[accounts[budget] for budget in report.budgets], opened_at=now)
        for key, report in opening.items()
    }
    return leases, refused


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
