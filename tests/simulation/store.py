"""The tables of controlplane.budgets in memory, and what ``budgets.actions.leases.merge`` does to them, transaction by
transaction. Decisions are ``controlplane.domain``'s; tests/concurrency holds this store against the real one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from controlplane.budgets.schemas import LeaseReport
from controlplane.domain.carry import CarryRule, Later, Past, brought, carried_on
from controlplane.domain.crowds import SCARCE_FOR, WANTS_FOR, gather, is_due
from controlplane.domain.excess import drop_excessive, is_excessive, refusal
from controlplane.domain.grants import Account
from controlplane.domain.leases import (
    NOBODY,
    Answer,
    BudgetTerms,
    Crowd,
    Denial,
    LeaseKey,
    OpenAccount,
    OpenLease,
    Stood,
    drop_strangers,
    may_touch,
    merge_report,
)
from controlplane.domain.ledger import Entry, entry_of, slot_moves, stand_of
from controlplane.domain.periods import PeriodRule, leaves_window, period_of, rolling_cutoff
from controlplane.domain.retention import Span, is_folded, kept_until
from controlplane.domain.taking_back import REST, rests_of, taken_back


@dataclass(slots=True)
class BudgetRow:
    id: int
    tenant: str | None
    slug: str
    amount: int
    rule: PeriodRule
    blocks: bool = True
    archived: bool = False
    category: str | None = None
    finishes: bool = False  # its leases may be finished when the server is away
    carry: CarryRule = field(default_factory=CarryRule)
    created_at: datetime | None = None

    @property
    def terms(self) -> BudgetTerms:
        return BudgetTerms(self.id, f"{self.tenant or ''}/{self.slug}", self.tenant, self.rule, self.archived)


@dataclass(slots=True)
class AccountRow:
    id: int
    budget: int
    key: str
    starts_at: datetime | None
    ends_at: datetime | None
    outstanding: int = 0
    settled: int = 0
    denied: int = 0
    overage: int = 0
    corrected: int = 0
    amount: int = 0  # while the period lasts, and at its end
    carried: int = 0
    crowd: Crowd = NOBODY
    counted_at: datetime | None = None
    denied_at: datetime | None = None
    slots: dict[datetime, int] = field(default_factory=dict)


class Written(NamedTuple):
    """What a transaction would write, and what it would answer."""

    answers: dict[LeaseKey, Answer]
    leases: dict[LeaseKey, OpenLease]
    accounts: dict[int, OpenAccount]
    opened: dict[tuple[int, str], AccountRow]
    entries: list[Entry]
    at: datetime


class Store:
    """Budgets, accounts and leases. Nothing changes but by ``commit``."""

    def __init__(self) -> None:
        self.budgets: dict[int, BudgetRow] = {}
        self.accounts: dict[int, AccountRow] = {}
        self.keys: dict[tuple[int, str], int] = {}
        self.leases: dict[LeaseKey, OpenLease] = {}
        self.seen: dict[LeaseKey, datetime] = {}
        self.floors: dict[UUID, int] = {}

    def merge(self, reports: Sequence[LeaseReport], *, now: datetime, ttl_ms: int) -> Written:
        """Return what merging ``reports`` in one transaction makes of the tables."""
        leases = {key: replace(self.leases[key]) for key in map(key_of, reports) if key in self.leases}
        stood = {key: stand_of(lease) for key, lease in leases.items()}
        opened: dict[tuple[int, str], AccountRow] = {}
        refused = self._open_new(reports, leases, opened, now)
        accounts = self._open_accounts(leases.values(), opened, now)
        excessive = drop_excessive(reports, leases)
        drop_strangers(reports, leases, accounts)
        self._count_holders(reports, leases, accounts, now, timedelta(milliseconds=ttl_ms))
        answers = {}
        for report in reports:
            key = key_of(report)
            if key in leases:
                answers[key] = merge_report(report, leases[key], accounts, now=now, ttl_ms=ttl_ms)
            elif key in excessive:
                answers[key] = refusal(report, "excessive", never=False, ttl_ms=ttl_ms)
            else:
                answers[key] = refusal(report, refused.get(key, "unknown"), never=key in refused, ttl_ms=ttl_ms)
        found = (entry_of(lease, stood.get(key), now=now) for key, lease in leases.items())
        entries = [entry for entry in found if entry is not None]
        return Written(answers, leases, accounts, opened, entries, now)

    def _open_new(
        self,
        reports: Sequence[LeaseReport],
        leases: dict[LeaseKey, OpenLease],
        opened: dict[tuple[int, str], AccountRow],
        now: datetime,
    ) -> dict[LeaseKey, Denial]:
        refused: dict[LeaseKey, Denial] = {}
        for report in reports:
            key = key_of(report)
            if key in leases or is_excessive(report, None):
                continue
            if is_folded(report, self.floors):
                refused[key] = "closed"
                continue
            terms = {budget: self.budgets[budget].terms for budget in report.budgets if budget in self.budgets}
            if may_touch(report, terms):
                path = [self._account_of(budget, opened, now) for budget in report.budgets]
                leases[key] = OpenLease(key, path, opened_at=now)
            else:
                refused[key] = "unknown"
        return refused

    def _account_of(self, budget: int, opened: dict[tuple[int, str], AccountRow], now: datetime) -> int:
        period = period_of(self.budgets[budget].rule, now)
        known = self.keys.get((budget, period.key))
        if known is not None:
            return known
        row = opened.get((budget, period.key))
        if row is None:
            number = len(self.accounts) + len(opened) + 1
            row = AccountRow(number, budget, period.key, period.starts_at, period.ends_at)
            row.amount = self.budgets[budget].amount
            opened[budget, period.key] = row
        return row.id

    def _open_accounts(
        self, leases: Iterable[OpenLease], opened: dict[tuple[int, str], AccountRow], now: datetime
    ) -> dict[int, OpenAccount]:
        new = {row.id: row for row in opened.values()}
        rows = [self.accounts.get(key) or new[key] for key in {key for lease in leases for key in lease.path}]
        return {row.id: self._open_account(row, now) for row in rows}

    def _open_account(self, row: AccountRow, now: datetime) -> OpenAccount:
        budget = self.budgets[row.budget]
        extra = self.carried_to(row)
        settled = self.settled(row, now)
        scarce = row.denied_at is not None and now - row.denied_at < SCARCE_FOR
        state = Account(budget.amount + extra, row.outstanding, settled, budget.blocks, budget.archived, scarce=scarce)
        carried = extra if extra != row.carried else None
        frees_at = self._frees_at(row, now)
        return OpenAccount(
            row.id,
            budget.terms,
            row.ends_at,
            state,
            frees_at=frees_at,
            carried=carried,
            crowd=row.crowd,
            counted_at=row.counted_at,
            stood=Stood(row.settled, row.denied, row.overage, row.corrected),
        )

    def _count_holders(
        self,
        reports: Sequence[LeaseReport],
        leases: dict[LeaseKey, OpenLease],
        accounts: dict[int, OpenAccount],
        now: datetime,
        ttl: timedelta,
    ) -> None:
        for key, missing in gather(reports, leases, accounts).items():
            if is_due(accounts[key], missing, now):
                holders = [
                    (self.seen[name], lease.short, lease.outstanding)
                    for name, lease in self.leases.items()
                    if key in lease.path and not lease.closed and not lease.revoked and self.seen[name] > now - ttl
                ]
                wanting = sum(short > 0 and seen > now - WANTS_FOR for seen, short, _ in holders)
                accounts[key].crowd, accounts[key].recounted = (
                    Crowd(len(holders), wanting, sum(left for *_, left in holders)),
                    True,
                )

    def carried_to(self, row: AccountRow) -> int:
        """Return what an account has from the period before."""
        budget = self.budgets[row.budget]
        past = None
        if budget.carry.carries and row.starts_at is not None:
            earlier = [
                (known.ends_at, known)
                for known in self.accounts.values()
                if known.budget == row.budget and known.ends_at is not None and known.ends_at <= row.starts_at
            ]
            if earlier:
                _, last = max(earlier, key=lambda each: each[0])
                past = _stands(last)
        return brought(budget.carry, budget.rule, row.starts_at, past, amount=row.amount, created_at=budget.created_at)

    def carry_on(self, accounts: Iterable[int], now: datetime) -> None:
        """What budgets.actions.carrying does for accounts that were changed."""
        for first in map(self.accounts.__getitem__, accounts):
            budget = self.budgets[first.budget]
            if first.ends_at is None or first.ends_at > now or not budget.carry.carries:
                continue
            rows = [row for row in self.accounts.values() if row.budget == budget.id]
            later = [
                Later(row.id, row.starts_at, _stands(row))
                for row in rows
                if row.ends_at and row.ends_at > first.ends_at
            ]
            later.sort(key=lambda account: account.stands.ends_at)
            for key, carried in carried_on(budget.carry, budget.rule, _stands(first), later).items():
                self.accounts[key].carried = carried

    def change_amount(self, number: int, amount: int, now: datetime) -> None:
        """What budgets.actions.budgets.change_amount does."""
        opened: dict[tuple[int, str], AccountRow] = {}
        self._account_of(number, opened, now)
        for key, row in opened.items():
            self.accounts[row.id] = row
            self.keys[key] = row.id
            row.carried = self.carried_to(row)
        self.budgets[number].amount = amount
        for row in self.accounts.values():
            if row.budget == number and (row.ends_at is None or row.ends_at > now):
                row.amount = amount

    def archive(self, number: int) -> None:
        """What budgets.actions.budgets.archive_budget does."""
        self.budgets[number].archived = True

    def revoke(self, key: LeaseKey) -> None:
        """Grant nothing more on a lease."""
        self.leases[key] = replace(self.leases[key], revoked=True)

    def end(self, key: LeaseKey, spent: int, *, counts_at: datetime, now: datetime) -> None:
        """What budgets.actions.lease_acts does to the lease of a lost holder: presume ``spent`` of what is left, free the rest."""
        old = self.leases[key]
        lease = self.leases[key] = replace(old, closed=True, presumed=old.presumed + spent)
        entry = entry_of(lease, stand_of(old), now=now, counts_at=counts_at)
        assert entry is not None
        for row in map(self.accounts.__getitem__, lease.path):
            row.outstanding -= old.outstanding
            row.settled += spent
        self.carry_on(lease.path, now)
        self._store_slots([entry], lease.path)

    def fold(self, *, now: datetime, keep: timedelta) -> list[OpenLease]:
        """What budgets.actions.folding does to closed leases; return them."""
        over = [key for key, lease in self.leases.items() if lease.closed and self._kept_until(key, keep) < now]
        over = [(incarnation, number) for incarnation, number in over if number != REST]
        for incarnation, number in over:
            self.floors[incarnation] = max(number, self.floors.get(incarnation, 0))
        gone = [self.leases.pop(key) for key in over]
        rests = rests_of(gone, {key: self.span(key) for key in self.accounts}, self.leases)
        self.leases |= rests
        self.seen |= dict.fromkeys(rests, now)
        return gone

    def take_back(self, key: LeaseKey, nusd: int, now: datetime) -> None:
        """What budgets.actions.corrections does to one lease."""
        old = self.leases[key]
        lease = self.leases[key] = taken_back(old, nusd)
        entry = entry_of(lease, stand_of(old), now=now)
        assert entry is not None
        for row in map(self.accounts.__getitem__, lease.path):
            row.settled -= nusd
            row.corrected += entry.corrected
        self.carry_on(lease.path, now)
        self._store_slots([entry], lease.path)

    def span(self, account: int) -> Span:
        """Return how long an account counts."""
        return Span(self.accounts[account].ends_at, self.days_of(account))

    def _kept_until(self, key: LeaseKey, keep: timedelta) -> datetime:
        return kept_until(self.seen[key], map(self.span, self.leases[key].path), keep)

    def _frees_at(self, row: AccountRow, now: datetime) -> datetime | None:
        days = self.budgets[row.budget].rule.days
        if not days:
            return None
        cutoff = rolling_cutoff(days, now)
        charged = [at for at, amount in row.slots.items() if at > cutoff and amount > 0]
        return leaves_window(days, min(charged)) if charged else None

    def settled(self, row: AccountRow, now: datetime) -> int:
        """Return what counts as settled at ``now``: of a rolling account, what is in its window."""
        days = self.budgets[row.budget].rule.days
        if not days:
            return row.settled
        cutoff = rolling_cutoff(days, now)
        return sum(amount for at, amount in row.slots.items() if at > cutoff)

    def commit(self, written: Written) -> None:
        """Make a transaction's changes durable."""
        for key, row in written.opened.items():
            self.accounts[row.id] = row
            self.keys[key] = row.id
        self.leases.update(written.leases)
        self.seen.update(dict.fromkeys(written.leases, written.at))
        for account in written.accounts.values():
            row = self.accounts[account.id]
            row.outstanding += account.outstanding
            row.settled += account.settled
            row.denied += account.denied
            row.overage += account.overage
            row.corrected += account.corrected
            row.denied_at = written.at if account.blocked else row.denied_at
            if account.recounted:
                row.crowd, row.counted_at = account.crowd, written.at
            row.carried = row.carried if account.carried is None else account.carried
        self.carry_on([account.id for account in written.accounts.values() if account.changed], written.at)
        self._store_slots(written.entries, written.accounts)

    def days_of(self, account: int) -> int | None:
        """Return over how many days an account rolls."""
        return self.budgets[self.accounts[account].budget].rule.days

    def _store_slots(self, entries: Sequence[Entry], accounts: Iterable[int]) -> None:
        rolling = {account: days for account in accounts if (days := self.days_of(account))}
        if rolling:
            for (account, at), amount in slot_moves(entries, rolling).items():
                slots = self.accounts[account].slots
                slots[at] = slots.get(at, 0) + amount


def _stands(row: AccountRow) -> Past:
    """Return what the period after one that has an end asks of it."""
    assert row.ends_at is not None
    return Past(row.ends_at, row.amount, row.carried, row.outstanding + row.settled)


def key_of(report: LeaseReport) -> LeaseKey:
    return report.incarnation, report.number
