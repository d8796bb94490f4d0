"""What the edge must know to read telemetry: whose messages are kept and how they are redacted, and what models cost."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any

import orjson
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from controlplane.edge.database import Pool
from controlplane.edge.mirror import Key
from controlplane.telemetry.otlp.decoding import Reading
from controlplane.telemetry.redaction import Redactor, redactor
from tidegate.core.price import PriceBook, compile_price_book

log = structlog.get_logger(__name__)

READ_EVERY_S = 2.0
AHEAD_NS = 86_400 * 10**9  # so far the clocks of others may be ahead of ours
_DATED = re.compile(r"(?:-\d{4}-?\d{2}-?\d{2}|-latest|:\w+|@\w+)$")
_MOST_NAMES = 10_000


class Prices:
    """Prices by model, also under the longer names that providers answer with: ``openai/gpt-4o-2024-08-06``."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._names: dict[str, str | None] = {}

    def cost(self, model: str, input_tokens: int, cached_tokens: int, output_tokens: int) -> int | None:
        """Return what an inference costs, in nano-USD; ``None`` for a model without a price."""
        if model not in self._names:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[model] = self._known(model)
        name = self._names[model]
        if name is None:
            return None
        cached = min(cached_tokens, input_tokens)
        return self._book.cost_nusd(
            name, input_tokens=input_tokens, output_tokens=output_tokens, cached_input_tokens=cached
        )

    def _known(self, model: str) -> str | None:
        bare = model.rpartition("/")[2]
        return next((name for name in (model, bare, _DATED.sub("", bare)) if name and name in self._book), None)


class Rules:
    """Keeps up with the database. Until it was read, nothing is kept of messages and nothing is priced."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._redactors: Mapping[str, Redactor | None] = {}
        self._beyond: Redactor | None = None  # for tenants that nobody registered
        self._prices: Prices | None = None
        self._etag = ""

    def reading_of(self, key: Key) -> Reading:
        """Return how to read what ``key`` sends."""
        tenants: dict[str, str] = {}

        def tenant_of(claimed: str) -> str:
            if claimed not in tenants:
                tenants[claimed] = key.tenant_of(claimed or key.scope or "")
            return tenants[claimed]

        prices, until_ns = self._prices, time.time_ns() + AHEAD_NS
        return Reading(tenant_of, self._redactor_of, prices.cost if prices else lambda *_: None, until_ns)

    def _redactor_of(self, tenant: str) -> Redactor | None:
        return self._redactors.get(tenant, self._beyond)

    async def run(self) -> None:
        """Read again and again until cancelled."""
        while True:
            try:
                await self.read()
            except (OSError, psycopg.Error, PoolTimeout) as error:
                log.debug("rules.not_read", error=str(error))
            await asyncio.sleep(READ_EVERY_S)

    async def read(self) -> None:
        """Read what is to be kept, and the newest price book when it is another one."""
        async with self._pool.connection() as connection:
            await self._read_captures(connection)
            cursor = await connection.execute(
                "SELECT etag, CASE WHEN etag = %s THEN NULL ELSE body END FROM budgets_pricebook ORDER BY id DESC LIMIT 1",
                [self._etag],
            )
            newest = await cursor.fetchone()
        if newest is not None and newest[1] is not None:
            self._prices = Prices(compile_price_book(orjson.loads(newest[1])))
            self._etag = newest[0]

    async def _read_captures(self, connection: AsyncConnection[Any]) -> None:
        cursor = await connection.execute("SELECT tenant_id, keeps, redact FROM telemetry_capture")
        own = {tenant_id: redactor(redact) if keeps else None for tenant_id, keeps, redact in await cursor.fetchall()}
        self._beyond = own.get(None)
        if not own:
            self._redactors = {}
            return
        cursor = await connection.execute("SELECT slug, lineage FROM tenancy_tenant WHERE archived_at IS NULL")
        self._redactors = {
            slug: next((own[each] for each in reversed(lineage) if each in own), self._beyond)
            for slug, lineage in await cursor.fetchall()
        }
