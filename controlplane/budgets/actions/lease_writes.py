"""What merging lease reports writes: accounts, slots of rolling windows, leases, and the entries of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from controlplane.columns import ids, moments, optional, plain, texts
from controlplane.domain.leases import LeaseKey, OpenAccount, OpenLease
from controlplane.domain.ledger import Entry, Stand, entry_of, slot_moves
from controlplane.domain.periods import slot_of
from controlplane.domain.plain import Moved, Path

_NOTHING = (0, 0, 0, "none")
_WRITTEN = Moved._fields.index("row")  # from there on a plain lease is written as it is


async def store(
    connection: AsyncConnection[Any],
    leases: Mapping[LeaseKey, OpenLease],
    stood: Mapping[LeaseKey, Stand],
    paths: Sequence[Path],
    accounts: Mapping[int, OpenAccount],
    now: datetime,
) -> None:
    """Write what differs from how the leases ``stood`` and from the rows of the accounts, and enter it in the ledger.

    ``paths`` have what was merged plainly.
    """
    plainly: list[Sequence[Any]] = [moved[_WRITTEN:] for path in paths for moved in path.moved]
    rest: list[OpenLease] = []
    entries: list[Entry] = []
    moving: list[Entry] = []
    for key, lease in leases.items():
        entry = entry_of(lease, stood.get(key), now=now)
        if entry is not None:
            moving.append(entry)
        if lease.row and (entry is None or entry.is_plain):
            plainly.append(_known(lease, entry))
            continue
        rest.append(lease)
        if entry is not None:
            entries.append(entry)
    await store_accounts(connection, accounts.values(), now)
    await store_slots(connection, moving, paths, accounts.values(), now)
    await store_plainly(connection, plainly, now)
    await store_leases(connection, rest, now)
    await store_entries(connection, entries)


def _known(lease: OpenLease, entry: Entry | None) -> Sequence[Any]:
    """Return what is written of a lease, in the order of ``Moved``."""
    granted, settled, returned, _ = lease.counters
    moved = _NOTHING if entry is None else (entry.granted, entry.settled, entry.returned, entry.kind)
    return lease.row, granted, settled, returned, lease.held, lease.seq, lease.short, *moved


async def store_plainly(connection: AsyncConnection[Any], changes: Sequence[Sequence[Any]], now: datetime) -> None:
    """Write leases that are known, with entries that say no more than what was granted, settled and returned.

    Of each: id, granted, settled, returned, held, seq, short; granted, settled, returned more than before, and the kind of the entry.
    """
    if not changes:
        return
    await connection.execute(
        b"""
        WITH kept AS (
            UPDATE budgets_lease AS lease
            SET granted_nusd = said.granted, settled_nusd = said.settled, returned_nusd = said.returned,
                held_nusd = said.held, seq = said.seq, short_nusd = said.short, seen_at = said.at
            FROM (
                SELECT kind, %s::timestamptz AS at, (%s::bigint[])[place] AS id, (%s::bigint[])[place] AS granted,
                       (%s::bigint[])[place] AS settled, (%s::bigint[])[place] AS returned, (%s::bigint[])[place] AS held,
                       (%s::bigint[])[place] AS seq, (%s::bigint[])[place] AS short, (%s::bigint[])[place] AS more,
                       (%s::bigint[])[place] AS spent, (%s::bigint[])[place] AS given_back
                FROM unnest(%s::text[]) WITH ORDINALITY AS each (kind, place)
            ) AS said
            WHERE lease.id = said.id
            RETURNING lease.incarnation, lease.number, lease.path, lease.created_at, said.at, said.kind, said.more, said.spent,
                      said.given_back
        )
        INSERT INTO budgets_ledgerentry (incarnation, number, path, kind, at, opened_at, counts_at, granted_nusd, settled_nusd,
                                         returned_nusd)
        SELECT incarnation, number, path, kind, at, created_at, at, more, spent, given_back FROM kept WHERE kind <> 'none'
        """,
        [str(now), *map(plain, zip(*changes, strict=True))],
    )


async def store_accounts(connection: AsyncConnection[Any], accounts: Iterable[OpenAccount], now: datetime) -> None:
    """Add to the accounts what this transaction moved."""
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
            corrected_nusd = account.corrected_nusd + moved.corrected,
            denied_at = coalesce(moved.denied_at, account.denied_at),
            carried_nusd = coalesce(moved.carried, account.carried_nusd),
            highest_nusd = greatest(account.highest_nusd, account.amount_nusd + moved.carried),
            live_holders = coalesce(moved.live, account.live_holders),
            wanting_holders = coalesce(moved.wanting, account.wanting_holders),
            left_nusd = coalesce(moved.more_left, account.left_nusd),
            counted_at = CASE WHEN moved.live IS NULL THEN account.counted_at ELSE moved.at END, updated_at = moved.at
        FROM (
            SELECT each.*, %s::timestamptz AS at, (%s::bigint[])[place] AS id, (%s::bigint[])[place] AS outstanding,
                   (%s::bigint[])[place] AS settled, (%s::bigint[])[place] AS denied, (%s::bigint[])[place] AS false_denied,
                   (%s::bigint[])[place] AS presumed, (%s::bigint[])[place] AS overage, (%s::bigint[])[place] AS corrected
            FROM unnest(%s::timestamptz[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) WITH ORDINALITY
                 AS each (denied_at, carried, live, wanting, more_left, place)
        ) AS moved
        WHERE account.id = moved.id
        """,
        [
            str(now),
            plain([account.id for account in changed]),
            plain([account.outstanding for account in changed]),
            plain([account.settled for account in changed]),
            plain([account.denied for account in changed]),
            plain([account.false_denied for account in changed]),
            plain([account.presumed for account in changed]),
            plain([account.overage for account in changed]),
            plain([account.corrected for account in changed]),
            moments([now if account.blocked else None for account in changed]),
            optional([account.carried for account in changed]),
            optional([account.crowd.live if account.recounted else None for account in changed]),
            optional([account.crowd.wanting if account.recounted else None for account in changed]),
            optional([account.crowd.left if account.recounted else None for account in changed]),
        ],
    )


