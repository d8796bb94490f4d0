"""What happened, in windows of a second: kept until the server says that it has them, counted once whatever is lost.

A window gets its number when it is first sent. What was sent may have arrived, so it is sent again as it was; what was
never sent may still be merged when there is too much of it. Sums stay exact either way.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from tidegate.arms import MAX_ARM_ROWS, ArmKey, ArmRow
from tidegate.core.window import Distribution

SECOND_MS = 1000
MAX_WINDOWS = 600
MAX_ROWS = 1000
MAX_USERS = 200
WINDOWS_PER_SYNC = 60
SESSION_S = 300.0
MAX_SESSIONS = 50_000
MAX_SESSION_ROWS = 5000
OTHERS = "(others)"

_COUNTS = (
    "calls", "errors", "refused", "fallbacks", "retries", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nusd",
)  # fmt: skip
_DISTRIBUTIONS = ("latency_us", "tokens", "call_cost_nusd", "queue_depth")


class RowKey(NamedTuple):
    tenant: str
    route: str
    model: str
    category: str


class Row:
    """Counts of one tenant, route, model and category in one window."""

    __slots__ = (*_COUNTS, *_DISTRIBUTIONS, "kinds", "usage")

    def __init__(self) -> None:
        self.calls = self.errors = self.refused = self.fallbacks = self.retries = 0
        self.input_tokens = self.cached_input_tokens = self.output_tokens = self.cost_nusd = 0
        self.kinds: dict[str, int] = {}
        self.usage: dict[str, int] = {}  # of classes (core.usage) that the three sums of tokens don't tell apart
        self.latency_us = Distribution()
        self.tokens = Distribution()
        self.call_cost_nusd = Distribution()
        self.queue_depth = Distribution()

    def count(self, kind: str, amount: int = 1) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + amount

    def use(self, usage: dict[str, int]) -> None:
        for name, count in usage.items():
            self.usage[name] = self.usage.get(name, 0) + count

    def merge(self, other: Row) -> None:
        """Add what ``other`` counted: the same calls are never in both."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _DISTRIBUTIONS:
            getattr(self, name).merge(getattr(other, name))
        for kind, times in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + times
        self.use(other.usage)

    def as_sent(self, key: RowKey) -> dict[str, Any]:
        """Return the row as docs/protocol.md has it in a window, distributions packed."""
        sent: dict[str, Any] = key._asdict()
        sent.update({name: getattr(self, name) for name in _COUNTS})
        sent["kinds"] = self.kinds
        if self.usage:
            sent["usage"] = {name: count for name, count in self.usage.items() if count}
        sent.update({name: getattr(self, name).packed() for name in _DISTRIBUTIONS})
        return sent


class Spent(NamedTuple):
    """What one user's calls came to."""

    calls: int = 0
    tokens: int = 0
    cost_nusd: int = 0

    def plus(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.tokens + other.tokens, self.cost_nusd + other.cost_nusd)


class Window:
    __slots__ = ("arms", "book", "rows", "starts_ms", "users")

    def __init__(self, starts_ms: int, book: str = "") -> None:
        self.starts_ms = starts_ms
        self.book = book  # the etag of the prices that its costs were reckoned by
        self.rows: dict[RowKey, Row] = {}
        self.users: dict[tuple[str, str], Spent] = {}
        self.arms: dict[ArmKey, ArmRow] = {}

    def row(self, key: RowKey) -> Row:
        row = self.rows.get(key)
        if row is None:
            if len(self.rows) >= MAX_ROWS:
                key = RowKey(key.tenant, key.route, OTHERS, OTHERS)
            row = self.rows.setdefault(key, Row())
        return row

    def arm(self, key: ArmKey) -> ArmRow:
        row = self.arms.get(key)
        if row is None:
            row = self.arms[key] = ArmRow()
            if len(self.arms) > MAX_ARM_ROWS:  # old steps that nobody judges any more
                del self.arms[next(iter(self.arms))]
        return row

    def add_user(self, tenant: str, user: str, spent: Spent) -> None:
        before = self.users.get((tenant, user))
        self.users[tenant, user] = before.plus(spent) if before else spent

    def merge(self, later: Window) -> None:
        """Take in a window that comes after this one: coarser in time, exact in sum but for users beyond ``MAX_USERS``."""
        for key, row in later.rows.items():
            self.row(key).merge(row)
        for (tenant, user), spent in later.users.items():
            self.add_user(tenant, user, spent)
        for arm, counts in later.arms.items():
            self.arm(arm).merge(counts)
        self.keep_top_users()

    def keep_top_users(self) -> None:
        """Fold all but the ``MAX_USERS`` who spent most into one line per tenant."""
        if len(self.users) <= MAX_USERS:
            return
        ranked = sorted(self.users.items(), key=lambda item: (item[0][1] == OTHERS, -item[1].cost_nusd, -item[1].calls))
        self.users = dict(ranked[:MAX_USERS])
        for (tenant, _), spent in ranked[MAX_USERS:]:
            self.add_user(tenant, OTHERS, spent)

    def as_sent(self, number: int) -> dict[str, Any]:
        """Return the window as docs/protocol.md has it in a sync, under the ``number`` by which it is acknowledged."""
        users = [{"tenant": tenant, "user": user, **spent._asdict()} for (tenant, user), spent in self.users.items()]
        rows = [row.as_sent(key) for key, row in self.rows.items()]
        sent = {"number": number, "starts_ms": self.starts_ms, "rows": rows, "users": users}
        if self.book:
            sent["book"] = self.book
        if self.arms:
            sent["releases"] = [row.as_sent(key) for key, row in self.arms.items()]
        return sent

    @property
    def empty(self) -> bool:
        return not self.rows and not self.arms


