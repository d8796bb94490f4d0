"""The edge's own connections to PostgreSQL: few, asynchronous, and gone with the process."""

from __future__ import annotations

import psycopg
from django.conf import settings
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from controlplane.problems import Unavailable

Pool = AsyncConnectionPool[AsyncConnection]


def make_pool() -> Pool:
    """Return a pool that has not been opened."""
    return AsyncConnectionPool(
        settings.DATABASE_URL,
        min_size=1,
        max_size=6,
        open=False,
        timeout=5,
        max_idle=60,
        reconnect_timeout=0,
        kwargs={"connect_timeout": 3},
        check=AsyncConnectionPool.check_connection,
    )


class Gone:
    """Turns the loss of the database inside a ``with`` block into ``Unavailable``: the client comes again."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | PoolTimeout):
            raise Unavailable("The database can't be reached right now: try again.", retry_after_s=1) from error
