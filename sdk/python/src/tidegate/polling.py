"""The long-poll: fetches snapshots and price books, verifies, compiles, swaps, keeps them on disk."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TypeVar

from tidegate.config import EMPTY_BOOK, Config, Document, Store, read_prices, read_snapshot, verified
from tidegate.contact import Backoff, Contact, pause
from tidegate.core.price import PriceBook
from tidegate.core.reading import Steps, finish
from tidegate.guard import Guard
from tidegate.leisure import at_leisure
from tidegate.wire import Reply, Unreachable, clean

T = TypeVar("T")
WAIT_S = 25
MARGIN_S = 10.0
FIRST_PAUSE_S = 0.1
PATIENCE_S = 1.0  # with a server that is away, while somebody waits in connect
MAX_REST_S = 60.0


class Poller:
    """Keeps the guard governed by the newest snapshot that can be had."""

    def __init__(self, *, contact: Contact, guard: Guard, store: Store, kept: Config | None) -> None:
        self._contact = contact
        self._guard = guard
        self._store = store
        self.config = kept
        self._since = guard.clock.now()  # that configuration governs
        self.renew()

    def renew(self) -> None:
        """Begin anew with the configuration that is there: at first, and in a forked child."""
        self.ready = threading.Event()  # there is a policy, or none is to be had soon
        self.refused: tuple[str, str] | None = None  # the etag of a snapshot that can't be compiled, and why
        self.seen_etag = self.config.etag if self.config is not None else None
        self._away_since: float | None = None  # of time.monotonic, while nothing was heard of the server at all
        self._prices_document: Document | None = None
        self._request: asyncio.Task[Reply] | None = None
        self._hasten = asyncio.Event()
        self._connection = self._contact.connection()
        self._mismatches = 0

    async def work(self, backoff: Backoff) -> None:
        """Poll once and rest as long as the answer says."""
        self._request = asyncio.create_task(self._ask())
        try:
            reply = await self._request
        except Unreachable as error:
            await self._missed(error, backoff)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling() or not self._hasten.is_set():
                self._request.cancel()
                raise
            self._hasten.clear()  # a sync named a newer snapshot; ask again
        else:
            await self._answered(reply, backoff)

    async def _missed(self, error: Unreachable, backoff: Backoff) -> None:
        self._contact.lose("config", str(error))
        self._away_since = self._away_since or time.monotonic()
        if self.config is not None or time.monotonic() - self._away_since >= PATIENCE_S:
            self.ready.set()  # nothing better will come soon
        if self.ready.is_set():
            await self._contact.rest(backoff.next_s())
        else:
            await asyncio.sleep(FIRST_PAUSE_S)  # somebody waits in connect

    async def _ask(self) -> Reply:
        """Ask for the snapshot: the first time whatever it is, then when it is another one."""
        known = {"If-None-Match": f'"{self.seen_etag}"'} if self.seen_etag and self.ready.is_set() else {}
        path = f"/sdk/v1/config?wait={WAIT_S}"
        return await self._connection.request("GET", path, headers=known, timeout_s=WAIT_S + MARGIN_S)

    async def _answered(self, reply: Reply, backoff: Backoff) -> None:
        try:
            if reply.status == 200:
                await self._swap(await self._do(verified(reply.headers.get("etag", ""), reply.pieces)))
            elif reply.status != 304:
                self._contact.turned_down("config", reply)
                self.ready.set()
                await self._contact.rest(backoff.next_s(reply))
                return
        except (ValueError, Unreachable) as error:
            self._contact.say("config", str(error))
            self.ready.set()
            await asyncio.sleep(backoff.next_s())
            return
        self._contact.reach()
        backoff.reset()
        self.ready.set()
        rest = reply.headers.get("tidegate-poll-ms", "0")
        if rest.isdecimal() and int(rest):
            await pause(min(MAX_REST_S, int(rest) / 1000), self._hasten)
            self._hasten.clear()

    async def _do(self, steps: Steps[T]) -> T:
        """Do something long: at once while somebody waits for the first policy, at leisure while the host is at work."""
        return await at_leisure(steps) if self.ready.is_set() else finish(steps)

    async def _swap(self, document: Document) -> None:
        """Compile and govern by a snapshot, with the price book that it names. One that can't be compiled is reported."""
        try:
            snapshot = await self._do(read_snapshot(document))
        except ValueError as error:
            self.refused = (document.etag, clean(str(error), 500))
            self.seen_etag = document.etag
            raise
        prices_etag, book = await self._book(snapshot.prices)
        self.config = Config(document.etag, snapshot, prices_etag, book, "server")
        await at_leisure(self._guard.ease())
        self._guard.follow(snapshot, book)
        self._since = self._guard.clock.now()
        self.refused = None
        if prices_etag != snapshot.prices:
            raise ValueError("the price book could not be fetched; the last one known is used")
        self.seen_etag = document.etag
        await self._keep(document, prices_etag)

    async def _book(self, etag: str | None) -> tuple[str | None, PriceBook]:
        """Return the book that ``etag`` names, or the one in use when it can't be had."""
        config = self.config
        in_use = (config.prices_etag, config.book) if config is not None else (None, EMPTY_BOOK)
        if etag is None:
            return None, EMPTY_BOOK
        if etag == in_use[0]:
            return in_use
        try:
            reply = await self._connection.request("GET", f"/sdk/v1/prices/{etag}", timeout_s=self._contact.timeout_s)
            if reply.status != 200:
                raise ValueError(f"the price book {etag} was answered with {reply.status}")
            document = await self._do(verified(etag, reply.pieces))
            book = read_prices(document)
        except (ValueError, Unreachable) as error:
            self._contact.say("prices", str(error))
            return in_use
        self._prices_document = document
        return etag, book

    async def _keep(self, document: Document, prices_etag: str | None) -> None:
        prices = self._prices_document
        if prices_etag is not None and (prices is None or prices.etag != prices_etag):
            prices = self._store.prices(prices_etag)  # the book in use came from disk
            if prices is None:
                return
        try:
            await self._do(self._store.save(document, prices if prices_etag is not None else None))
        except OSError as error:
            self._contact.say("cache", f"the last known good policy can't be kept on disk: {error}")

    def said(self) -> dict[str, str | int | None]:
        """Return what a sync says of the configuration: what governs, since when, and what was refused."""
        refused_etag, why = self.refused or (None, None)
        return {
            "etag": self.config.etag if self.config is not None else None,
            "age_ms": max(0, int((self._guard.clock.now() - self._since) * 1000)),
            "refused": why,
            "refused_etag": refused_etag,
        }

    def heard_of(self, etag: str | None) -> None:
        """A sync named the newest snapshot. When it did so twice in vain, ask anew: the long-poll may hang on a dead line."""
        self._mismatches = self._mismatches + 1 if etag is not None and etag != self.seen_etag else 0
        if self._mismatches >= 2 and self._request is not None:
            self._mismatches = 0
            self._hasten.set()
            self._request.cancel()

    def close(self) -> None:
        self._connection.close()