class Report:
    """The windows of one incarnation that the server has not confirmed, and the sessions that are active."""

    def __init__(self) -> None:
        self.skew_ms = 0  # the server's clock minus ours
        self.dropped_windows = 0
        self._book = ""
        self._open: Window | None = None
        self._pending: deque[Window] = deque()  # never sent
        self._sent: deque[tuple[int, Window]] = deque()  # may have arrived
        self._batch = WINDOWS_PER_SYNC
        self._number = 0
        self._sessions: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def window(self, wall_ms: int) -> Window:
        """Return the window that takes what happens now."""
        starts_ms = (wall_ms + self.skew_ms) // SECOND_MS * SECOND_MS
        if self._open is None or self._open.starts_ms != starts_ms:
            self._roll()
            self._open = Window(starts_ms, self._book)
        return self._open

    def priced_by(self, book: str) -> None:
        """From now on costs are reckoned by the prices of that etag."""
        if book != self._book:
            self._roll()
            self._open, self._book = None, book

    def _roll(self) -> None:
        if self._open is None or self._open.empty:
            return
        self._open.keep_top_users()
        self._pending.append(self._open)
        self._open = None
        if len(self._pending) > 1 and len(self._pending) + len(self._sent) > MAX_WINDOWS:
            oldest = self._pending.popleft()
            oldest.merge(self._pending[0])
            self._pending[0] = oldest

    def to_send(self) -> tuple[list[dict[str, Any]], int]:
        """Return the windows for the next sync and the highest number among them.

        As long as a batch may have arrived unconfirmed, only that batch goes out again; the rest waits its turn.
        """
        self._roll()
        if not self._sent:
            for _ in range(min(self._batch, len(self._pending))):
                self._number += 1
                self._sent.append((self._number, self._pending.popleft()))
        return [window.as_sent(number) for number, window in self._sent], self._number

    def acked(self, number: int) -> None:
        """The server has folded every window up to ``number``. Numbers that were never sent are not believed."""
        while self._sent and self._sent[0][0] <= number:
            self._sent.popleft()
        if not self._sent:
            self._batch = min(WINDOWS_PER_SYNC, self._batch * 2)

    def too_large(self) -> None:
        """The server took none of the batch because of its size: send it in halves, drop a window that is too large alone."""
        if len(self._sent) <= 1:
            self.refused()
            return
        self._batch = len(self._sent) // 2
        self._number = self._sent[0][0] - 1
        self._pending.extendleft(window for _, window in reversed(self._sent))
        self._sent.clear()

    def refused(self) -> None:
        """The server will never take this batch."""
        self.dropped_windows += len(self._sent)
        self._sent.clear()

    @property
    def backlog(self) -> bool:
        """Whether more windows wait than one sync carries."""
        return not self._sent and len(self._pending) > 1

    @property
    def all_sent(self) -> bool:
        """Whether every window that there is has been sent at least once."""
        return not self._pending and (self._open is None or self._open.empty)

    @property
    def unconfirmed(self) -> int:
        return len(self._pending) + len(self._sent) + bool(self._open and not self._open.empty)

    def touch_session(self, tenant: str, route: str, session: str, now: float) -> None:
        key = (tenant, route, session)
        self._sessions[key] = now
        self._sessions.move_to_end(key)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def sessions(self, now: float) -> list[dict[str, Any]]:
        """Return how many sessions were seen in the last five minutes, per tenant and route."""
        while self._sessions and next(iter(self._sessions.values())) < now - SESSION_S:
            self._sessions.popitem(last=False)
        active: dict[tuple[str, str], int] = {}
        for tenant, route, _ in self._sessions:
            active[tenant, route] = active.get((tenant, route), 0) + 1
        rows = [{"tenant": tenant, "route": route, "active": count} for (tenant, route), count in active.items()]
        return rows[:MAX_SESSION_ROWS]

    def see_server_clock(self, *, server_ms: int, sent_ms: int, received_ms: int) -> None:
        """Follow the server's clock when it is off by more than the trip can explain."""
        seen = server_ms - (sent_ms + received_ms) // 2
        if abs(seen - self.skew_ms) > 250 + (received_ms - sent_ms):
            self.skew_ms = seen


_UNSAID = {
    "denied": None, "blocked_by": None, "retry_after_ms": None, "period_ms": None, "recalling": False, "warned_by": None
}  # fmt: skip


def checked_leases(answers: Iterable[Any]) -> list[dict[str, Any]]:
    """Return lease answers of the right shape; ``ValueError`` when the server talks nonsense."""
    checked = []
    for answer in answers:
        if not isinstance(answer, dict) or not isinstance(answer.get("closed"), bool):
            raise ValueError("a lease in the answer is not an object, or does not say whether it is closed")
        for name in ("number", "granted", "cap", "ttl_ms"):
            _whole(answer.get(name), name)
        for name in ("period_ms", "retry_after_ms"):
            if answer.get(name) is not None:
                _whole(answer[name], name)
        checked.append({**_UNSAID, **answer})
    return checked


def _whole(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{name} of a lease in the answer is {value!r}, not a whole number")
