"""Who has to forget what: every write is told to all edges at once, and by them to the callers that keep values in memory.

A message travels over Valkey, at most once. So an edge vouches for having heard everything only while the pings that it sends
itself over the same channel come back, and says so in every line; callers do not trust their memory longer than that.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import redis.asyncio
import structlog
from django.conf import settings
from redis.exceptions import RedisError

from tidegate.core.partition import hash_of

log = structlog.get_logger(__name__)

CHANNEL = "tgs:changes"
PING_S = 0.5
PROOF_S = 1.5  # a ping that came back this lately proves that the channel is open
BEAT_S = 0.5
GATHER_S = 0.005
MOST_WAITING = 5000

Told = tuple[str, str, int]  # tenant, name, version (0: everything that the owner of that name has)
Sees = Callable[[str], bool]


def name_of(tenant: str, kind: str, owner: str, key: str | None = None) -> str:
    """Return the name by which a value, or all that an owner has, is told of: it gives nothing away."""
    parts = (tenant, kind, owner) if key is None else (tenant, kind, owner, key)
    return f"{hash_of(*parts):016x}"


class Listener:
    """One caller's open line, with what it has not been told yet."""

    def __init__(self, sees: Sees) -> None:
        self._sees = sees
        self._waiting: list[tuple[str, int]] = []
        self._flush = False
        self.woken = asyncio.Event()

    def tell(self, told: list[Told]) -> None:
        """Have the caller be told of what it may see; of everything at once when too much waits."""
        mine = [(name, version) for tenant, name, version in told if self._sees(tenant)]
        if not mine:
            return
        self._waiting += mine
        if len(self._waiting) > MOST_WAITING:
            self._waiting, self._flush = [], True
        self.woken.set()

    def forget_all(self) -> None:
        self._waiting, self._flush = [], True
        self.woken.set()

    def line(self, *, proven: bool) -> bytes:
        """Take what is to be told as a line."""
        said: dict[str, Any] = {"c": self._waiting}
        if self._flush:
            said["flush"] = True
        if not proven:
            said["proven"] = False
        self._waiting, self._flush = [], False
        return json.dumps(said, separators=(",", ":")).encode() + b"\n"


class Changes:
    """The changes that one edge process hears of and passes on."""

    def __init__(self) -> None:
        self._me = secrets.token_hex(6)
        self._listeners: set[Listener] = set()
        self._outgoing: list[Told] = []
        self._overflowed = False
        self._told = asyncio.Event()
        self._proven_at = float("-inf")
        self._closing = False

    @property
    def listening(self) -> int:
        """How many lines are open."""
        return len(self._listeners)

    @property
    def proven(self) -> bool:
        """Whether everything that others wrote until a moment ago has been heard."""
        return time.monotonic() - self._proven_at < PROOF_S

    def tell(self, tenant: str, name: str, version: int) -> None:
        """A value has changed: tell our own callers now, the other edges within some milliseconds."""
        told = (tenant, name, version)
        self._pass_on([told])
        self._outgoing.append(told)
        if len(self._outgoing) > MOST_WAITING:
            self._outgoing, self._overflowed = [], True
        self._told.set()

    def _pass_on(self, told: list[Told]) -> None:
        for listener in self._listeners:
            listener.tell(told)

    def _forget_all(self) -> None:
        for listener in self._listeners:
            listener.forget_all()

    def close(self) -> None:
        """End all lines."""
        self._closing = True
        for listener in self._listeners:
            listener.woken.set()

    async def lines(self, sees: Sees, *, scope: str) -> AsyncGenerator[bytes]:
        """Yield a line of JSON when something changed that ``sees`` lets through, and twice a second; first the ``scope``.

        ``{"c": [[name, version], …]}``; with ``"flush": true`` everything is to be forgotten; with ``"proven": false`` changes may
        be missing, so that nothing in memory can be trusted.
        """
        listener = Listener(sees)
        self._listeners.add(listener)
        try:
            yield json.dumps({"scope": scope, "c": [], "proven": False}).encode() + b"\n"
            while not self._closing:
                yield listener.line(proven=self.proven)
                try:
                    await asyncio.wait_for(listener.woken.wait(), BEAT_S)
                    await asyncio.sleep(GATHER_S)
                except TimeoutError:
                    pass
                listener.woken.clear()
        finally:
            self._listeners.discard(listener)

    # Between edges

    async def hear(self) -> None:
        """Pass on what other edges say, until cancelled."""
        await self._for_ever(self._hear)

    async def say(self) -> None:
        """Tell other edges what changed here, until cancelled."""
        await self._for_ever(self._say)

    async def _for_ever(self, work: Callable[[redis.asyncio.Redis], Awaitable[None]]) -> None:
        while True:
            try:
                async with redis.asyncio.Redis.from_url(
                    settings.VALKEY_URL, socket_timeout=2, socket_connect_timeout=2
                ) as valkey:
                    await work(valkey)
            except (RedisError, OSError, ValueError, KeyError, TypeError) as error:
                log.debug("state.changes_interrupted", error=str(error))
            self._proven_at = float("-inf")
            await asyncio.sleep(0.2)

    async def _hear(self, valkey: redis.asyncio.Redis) -> None:
        async with valkey.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            self._forget_all()  # something may have been missed until now
            while True:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is None:
                    continue
                said = json.loads(message["data"])
                if said["by"] == self._me:
                    self._proven_at = max(self._proven_at, float(said["at"]))
                    continue
                if said["flush"]:
                    self._forget_all()
                self._pass_on([(tenant, name, version) for tenant, name, version in said["c"]])

    async def _say(self, valkey: redis.asyncio.Redis) -> None:
        while True:
            try:
                await asyncio.wait_for(self._told.wait(), PING_S)
                await asyncio.sleep(GATHER_S)
            except TimeoutError:
                pass
            self._told.clear()
            outgoing, self._outgoing = self._outgoing, []
            said = {"by": self._me, "at": time.monotonic(), "flush": self._overflowed, "c": outgoing}
            try:
                await valkey.publish(CHANNEL, json.dumps(said))
            except (RedisError, OSError):
                self._outgoing = outgoing + self._outgoing
                raise
            self._overflowed = False
