"""What the edge keeps in memory: live keys with their scopes, and the newest snapshot of each scope.

Read again whenever a change is announced, and every second in case an announcement was lost.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
import structlog
from asgiref.sync import sync_to_async
from django.utils import timezone
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import PoolTimeout

from controlplane.edge.database import Gone, Pool
from controlplane.edge.http import Scope
from controlplane.policy.actions.publishing import ensure_snapshot
from controlplane.problems import Unauthorized, Unavailable
from controlplane.tenancy.secrets import proves, sdk_selector

log = structlog.get_logger(__name__)

POLL_S = 1.0
# What was announced and could not be read is looked for again this soon.
AGAIN_S = 0.2
# Without an announcement everything is read again this often all the same.
FULL_S = 5.0
# Calls can be governed as long as the database was seen this lately.
FRESH_S = 5.0
# Whoever presents keys that nobody made waits for this long in line.
UNKNOWN_REST_S = 0.1
_TOPICS = frozenset({"intent", "keys"})

# How long to rest before asking again: a long-poll paces itself, anything else comes back after a second.
NO_REST = (b"tidegate-poll-ms", b"0")
REST = (b"tidegate-poll-ms", b"1000")
REVALIDATE = (b"cache-control", b"private, no-cache")


@dataclass(slots=True)
class Key:
    """A live SDK key. ``tenants`` are the slugs whose calls it may report, ``payers`` those whose budgets it may touch."""

    id: int
    digest: bytes
    scope_id: int | None
    scope: str | None
    tenants: frozenset[str] | None  # None: all
    payers: frozenset[str] | None
    expires_at: datetime | None

    def tenant_of(self, claimed: str) -> str:
        """Return the tenant that a call counts for: the one that it claims, if the key may say so, else the key's own."""
        if self.tenants is None or claimed in self.tenants:
            return claimed
        return self.scope or ""


@dataclass(slots=True)
class Head:
    """The newest snapshot of a scope, its answers made ready, and the long-polls that wait for the next one."""

    etag: str
    body: bytes
    quoted: bytes = field(init=False)
    unchanged: dict[str, Any] = field(init=False)  # the start of the answer to a poll that has this snapshot
    waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.quoted = f'"{self.etag}"'.encode()
        headers = ((b"etag", self.quoted), REST, REVALIDATE)
        self.unchanged = {"type": "http.response.start", "status": 304, "headers": headers}

    def release(self) -> None:
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)
        self.waiting.clear()


