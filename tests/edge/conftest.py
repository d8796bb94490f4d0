"""An edge against the real engines, asked in process the way an ASGI server asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import orjson
import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, connections

from controlplane.edge.app import Edge
from controlplane.tenancy.actions.keys import create_key
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.edge.waiting import eventually
from tests.state.cleaning import forget_everything


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class Caller:
    """Asks an edge with the headers of an SDK."""

    def __init__(self, edge: Edge, key: str = "") -> None:
        self.edge = edge
        self.key = key

    async def __call__(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        sent = {"authorization": f"Bearer {self.key}", **(headers or {})}
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
        got: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            got.append(message)

        await self.edge(scope, receive, send)
        headers_got = {name.decode(): value.decode() for name, value in got[0]["headers"]}
        return Reply(got[0]["status"], headers_got, got[1]["body"])

    async def sync(self, **said: Any) -> Reply:
        return await self("POST", "/sdk/v1/sync", orjson.dumps({"seq": 1, "sent_ms": 1_790_000_000_000, **said}))


@pytest.fixture
def database_url(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the edge finds the database of the test."""
    named = connection.settings_dict
    url = psycopg.conninfo.make_conninfo(
        "", host=named["HOST"], port=named["PORT"], user=named["USER"], password=named["PASSWORD"], dbname=named["NAME"]
    )
    monkeypatch.setattr(settings, "DATABASE_URL", url)
    return url


@pytest.fixture
async def edge(database_url: str) -> AsyncIterator[Edge]:
    await sync_to_async(forget_everything)(database_url)
    made = Edge()
    await made.start()

    async def ready() -> bool:
        return made._mirror.ready

    await eventually(ready)
    yield made
    await made.stop()
    await sync_to_async(_empty_partitioned)()
    await sync_to_async(connections.close_all)()


def _empty_partitioned() -> None:
    """Empty the tables that Django does not manage, which its flush leaves as they are."""
    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE telemetry_span, telemetry_message, telemetry_point, telemetry_point_1h, telemetry_log, telemetry_late_spans"
        )


@pytest.fixture
async def acme(edge: Edge) -> Tenant:
    return await sync_to_async(create_tenant)(by=SYSTEM, slug="acme", name="Acme")


@pytest.fixture
async def ask(edge: Edge, acme: Tenant) -> Caller:
    """Ask with a key of the tenant ``acme``."""
    _, text = await sync_to_async(create_key)(by=SYSTEM, tenant=acme, name="app")
    await edge._mirror.read()
    return Caller(edge, text)


@pytest.fixture
async def ask_everywhere(edge: Edge) -> Caller:
    """Ask with a key of the whole installation."""
    _, text = await sync_to_async(create_key)(by=SYSTEM, tenant=None, name="gateway")
    await edge._mirror.read()
    return Caller(edge, text)
