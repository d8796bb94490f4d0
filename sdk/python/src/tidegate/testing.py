"""For people's own tests: a clock that stands still, and a control plane that runs in the test's process.

    with FakeControlPlane() as plane:
        plane.put_policy({"limits": [{"unit": "requests", "amount": 2, "scope": "instance"}]})
        gate = plane.connect()

The fake speaks docs/protocol.md over HTTP on a port of its own: snapshots with long-poll, price books, syncs with leases granted
from budgets by the rules of the protocol, ``gate.state``, and ``/v1/traces``. It keeps what it was sent for asserts.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tidegate.client import Gate, connect
from tidegate.clock import Clock
from tidegate.core.price import parse_usd
from tidegate.early import WithoutPolicy
from tidegate.fake_state import FakeState
from tidegate.sampling import Sampling
from tidegate.testing_http import KEY, Server

__all__ = ["KEY", "FakeControlPlane", "FrozenClock"]

DEFAULT_PRICES = {"gpt-4o-mini": {"input": 150_000_000, "cached_input": 75_000_000, "output": 600_000_000}}


class FrozenClock:
    """A clock that moves when the test says so. What waits for it wakes when its time has come."""

    def __init__(self, now: float = 1_000_000.0, wall_ms: int = 1_790_000_000_000) -> None:
        self._now = now
        self._wall_ms = wall_ms
        self._moved: list[Callable[[], None]] = []

    def now(self) -> float:
        return self._now

    def boot(self) -> float:
        return self._now

    def wall_ms(self) -> int:
        return self._wall_ms

    def patience(self, until: float) -> float | None:
        return 0.0 if until <= self._now else None

    def subscribe(self, moved: Callable[[], None]) -> None:
        self._moved.append(moved)

    def advance(self, seconds: float) -> None:
        """Move by ``seconds``."""
        self._now += seconds
        self._wall_ms += int(seconds * 1000)
        for moved in self._moved:
            moved()


class Account:
    """A budget of the fake: what it may spend, and what it has granted to whom."""

    def __init__(self, number: int, document: dict[str, Any], amount_nusd: int) -> None:
        self.number = number
        self.document = document
        self.amount_nusd = amount_nusd
        self.period_ms: int | None = None

    @property
    def name(self) -> str:
        return f"{self.document['tenant'] or ''}/{self.document['slug']}"


class FakeLease:
    def __init__(self, budgets: list[int]) -> None:
        self.budgets = budgets
        self.granted = self.settled = self.returned = self.held = 0
        self.closed = False

    @property
    def exposure(self) -> int:
        """What it may still cost at worst plus what it did cost."""
        return max(self.settled, self.settled if self.closed else self.granted - self.returned)


class FakeControlPlane:
    """A control plane for one key. Attributes may be changed while it runs; ``down()`` and ``up()`` take it off the air."""

    def __init__(self, *, scope: str | None = "acme", sync_ms: int = 50, lease_ttl_ms: int = 15_000) -> None:
        self.lock = threading.Condition()
        self.scope = scope
        self.sync_ms = sync_ms
        self.lease_ttl_ms = lease_ttl_ms
        self.prices: dict[str, Any] = dict(DEFAULT_PRICES)
        self.routes: dict[str, dict[str, Any]] = {"*": {}}
        self.accounts: dict[int, Account] = {}
        self.deployments: dict[str, dict[str, Any]] = {}
        self.leases: dict[tuple[str, int], FakeLease] = {}
        self.shares: list[dict[str, Any]] = []
        self.cap_nusd = 10**18
        self.statuses: list[int] = []  # answered, first to last, instead of doing what was asked
        self.mangle: Callable[[str, dict[str, Any]], Any] = lambda _path, answer: answer
        self.syncs: list[dict[str, Any]] = []
        self.spans: list[dict[str, Any]] = []
        self.state = FakeState()
        self.windows: dict[tuple[str, int], dict[str, Any]] = {}
        self._acked: dict[str, int] = {}
        self.revision = 1
        self._server: Server | None = None
        self._port = 0
        self.up()

    # Being there

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Listen, on the same port as before."""
        server = Server(self, self._port)
        self._port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.01,), name="fake-control-plane", daemon=True).start()

    def down(self) -> None:
        """Stop listening; open connections end at their next request."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        with self.lock:
            self.lock.notify_all()

    @property
    def is_up(self) -> bool:
        return self._server is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def connect(
        self,
        *,
        app: str = "test",
        cache_dir: str | Path = "",
        clock: Clock | None = None,
        wait_s: float = 5.0,
        without_policy: WithoutPolicy = "pass",
        traces: bool | Sampling = True,
    ) -> Gate:
        """Return a gate to this control plane. Nothing is kept on disk unless ``cache_dir`` is given."""
        return connect(
            self.url,
            KEY,
            app=app,
            cache_dir=cache_dir,
            wait_s=wait_s,
            traces=traces,
            clock=clock,
            without_policy=without_policy,
        )

    # What operators would do

    def put_policy(self, document: dict[str, Any], *, route: str = "*") -> None:
        """Govern ``route`` (all routes that have no policy of their own) by a whole policy document."""
        with self.lock:
            self.routes[route] = document
            self._changed()

    def put_budget(
        self, slug: str, amount_usd: str, *, tenant: str | None = None, match: dict[str, str] | None = None,
        on_exhausted: str = "block", period_ms: int | None = None, strict: bool = True, on_overrun: str = "finish",
    ) -> Account:  # fmt: skip
        """Add a budget, or change the amount of one that is there. ``tenant`` is the fake's scope by default."""
        document = {
            "tenant": tenant or self.scope, "slug": slug, "match": match or {}, "on_exhausted": on_exhausted,
            "strict": strict, "on_overrun": on_overrun,
        }  # fmt: skip
        with self.lock:
            known = next(
                (
                    a
                    for a in self.accounts.values()
                    if (a.document["tenant"], a.document["slug"]) == (document["tenant"], slug)
                ),
                None,
            )
            account = known or Account(len(self.accounts) + 1, document, 0)
            account.document, account.amount_nusd, account.period_ms = document, parse_usd(amount_usd), period_ms
            self.accounts[account.number] = account
            self._changed()
        return account

    def put_release(self, slug: str, config: Any, *, routes: list[str] | None = None, version: str = "1") -> None:
        """Give all calls on ``routes`` (all there are) a release with ``config``."""
        name = hashlib.sha256(json.dumps([version, config]).encode()).hexdigest()
        with self.lock:
            known = self.deployments.get(slug)
            self.deployments[slug] = {
                "id": len(self.deployments) + 1 if known is None else known["id"], "unit": "request", "salt": slug, "routes": routes or ["*"], "step": 1, "stable": name,
                "window_s": 30, "rings": [], "releases": {name: {"version": version, "config": config}},
            }  # fmt: skip
            self._changed()

    def put_prices(self, models: dict[str, Any]) -> None:
        with self.lock:
            self.prices = models
            self._changed()

    def _changed(self) -> None:
        self.revision += 1
        self.lock.notify_all()

    # What a test may ask

    def settled_nusd(self, slug: str) -> int:
        """Return what all leases together have settled on a budget."""
        with self.lock:
            number = next(a.number for a in self.accounts.values() if a.document["slug"] == slug)
            return sum(lease.settled for lease in self.leases.values() if number in lease.budgets)

    def total(self, column: str) -> int:
        """Return the sum of a column over the rows of all windows that arrived."""
        with self.lock:
            return sum(row[column] for window in self.windows.values() for row in window["rows"])

    def kinds(self) -> dict[str, int]:
        """Return the kinds of all windows that arrived, summed."""
        found: dict[str, int] = {}
        with self.lock:
            for window in self.windows.values():
                for row in window["rows"]:
                    for kind, times in row["kinds"].items():
                        found[kind] = found.get(kind, 0) + times
        return found

    def wait_for(self, met: Callable[[FakeControlPlane], bool], timeout_s: float = 5.0) -> bool:
        """Wait until ``met(self)``; return whether it came true within ``timeout_s``."""
        until = time.monotonic() + timeout_s
        while not met(self):
            with self.lock:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self.lock.wait(min(left, 0.05))
        return True

    # What SDKs ask

    def book(self) -> bytes:
        return json.dumps({"format": 1, "models": self.prices}).encode()

    def snapshot(self) -> bytes:
        """Return the body of the snapshot as it is now."""
        names = list(self.routes)
        rules = {
            "routes": {name: i for i, name in enumerate(names)},
            "budgets": list(self.accounts),
            "deployments": list(self.deployments),
        }
        document = {
            "format": 1,
            "revision": self.revision,
            "scope": self.scope,
            "prices": hashlib.sha256(self.book()).hexdigest(),
            "sync_ms": self.sync_ms,
            "lease_ttl_ms": self.lease_ttl_ms,
            "policies": [self.routes[name] for name in names],
            "tenants": {self.scope: {"parent": None, **rules}} if self.scope else {},
            "default": rules,
            "budgets": {str(number): account.document for number, account in self.accounts.items()},
            "deployments": self.deployments,
        }
        return json.dumps(document).encode()

    def answer_config(self, known: str, wait_s: float) -> tuple[str, bytes | None]:
        """Return the snapshot's etag, and its body unless it is ``known`` for ``wait_s``."""
        until = time.monotonic() + wait_s
        with self.lock:
            while True:
                body = self.snapshot()
                etag = hashlib.sha256(body).hexdigest()
                left = until - time.monotonic()
                if etag != known or left <= 0 or not self.is_up:
                    return etag, body if etag != known else None
                self.lock.wait(left)

    def answer_sync(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take counts, hand out leases."""
        with self.lock:
            who = request["incarnation"]
            self.syncs.append(request)
            for window in request["windows"]:
                if window["number"] > self._acked.get(who, 0):
                    self.windows[who, window["number"]] = window
                    self._acked[who] = window["number"]
            for line in request["leases"]:
                self._hear(self.leases.setdefault((who, line["number"]), FakeLease(line["budgets"])), line)
            answers = [self._answer_lease(self.leases[who, line["number"]], line) for line in request["leases"]]
            self.lock.notify_all()
            return {
                "seq": request["seq"],
                "windows_acked": self._acked.get(who, 0),
                "next_sync_ms": self.sync_ms,
                "server_ms": time.time_ns() // 1_000_000,
                "config_etag": hashlib.sha256(self.snapshot()).hexdigest(),
                "leases": answers,
                "shares": self.shares,
            }

    def _hear(self, lease: FakeLease, line: dict[str, Any]) -> None:
        lease.settled = max(lease.settled, line["settled"])
        lease.returned = max(lease.returned, line["returned"])
        lease.held = line["held"]
        lease.closed = lease.closed or line["final"]

    def _answer_lease(self, lease: FakeLease, line: dict[str, Any]) -> dict[str, Any]:
        accounts = [self.accounts.get(number) for number in lease.budgets]
        blocked_by: str | None = None
        denied: str | None = None
        if lease.closed:
            denied = None if line["final"] else "closed"
        elif None in accounts:
            denied = "unknown"
        else:
            blocked_by = self._grant(lease, line, [account for account in accounts if account is not None])
            denied = "exhausted" if blocked_by else None
        over = any(account is not None and self._exposure(account) > account.amount_nusd for account in accounts)
        periods = [account.period_ms for account in accounts if account is not None and account.period_ms is not None]
        return {
            "number": line["number"],
            "granted": lease.granted,
            "cap": 0 if over else self.cap_nusd,
            "ttl_ms": self.lease_ttl_ms,
            "period_ms": min(periods, default=None),
            "closed": lease.closed,
            "denied": denied,
            "blocked_by": blocked_by,
            "retry_after_ms": min(periods, default=None) if blocked_by else None,
        }

    def _grant(self, lease: FakeLease, line: dict[str, Any], accounts: list[Account]) -> str | None:
        """Top ``lease`` up as far as every account has room; return the account that stands in the way of ``min_useful``."""
        short = line["want"] - (lease.granted - lease.settled - lease.returned)
        if short <= 0:
            return None
        blocking = [account for account in accounts if account.document["on_exhausted"] == "block"]
        tight = min(blocking, key=lambda a: a.amount_nusd - self._exposure(a), default=None)
        room = short if tight is None else min(short, max(0, tight.amount_nusd - self._exposure(tight)))
        idle = lease.granted - lease.settled - lease.returned - lease.held
        if tight is not None and room + idle < line["min_useful"]:
            return tight.name
        lease.granted += room
        return None

    def _exposure(self, account: Account) -> int:
        return sum(lease.exposure for lease in self.leases.values() if account.number in lease.budgets)
