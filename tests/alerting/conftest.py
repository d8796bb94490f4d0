"""Calls to watch, and somebody who listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from controlplane.alerting.actions import configuring
from controlplane.alerting.models import Channel
from controlplane.telemetry.models import CallWindow1m, CallWindow10s
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tidegate.core.window import Distribution

NOW = datetime(2026, 11, 25, 14, 0, tzinfo=UTC)
Calls = Callable[..., None]


def packed(*values: int) -> list[int]:
    made = Distribution()
    for value in values:
        made.add(value)
    return made.packed()


@pytest.fixture
def acme(db: None) -> Tenant:
    return create_tenant(by=SYSTEM, slug="acme", name="Acme")


@pytest.fixture
def calls(db: None) -> Calls:
    """Make a window of calls that ended some seconds before a time, at both resolutions."""

    def make(now: datetime, ago_s: float = 20, *, tenant: str = "acme", route: str = "chat", **more: Any) -> None:
        at = now - timedelta(seconds=ago_s)
        for table in (CallWindow10s, CallWindow1m):
            table.objects.create(
                starts_at=at, tenant=tenant, route=route, model="m", category=f"{at.timestamp()}", kinds={}, **more
            )

    return make


class Hook:
    """A receiver of webhooks that answers what it is told to."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[dict[str, str], bytes]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(hook.status)
                self.send_header("location", "http://127.0.0.1:1/")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?a=1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def channel(hook: Hook, db: None) -> Channel:
    return configuring.create_channel(
        by=SYSTEM, tenant=None, name="hook", kind="webhook", target=hook.url, allow_private=True
    )
