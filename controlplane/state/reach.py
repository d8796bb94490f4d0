"""State as pages, the management API and tasks reach it: on connections of their own, for as long as one question takes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import redis
import structlog
from django.conf import settings
from django.db import connection
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from controlplane.state.atlas import Atlas
from controlplane.state.changes import CHANNEL, Told

log = structlog.get_logger(__name__)


def database_url() -> str:
    """Return where Django's own database is: in tests that is another one than the settings name."""
    named = connection.settings_dict
    parts = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
    return make_conninfo("", **{ours: str(named[theirs]) for ours, theirs in parts.items() if named[theirs]})


@asynccontextmanager
async def reached(url: str) -> AsyncIterator[Atlas]:
    """An atlas of the nodes, gone at the end. ``url`` is ``database_url()``, asked for outside of the loop."""
    pool: AsyncConnectionPool[AsyncConnection] = AsyncConnectionPool(url, min_size=0, max_size=2, open=False, timeout=5)
    async with pool:
        atlas = Atlas(pool, url)
        try:
            yield atlas
        finally:
            await atlas.close()


def tell(changes: Iterable[Told]) -> None:
    """Tell callers to forget; what can't be told they forget by themselves within seconds."""
    message = json.dumps({"by": "server", "at": 0, "flush": False, "c": list(changes)})
    try:
        with redis.Redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1) as valkey:
            valkey.publish(CHANNEL, message)
    except redis.RedisError as error:
        log.warning("state.not_told", error=str(error))