async def store_slots(
    connection: AsyncConnection[Any],
    entries: Iterable[Entry],
    paths: Iterable[Path],
    accounts: Iterable[OpenAccount],
    now: datetime,
) -> None:
    """Add what was settled or corrected to the slots of rolling windows that it counts in."""
    rolling = {account.id: days for account in accounts if (days := account.budget.rule.days)}
    if not rolling:
        return
    moving = slot_moves(entries, rolling)
    for path in paths:
        settled = path.settled
        for account in path.accounts:
            if settled and account in rolling:
                slot = (account, slot_of(rolling[account], now))
                moving[slot] = moving.get(slot, 0) + settled
    moves = sorted(moving.items())
    if not moves:
        return
    await connection.execute(
        b"""
        INSERT INTO budgets_accountslot AS slot (account_id, starts_at, settled_nusd)
        SELECT * FROM unnest(%s::bigint[], %s::timestamptz[], %s::bigint[])
        ON CONFLICT (account_id, starts_at) DO UPDATE SET settled_nusd = slot.settled_nusd + excluded.settled_nusd
        """,
        [
            plain([account for (account, _), _ in moves]),
            moments([at for (_, at), _ in moves]),
            plain([amount for _, amount in moves]),
        ],
    )


async def store_leases(connection: AsyncConnection[Any], leases: Iterable[OpenLease], now: datetime) -> None:
    """Write leases whole, new ones and changed ones, in the order of their keys."""
    ordered = sorted(leases, key=lambda lease: lease.key)
    if not ordered:
        return
    columns = {
        "incarnation": ids([lease.key[0] for lease in ordered]),
        "number": plain([lease.key[1] for lease in ordered]),
        "path": texts([plain(lease.path) for lease in ordered]),
        "granted_nusd": plain([lease.counters.granted for lease in ordered]),
        "settled_nusd": plain([lease.counters.settled for lease in ordered]),
        "returned_nusd": plain([lease.counters.returned for lease in ordered]),
        "corrected_nusd": plain([lease.counters.corrected for lease in ordered]),
        "held_nusd": plain([lease.held for lease in ordered]),
        "denied_calls": plain([lease.denied for lease in ordered]),
        "seq": plain([lease.seq for lease in ordered]),
        "closed": plain([lease.closed for lease in ordered]),
        "presumed_nusd": plain([lease.presumed for lease in ordered]),
        "false_denied_calls": plain([lease.false_denied for lease in ordered]),
        "overage_nusd": plain([lease.overage for lease in ordered]),
        "short_nusd": plain([lease.short for lease in ordered]),
        "created_at": moments([lease.opened_at for lease in ordered]),
    }
    await connection.execute(
        b"""
        INSERT INTO budgets_lease (incarnation, number, path, granted_nusd, settled_nusd, returned_nusd, corrected_nusd,
                                   held_nusd, denied_calls, seq, closed, presumed_nusd, false_denied_calls, overage_nusd,
                                   short_nusd, created_at, seen_at)
        SELECT incarnation, number, path::bigint[], granted, settled, returned, corrected, held, denied, seq, closed,
               presumed, false_denied, overage, short, created_at, %s::timestamptz
        FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                    %s::bigint[], %s::bigint[], %s::bigint[], %s::boolean[], %s::bigint[], %s::bigint[], %s::bigint[],
                    %s::bigint[], %s::timestamptz[])
             AS lease (incarnation, number, path, granted, settled, returned, corrected, held, denied, seq, closed,
                       presumed, false_denied, overage, short, created_at)
        ON CONFLICT (incarnation, number) DO UPDATE
        SET granted_nusd = excluded.granted_nusd, settled_nusd = excluded.settled_nusd,
            returned_nusd = excluded.returned_nusd, corrected_nusd = excluded.corrected_nusd,
            held_nusd = excluded.held_nusd, denied_calls = excluded.denied_calls, seq = excluded.seq,
            closed = excluded.closed, presumed_nusd = excluded.presumed_nusd,
            false_denied_calls = excluded.false_denied_calls, overage_nusd = excluded.overage_nusd,
            short_nusd = excluded.short_nusd, seen_at = excluded.seen_at
        """,
        [str(now), *columns.values()],
    )


