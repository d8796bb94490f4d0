"""Reports that say no more than what was spent and given back, on leases with plenty of room: most of all that there are.

What becomes of them is what ``merge_report`` would make of them. They are merged without looking at an account for each, and
without keeping more of a lease than what changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from controlplane.domain.crowds import TIGHT
from controlplane.domain.leases import MOST_NUSD, Line, OpenAccount

# A lease as its row has it: place (from 1) among those asked for, id, path, granted, settled, returned, corrected, held,
# denied, seq, closed, opened at, presumed, falsely denied, overage, revoked, short.
LeaseRow = tuple[
    int, int, list[int], int, int, int, int, int, int, int, bool, datetime, int, int, int, bool, int
]  # fmt: skip


Asked = tuple[Line, int, frozenset[str] | None, LeaseRow]  # a line, its seq, whose budgets its key may touch, the lease


class Moved(NamedTuple):
    """A lease after its report: its row and counters, what that is more than before, and what its holder may keep idle.

    ``kind`` is that of its entry in the ledger; ``none``: nothing was moved. All from ``row`` on is what is written of it, in the
    order of ``lease_writes.store_plainly``; nothing is ``short``.
    """

    place: int
    cap: int
    row: int
    granted: int
    settled: int
    returned: int
    held: int
    seq: int
    short: int
    more: int
    spent: int
    given_back: int
    kind: str


@dataclass(slots=True)
class Path:
    """What reports on one path come to, in nano-USD. ``most``: what one of them lacks; ``total``: what all of them lack."""

    accounts: list[int]
    is_open: bool = False
    moved: list[Moved] = field(default_factory=list)
    most: int = 0
    total: int = 0
    floor: int = 1
    period_ms: int | None = None

    def lacks(self, more: int, floor: int) -> None:
        """Note that ``more`` is wanted, and how much room there must be for the next call."""
        self.total += more
        if more > self.most:
            self.most = more
        if floor > self.floor:
            self.floor = floor

    @property
    def settled(self) -> int:
        return sum([each.spent for each in self.moved])

    @property
    def outstanding(self) -> int:
        return sum([each.more - each.spent - each.given_back for each in self.moved])


def merge_plainly(asked: Iterable[Asked], accounts: Mapping[int, OpenAccount], now: datetime) -> list[Path]:
    """Merge those reports that are plain into the accounts on their paths, and return what became of them."""
    paths: dict[Any, Path] = {}
    for line, seq, allowed, row in asked:
        along = row[2]
        key = (allowed, *along)
        path = paths.get(key)
        if path is None:
            path = paths[key] = Path(along)
            path.is_open = _is_open(path, allowed, accounts, now)
        if path.is_open:
            _merge(line, seq, row, path)
    merged = _roomy([path for path in paths.values() if path.moved], accounts)
    for path in merged:
        outstanding, settled = path.outstanding, path.settled
        for account in path.accounts:
            accounts[account].here += len(path.moved)
            accounts[account].move(outstanding, settled)
    return merged


def _is_open(path: Path, allowed: frozenset[str] | None, accounts: Mapping[int, OpenAccount], now: datetime) -> bool:
    """Return whether nothing about the path itself wants a closer look, and note when its period ends."""
    end: datetime | None = None
    for key in path.accounts:
        account = accounts[key]
        budget, at = account.budget, account.ends_at
        if budget.archived or account.state.scarce:
            return False
        if allowed is not None and budget.tenant is not None and budget.tenant not in allowed:
            return False
        if at is not None and (end is None or at < end):
            end = at
    if end is not None:
        path.period_ms = max(0, (end - now) // timedelta(milliseconds=1))
    return path.period_ms != 0


def _merge(line: Line, seq: int, row: LeaseRow, path: Path) -> None:
    """Add to ``path`` what becomes of a lease, unless its report says anything unusual."""
    (
        place,
        number,
        _,
        granted,
        settled,
        returned,
        corrected,
        _,
        denied,
        before,
        closed,
        _,
        presumed,
        _,
        _,
        revoked,
        _,
    ) = row
    unusual = closed or revoked or presumed or line.final or line.denied > denied or line.corrected > corrected
    spent, given_back = line.settled - settled, line.returned - returned
    if spent < 0:
        spent = 0
    if given_back < 0:
        given_back = 0
    left = granted - settled - returned - spent - given_back
    if unusual or left < 0 or seq < before:
        return
    want, held = line.want, line.held
    more = want - left
    if more > 0:
        if not (settled + spent or line.waiting is None):
            return
        path.lacks(more, line.min_useful + held)
    else:
        more = 0
    kind = "settle" if spent else "return" if given_back else "grant" if more else "none"
    path.moved.append(
        Moved(
            place, want + want // 2, number, granted + more, settled + spent, returned + given_back, held, seq, 0, more, spent,
            given_back, kind,
        )
    )  # fmt: skip


def _roomy(paths: list[Path], accounts: Mapping[int, OpenAccount]) -> list[Path]:
    """Return the paths all of whose accounts have so much room that nobody has to be counted, whatever comes first."""
    asked: dict[int, _Load] = {}
    for path in paths:
        load = _Load(path.most, path.total, path.floor, len(path.moved))
        for key in path.accounts:
            before = asked.get(key)
            asked[key] = load if before is None else before.with_more(load)
    tight = {key for key, load in asked.items() if not _has_room(accounts[key], load)}
    return [path for path in paths if tight.isdisjoint(path.accounts)] if tight else paths


class _Load(NamedTuple):
    """What is asked of an account: see ``Path``."""

    most: int
    total: int
    floor: int
    reports: int

    def with_more(self, more: _Load) -> _Load:
        return _Load(
            max(self.most, more.most),
            self.total + more.total,
            max(self.floor, more.floor),
            self.reports + more.reports,
        )


def _has_room(account: OpenAccount, load: _Load) -> bool:
    if account.to_lease(most=MOST_NUSD) < load.total:
        return False
    if not account.state.blocks:
        return account.state.room - load.total > load.floor  # else somebody is warned
    crowd = account.crowd
    holders = TIGHT * max(1, crowd.live, load.reports) + max(crowd.wanting, load.reports)
    return account.state.room - load.total > max(load.floor, holders * load.most)