class Mirror:
    """Keys and heads of one edge process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._keys: dict[str, Key] = {}
        self._proven: dict[bytes, Key] = {}
        self._used: set[int] = set()
        self._heads: dict[int | None, Head] = {}
        self._prices: dict[str, bytes] = {}
        self._stale = asyncio.Event()
        self._lock = asyncio.Lock()
        self._asked = asyncio.Lock()
        self._seen_at = 0.0
        self._read_at = 0.0
        self._mark: tuple[Any, ...] = ()

    # Answers from memory.

    async def key_of(self, authorization: bytes | None) -> Key:
        """Return the live key behind an Authorization header; ``Unauthorized`` for anything else.

        One that is not known yet is looked for in the database: it may have been made a moment ago.
        """
        key = self._proven.get(authorization or b"")
        if key is None:
            key = await self._prove(authorization or b"")
        if key.expires_at is not None and key.expires_at <= timezone.now():
            raise Unauthorized("This SDK key has expired: make a new one in the dashboard.")
        return key

    async def _prove(self, authorization: bytes) -> Key:
        text = authorization[7:].decode("latin-1") if authorization[:7].lower() == b"bearer " else ""
        selector = sdk_selector(text)
        if selector and selector not in self._keys:
            await self._read_since(time.monotonic())
        key = self._keys.get(selector) if selector else None
        if key is None or not proves(text, key.digest):
            raise Unauthorized("Send 'Authorization: Bearer <SDK key>' with a key that is live.")
        self._proven[authorization] = key
        self._used.add(key.id)
        return key

    async def _read_since(self, moment: float) -> None:
        """Make sure that the keys were read after ``moment``. Callers that wait share one reading, ten a second at most."""
        async with self._asked:
            if self._read_at < moment:
                try:
                    await self.read()
                except (OSError, psycopg.Error, PoolTimeout) as error:
                    log.warning("mirror.not_refreshed", error=str(error).strip())
                await asyncio.sleep(UNKNOWN_REST_S)

    def key_numbered(self, number: int) -> Key | None:
        """Return a live key by its number."""
        return next((key for key in self._keys.values() if key.id == number), None)

    def release_all(self) -> None:
        """Let go of everybody who waits for a change."""
        for head in self._heads.values():
            head.release()

    def unchanged(self, scope: Scope) -> dict[str, Any] | None:
        """Return the start of the 304 for a plain poll by a key that was seen before, ``None`` for all other requests."""
        authorization = known = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"if-none-match":
                known = value
        key = self._proven.get(authorization)
        if key is None or key.expires_at is not None:
            return None
        head = self._heads.get(key.scope_id)
        return head.unchanged if head is not None and head.quoted == known else None

    def head_now(self, scope_id: int | None) -> Head | None:
        """Return the head of a scope if it is in memory."""
        return self._heads.get(scope_id)

    async def head_of(self, scope_id: int | None) -> Head:
        """Return the head of a scope, compiling its first snapshot if need be; ``Unavailable`` without a database."""
        head = self._heads.get(scope_id)
        if head is None:
            with Gone():
                await sync_to_async(ensure_snapshot)(scope_id)
                await self.read()
            head = self._heads.get(scope_id)
        if head is None:
            raise Unavailable("There is no snapshot for this key: its tenant may have been archived.", retry_after_s=30)
        return head

    async def prices(self, etag: str) -> bytes | None:
        """Return a price book, from memory if possible, or ``None``."""
        if etag not in self._prices:
            with Gone():
                async with self._pool.connection() as connection:
                    cursor = await connection.execute("SELECT body FROM budgets_pricebook WHERE etag = %s", [etag])
                    row = await cursor.fetchone()
            if row is None:
                return None
            self._prices[etag] = bytes(row[0])
        return self._prices[etag]

    @property
    def ready(self) -> bool:
        """Whether calls can be governed: keys and snapshots are in memory, and the database was there a moment ago."""
        return bool(self._mark) and time.monotonic() - self._seen_at < FRESH_S

    @property
    def waiting(self) -> int:
        """How many long-polls are open."""
        return sum(len(head.waiting) for head in self._heads.values())

    # Keeping up.

    def note(self, topics: frozenset[str]) -> None:
        """Read again soon when ``topics`` say that something kept here changed."""
        if topics & _TOPICS:
            self._stale.set()

    async def run(self) -> None:
        """Keep up with the database until cancelled."""
        while True:
            announced, pause_s = self._stale.is_set(), POLL_S
            self._stale.clear()
            try:
                if announced or time.monotonic() - self._read_at > FULL_S or await self._changed():
                    await self.read()
            except Exception as error:  # whatever is wrong with the database, memory still serves
                fault = not isinstance(error, psycopg.Error | OSError)  # of ours: where it is must not be guessed
                log.warning("mirror.not_refreshed", error=str(error).strip(), exc_info=fault)
                pause_s = AGAIN_S if announced else POLL_S
            try:
                await asyncio.wait_for(self._stale.wait(), pause_s)
            except TimeoutError:
                continue

    async def _changed(self) -> bool:
        async with self._pool.connection() as connection:
            mark = await _mark(connection)
        self._seen_at = time.monotonic()
        return mark != self._mark

    async def read(self) -> None:
        """Read keys and heads, note which keys were used, and release the long-polls of what changed."""
        async with self._lock, self._pool.connection() as connection:
            began = time.monotonic()
            mark = await _mark(connection)
            await self._read_heads(connection)  # first: there are those who wait for them
            keys = await _read_keys(connection)
            used, self._used = self._used, set()
            await _note_use(connection, used)
        self._keys = keys
        self._proven = {}
        self._mark = mark
        self._read_at = self._seen_at = began

    async def _read_heads(self, connection: AsyncConnection) -> None:
        cursor = await connection.execute(
            """
            SELECT scope_id, etag, CASE WHEN etag = ANY(%s) THEN NULL ELSE body END FROM policy_snapshot
            WHERE id IN (SELECT max(id) FROM policy_snapshot GROUP BY scope_id)
            """,
            [[head.etag for head in self._heads.values()]],
        )
        for scope_id, etag, body in await cursor.fetchall():
            before = self._heads.get(scope_id)
            if before is not None and before.etag == etag:
                continue
            kept = body if body is not None else next(h.body for h in self._heads.values() if h.etag == etag)
            self._heads[scope_id] = Head(etag, bytes(kept))
            if before is not None:
                before.release()


async def _mark(connection: AsyncConnection) -> tuple[Any, ...]:
    """Return what changes with every write: the newest entries of the audit trail and of the revisions."""
    cursor = await connection.execute(
        "SELECT (SELECT max(id) FROM tenancy_auditentry), (SELECT max(id) FROM policy_snapshot), "
        "(SELECT max(id) FROM tenancy_sdkkey)"
    )
    return tuple(await cursor.fetchone() or ())


async def _read_keys(connection: AsyncConnection) -> dict[str, Key]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SELECT id, slug, lineage FROM tenancy_tenant")
        tenants = {row["id"]: row for row in await cursor.fetchall()}
        await cursor.execute(
            "SELECT key.* FROM tenancy_sdkkey AS key LEFT JOIN tenancy_tenant AS tenant ON tenant.id = key.tenant_id "
            "WHERE key.revoked_at IS NULL AND tenant.archived_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
        )
        rows = await cursor.fetchall()
    below: dict[int, set[str]] = {}
    for tenant in tenants.values():
        for ancestor in tenant["lineage"]:
            below.setdefault(ancestor, set()).add(tenant["slug"])
    return {row["selector"]: _key(row, tenants, below) for row in rows}


def _key(row: dict[str, Any], tenants: dict[int, dict[str, Any]], below: dict[int, set[str]]) -> Key:
    scope = tenants.get(row["tenant_id"])
    seen = frozenset(below.get(row["tenant_id"], ())) if scope else None
    above = {tenants[ancestor]["slug"] for ancestor in scope["lineage"]} if scope else set()
    return Key(
        id=row["id"],
        digest=bytes(row["digest"]),
        scope_id=row["tenant_id"],
        scope=scope["slug"] if scope else None,
        tenants=seen,
        payers=seen | above if seen is not None else None,
        expires_at=row["expires_at"],
    )


async def _note_use(connection: AsyncConnection, ids: set[int]) -> None:
    if ids:
        await connection.execute("UPDATE tenancy_sdkkey SET last_used_at = now() WHERE id = ANY(%s)", [sorted(ids)])