# Takes the columns of ``entry_columns``.
INSERT_ENTRIES = """
INSERT INTO budgets_ledgerentry (incarnation, number, path, kind, at, opened_at, counts_at, closes, by, reason,
                                 granted_nusd, settled_nusd, returned_nusd, corrected_nusd, presumed_nusd,
                                 denied_calls, false_denied_calls, overage_nusd)
SELECT incarnation, number, path::bigint[], kind, at, opened_at, counts_at, closes, by, reason, granted, settled,
       returned, corrected, presumed, denied, false_denied, overage
FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[],
            %s::boolean[], %s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::bigint[], %s::bigint[], %s::bigint[])
     AS entry (incarnation, number, path, kind, at, opened_at, counts_at, closes, by, reason, granted, settled, returned,
               corrected, presumed, denied, false_denied, overage)
"""


def entry_columns(entries: Sequence[Entry], *, by: str = "", reason: str = "") -> list[str]:
    """Return the columns of ``INSERT_ENTRIES``; ``by`` and ``reason`` are an operator's."""
    return [
        plain([entry.key[0] for entry in entries]),
        plain([entry.key[1] for entry in entries]),
        texts([plain(entry.path) for entry in entries]),
        texts([entry.kind for entry in entries]),
        moments([entry.at for entry in entries]),
        moments([entry.opened_at for entry in entries]),
        moments([entry.counts_at for entry in entries]),
        plain([entry.closes for entry in entries]),
        texts([by] * len(entries)),
        texts([reason] * len(entries)),
        *map(plain, zip(*(entry.amounts for entry in entries), strict=True)),
    ]


async def store_entries(connection: AsyncConnection[Any], entries: Sequence[Entry]) -> None:
    if entries:
        await connection.execute(INSERT_ENTRIES.encode(), entry_columns(entries))
