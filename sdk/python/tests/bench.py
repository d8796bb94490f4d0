"""A guard without a network, on a clock that stands still."""

from __future__ import annotations

import json
from typing import Any

from tidegate.call import Call, OwnCall
from tidegate.core.price import compile_price_book
from tidegate.core.reading import finish, read_snapshot
from tidegate.exchange import Answer, Exchange
from tidegate.guard import Guard
from tidegate.report import Row
from tidegate.running import Plan, RetryOn
from tidegate.testing import DEFAULT_PRICES, FrozenClock
from tidegate.trace import Tracer

BOOK = compile_price_book({"format": 1, "models": DEFAULT_PRICES})


class Bench:
    """A guard, its clock, and the little of a control plane that decisions depend on."""

    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.pokes = 0
        self.guard = Guard(self.clock, self._poked)
        self.tracer = Tracer(enabled=True)
        self.exchange = Exchange(self.guard)
        self.routes: dict[str, dict[str, Any]] = {"*": {}}
        self.budgets: dict[str, dict[str, Any]] = {}
        self.deployments: dict[str, dict[str, Any]] = {}
        self.book = BOOK

    def _poked(self) -> None:
        self.pokes += 1

    def policy(self, document: dict[str, Any], *, route: str = "*") -> None:
        self.routes[route] = document
        self.publish()

    def budget(self, slug: str, **rest: Any) -> None:
        """Add a budget of the tenant acme."""
        number = str(len(self.budgets) + 1)
        self.budgets[number] = {"tenant": "acme", "slug": slug, "match": {}, "on_exhausted": "block", **rest}
        self.publish()

    def publish(self) -> None:
        rules = {
            "routes": {route: i for i, route in enumerate(self.routes)},
            "budgets": [int(number) for number in self.budgets],
            "deployments": list(self.deployments),
        }
        head = {"format": 1, "revision": 1, "scope": "acme", "prices": None, "sync_ms": 1000, "lease_ttl_ms": 15_000}
        document = {
            **head, "policies": list(self.routes.values()), "tenants": {"acme": rules}, "default": rules,
            "budgets": self.budgets, "deployments": self.deployments,
        }  # fmt: skip
        self.guard.follow(finish(read_snapshot([json.dumps(document)])), self.book)

    def call(self, route: str = "chat", **options: Any) -> Call:
        return OwnCall(self.guard, self.tracer, route, options)  # type: ignore[arg-type]  # tests pass what they like

    def plan(self, *, retry_on: RetryOn | None = None, **options: Any) -> Plan:
        return Plan(self.guard, lambda route: self.call(route, **options), retry_on, uniform=lambda: 0.0)

    def sync(self, **answered: Any) -> tuple[dict[str, Any], Answer]:
        """Sync; every lease is answered with ``answered`` (``granted`` and so on). Return the request and what was made of it."""
        request, sent = self.exchange.request({}, {}, dropped_spans=0, closing=answered.pop("closing", False))
        return request, self.exchange.answered(sent, self.answer(request, **answered))

    def answer(self, request: dict[str, Any], **answered: Any) -> dict[str, Any]:
        """Return what a control plane answers to ``request``."""
        windows = request["windows"]
        return {
            "seq": request["seq"],
            "windows_acked": windows[-1]["number"] if windows else 0,
            "next_sync_ms": 1000,
            "server_ms": self.clock.wall_ms(),
            "config_etag": None,
            "shares": answered.pop("shares", []),
            "leases": [self._answer(line, **answered) for line in request["leases"]],
        }

    def _answer(self, line: dict[str, Any], *, grant: int | None = None, **rest: Any) -> dict[str, Any]:
        granted = line["seen"] + (grant or 0)
        if grant is None:
            granted += max(0, line["want"] - (line["seen"] - line["settled"] - line["returned"]))
        return {
            "number": line["number"], "granted": granted, "cap": 10**18, "ttl_ms": 15_000, "period_ms": None,
            "closed": line["final"], "denied": None, "blocked_by": None, "retry_after_ms": None, **rest,
        }  # fmt: skip

    def fund(self, nusd: int, **options: Any) -> None:
        """Open the lease of a call's path and have ``nusd`` granted on it."""
        call = self.call(**options)
        assert self.guard.advance(call) is not None
        self.sync(grant=nusd)
        self.guard.abandon(call)

    def row(self, **key: Any) -> Row:
        """Return the counts of all rows of the open window, merged."""
        total = Row()
        for found, row in self.guard.report.window(self.clock.wall_ms()).rows.items():
            if all(getattr(found, name) == value for name, value in key.items()):
                total.merge(row)
        return total
