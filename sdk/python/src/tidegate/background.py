"""The one thread that talks to the control plane: long-poll, sync and traces, each on its own connection of one event loop.

Nothing that happens here is raised into the host; it is logged, now and then, to the logger ``tidegate``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import random
import ssl
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from tidegate.config import EMPTY_BOOK, Config, Document, Store, read_prices, read_snapshot, verified
from tidegate.core.price import PriceBook
from tidegate.exchange import Exchange
from tidegate.guard import Guard
from tidegate.trace import Span, Tracer, encode
from tidegate.version import VERSION
from tidegate.wire import Address, Connection, Reply, Unreachable

LONG_POLL_S = 25
SYNC_TIMEOUT_S = 10.0
BACKOFF_BASE_S, BACKOFF_MAX_S = 0.5, 30.0
UNAUTHORIZED_PAUSE_S = 30.0
TRACE_INTERVAL_S = 1.0
SYNC_GAP_S = 0.01
CLOSE_S = 3.0
QUIET_S = 30.0
MAX_TRACE_TRIES = 5

_log = logging.getLogger("tidegate")
_orphans: list[object] = []  # event loops of parent processes: never touched, never collected


class Backoff:
    """Full jitter from half a second to half a minute, longer only when the server says so."""

    def __init__(self) -> None:
        self._tries = 0

    def reset(self) -> None:
        self._tries = 0

    def next_s(self, reply: Reply | None = None) -> float:
        self._tries += 1
        ceiling = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2.0 ** min(self._tries, 10))
        pause = random.uniform(BACKOFF_BASE_S / 2, ceiling)  # noqa: S311  jitter
        if reply is not None and reply.status == 401:
            return UNAUTHORIZED_PAUSE_S
        asked = reply.headers.get("retry-after", "") if reply is not None else ""
        return max(pause, float(asked)) if asked.isdigit() else pause


class Background:
    """Runs the conversation of one incarnation. ``start`` is called lazily, once per process."""

    def __init__(
        self, *, address: Address, key: str, app: str, guard: Guard, tracer: Tracer, store: Store, kept: Config | None
    ) -> None:
        self._address = address
        self._key = key
        self._app = app
        self._guard = guard
        self._tracer = tracer
        self._store = store
        self._context = ssl.create_default_context() if address.tls else None
        self.config = kept
        self.renew()

    def renew(self) -> None:
        """Start as a new incarnation, at first and in a forked child."""
        self.incarnation = str(uuid.uuid4())
        self.exchange = Exchange(self._guard)
        self.ready = threading.Event()
        self.refused: str | None = None
        self.last_error: str | None = None
        self.reached = False  # the last request was answered
        self.thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seen_etag = self.config.etag if self.config is not None else None
        self._snapshot_document: Document | None = None
        self._prices_document: Document | None = None
        self._said: dict[str, float] = {}
        self._mismatches = 0
        self._deadline = float("inf")

    def forked(self, tracer: Tracer) -> None:
        """Let go of what belongs to the parent process."""
        _orphans.append((self._loop, self.thread))
        self._tracer = tracer
        self.renew()

    # From other threads

    def start(self) -> None:
        """Start the thread, if it does not run."""
        with self._starting:
            if self.thread is not None:
                return
            self._loop = asyncio.SelectorEventLoop()
            self._wake_sync, self._wake_poll, self._recovered, self._closing = (asyncio.Event() for _ in range(4))
            thread = threading.Thread(target=self._run, args=(self._loop,), name="tidegate", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the interpreter shuts down
                self._say("start", f"the background thread can't be started: {error}")
            self.thread = thread

    def poke(self) -> None:
        """Ask for a sync at once."""
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._wake_sync.set)
            except RuntimeError:  # closed
                return

    def finish(self, timeout_s: float) -> None:
        """Flush windows, spans and leases for at most ``timeout_s``, and end the thread."""
        thread, loop = self.thread, self._loop
        if thread is None or loop is None or not thread.is_alive():
            return
        self._deadline = time.monotonic() + timeout_s
        try:
            loop.call_soon_threadsafe(self._closing.set)
        except RuntimeError:
            return
        if thread is not threading.current_thread():
            thread.join(timeout_s + 0.5)

    # In the thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(self._main())
        except BaseException:  # noqa: BLE001  nothing may escape into the host's threading hook
            _log.exception("tidegate: the background thread has ended")
        finally:
            self.ready.set()
            loop.close()

    async def _main(self) -> None:
        headers = {
            "Authorization": f"Bearer {self._key}",
            "User-Agent": f"tidegate-python/{VERSION}",
            "Accept": "application/json",
        }
        self._poll_connection, self._sync_connection, self._trace_connection = (
            Connection(self._address, headers, self._context) for _ in range(3)
        )
        tasks = [
            asyncio.create_task(self._for_ever(name, work))
            for name, work in (("config", self._poll), ("sync", self._sync), ("traces", self._trace))
        ]
        await self._closing.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._flush()
        for connection in (self._poll_connection, self._sync_connection, self._trace_connection):
            connection.close()
        await asyncio.sleep(0)

    async def _for_ever(self, name: str, work: Callable[[Backoff], Awaitable[None]]) -> None:
        """Do ``work`` again and again, whatever comes of it."""
        backoff = Backoff()
        while True:
            try:
                await work(backoff)
            except Exception as error:  # noqa: BLE001  a fault of ours or a strange answer must not end the thread
                self._say(name, f"{type(error).__name__}: {error}", fault=True)
                await asyncio.sleep(backoff.next_s())

    async def _pause(self, seconds: float, wake: asyncio.Event) -> bool:
        """Rest for ``seconds`` or until woken; return whether it was woken."""
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            return False
        return True

    def _say(self, about: str, text: str, *, fault: bool = False) -> None:
        """Log, at most once in a while about the same thing."""
        self.last_error = f"{about}: {text}"
        now = time.monotonic()
        if now - self._said.get(about, float("-inf")) >= QUIET_S:
            self._said[about] = now
            _log.warning("tidegate: %s: %s", about, text, exc_info=fault)

    # Configuration

    async def _poll(self, backoff: Backoff) -> None:
        first = not self.ready.is_set()
        self._poll_request = asyncio.create_task(self._ask_config(0 if first else LONG_POLL_S))
        try:
            reply = await self._poll_request
        except Unreachable as error:
            self._unreached("config", str(error))
            pause = 0.1 if first else backoff.next_s()
        except asyncio.CancelledError:
            if self._closing.is_set():
                raise
            return  # the sync saw a newer snapshot; ask again
        else:
            pause = await self._take_config(reply, backoff)
        self._wake_poll.clear()
        if pause:
            await self._pause(pause, self._wake_poll)

    async def _ask_config(self, wait_s: int) -> Reply:
        headers = {"If-None-Match": f'"{self._seen_etag}"'} if self._seen_etag else {}
        path = f"/sdk/v1/config?wait={wait_s}" if wait_s else "/sdk/v1/config"
        return await self._poll_connection.request("GET", path, headers=headers, timeout_s=wait_s + 10.0)

    async def _take_config(self, reply: Reply, backoff: Backoff) -> float:
        """Use an answer; return how long to rest before the next request."""
        if reply.status not in (200, 304):
            self._turned_down("config", reply)
            self.ready.set()
            return backoff.next_s(reply)
        self._reach(self._recovered)
        if reply.status == 200:
            try:
                await self._swap(verified(reply.headers.get("etag", ""), reply.body))
            except (ValueError, Unreachable) as error:
                self._say("config", str(error))
                self.ready.set()
                return backoff.next_s()
        backoff.reset()
        self.ready.set()
        rest = reply.headers.get("tidegate-poll-ms", "0")
        return min(60.0, int(rest) / 1000) if rest.isdigit() else 0.0

    async def _swap(self, document: Document) -> None:
        """Compile and govern by a snapshot, with the price book that it names. One that can't be compiled is reported."""
        try:
            snapshot = read_snapshot(document)
        except ValueError as error:
            self.refused = f"{document.etag}: {error}"[:500]
            self._seen_etag = document.etag
            raise
        prices_etag, book = await self._book(snapshot.prices)
        self.config = Config(document.etag, snapshot, prices_etag, book, "server")
        self._guard.follow(snapshot, book)
        self._snapshot_document = document
        self.refused = None
        if prices_etag == snapshot.prices:
            self._seen_etag = document.etag
            self._keep(document)
        else:
            raise ValueError("the price book could not be fetched; the last one known is used")

    async def _book(self, etag: str | None) -> tuple[str | None, PriceBook]:
        """Return the book that ``etag`` names, or the one in use when it can't be had."""
        config = self.config
        in_use = (config.prices_etag, config.book) if config is not None else (None, EMPTY_BOOK)
        if etag is None or etag == in_use[0]:
            return in_use if etag else (None, EMPTY_BOOK)
        try:
            reply = await self._poll_connection.request("GET", f"/sdk/v1/prices/{etag}", timeout_s=SYNC_TIMEOUT_S)
            if reply.status != 200:
                raise ValueError(f"the price book was answered with {reply.status}")
            document = verified(etag, reply.body)
            book = read_prices(document)
        except (ValueError, Unreachable) as error:
            self._say("prices", str(error))
            return in_use
        self._prices_document = document
        return etag, book

    def _keep(self, document: Document) -> None:
        prices = self._prices_document
        if self.config is not None and self.config.prices_etag is not None and prices is None:
            return  # the book came from disk, where it is kept with the snapshot that named it
        try:
            self._store.save(document, prices)
        except OSError as error:
            self._say("cache", f"the last known good policy can't be kept on disk: {error}")

    # Sync

    async def _sync(self, backoff: Backoff) -> None:
        pause = self._guard.link.interval_s
        await self._pause(pause, self._wake_sync)
        self._wake_sync.clear()
        failed_for = await self._sync_once(backoff, closing=False)
        if failed_for:
            await self._pause(failed_for, self._recovered)
        else:
            await asyncio.sleep(SYNC_GAP_S)
        self._recovered.clear()

    async def _sync_once(self, backoff: Backoff, *, closing: bool) -> float:
        """Sync; return 0 when it went well, else the seconds until the next attempt."""
        config = {"etag": self.config.etag if self.config is not None else None, "refused": self.refused}
        body, sent = self.exchange.request(
            self._identity(), config, dropped_spans=self._tracer.dropped, closing=closing
        )
        packed = json.dumps(body, separators=(",", ":")).encode()
        timeout_s = max(0.1, min(SYNC_TIMEOUT_S, self._deadline - time.monotonic()))
        try:
            reply = await self._sync_connection.request(
                "POST", "/sdk/v1/sync", headers={"Content-Type": "application/json"}, body=packed, timeout_s=timeout_s
            )
        except Unreachable as error:
            self._unreached("sync", str(error))
            return self._sync_failed(backoff.next_s())
        if reply.status != 200:
            self._turned_down("sync", reply)
            self._not_taken(reply.status)
            return self._sync_failed(SYNC_GAP_S if reply.status == 413 else backoff.next_s(reply))
        try:
            answer = self.exchange.answered(sent, json.loads(reply.body))
        except ValueError as error:
            self._say("sync", str(error))
            return self._sync_failed(backoff.next_s())
        backoff.reset()
        self._reach(self._wake_poll)
        self._check_etag(answer.config_etag)
        if answer.hurry:
            self._wake_sync.set()
        return 0.0

    def _sync_failed(self, next_try_s: float) -> float:
        self.exchange.failed(next_try_s=next_try_s)
        return next_try_s

    def _not_taken(self, status: int) -> None:
        with self._guard.lock:
            if status == 413:
                self._guard.report.too_large()
            elif status in (400, 422):
                self._guard.report.refused()

    def _check_etag(self, etag: str | None) -> None:
        """Ask for the snapshot anew when a sync names another one twice: the long-poll may hang on a dead connection."""
        self._mismatches = self._mismatches + 1 if etag is not None and etag != self._seen_etag else 0
        if self._mismatches >= 2:
            self._mismatches = 0
            self._wake_poll.set()
            request: asyncio.Task[Reply] | None = getattr(self, "_poll_request", None)
            if request is not None and not request.done():
                request.cancel()

    def _identity(self) -> dict[str, Any]:
        return {
            "incarnation": self.incarnation,
            "app": self._app,
            "host": platform.node()[:120],
            "pid": os.getpid(),
            "sdk": f"python/{VERSION}",
        }

    # Traces

    async def _trace(self, backoff: Backoff) -> None:
        await asyncio.sleep(TRACE_INTERVAL_S)
        while batch := self._tracer.batch():
            await self._send_spans(batch, backoff)

    async def _send_spans(self, batch: list[Span], backoff: Backoff) -> None:
        """Send a batch until it is taken, refused, or was tried often enough."""
        body = encode(batch, self._resource(), VERSION)
        for _ in range(MAX_TRACE_TRIES):
            reply = await self._post_spans(body)
            if reply is not None and reply.status < 300:
                backoff.reset()
                return
            if reply is not None and reply.status in (400, 413, 422):
                break
            await asyncio.sleep(backoff.next_s(reply))
        self._tracer.dropped += len(batch)

    async def _post_spans(self, body: bytes) -> Reply | None:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        timeout_s = max(0.1, min(SYNC_TIMEOUT_S, self._deadline - time.monotonic()))
        try:
            reply = await self._trace_connection.request(
                "POST", "/v1/traces", headers=headers, body=body, timeout_s=timeout_s
            )
        except Unreachable as error:
            self._say("traces", str(error))
            return None
        if reply.status >= 300:
            self._turned_down("traces", reply)
        return reply

    def _resource(self) -> dict[str, str | int | float | bool]:
        return {
            "service.name": self._app,
            "service.instance.id": self.incarnation,
            "host.name": platform.node(),
            "process.pid": os.getpid(),
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "tidegate",
            "telemetry.sdk.version": VERSION,
        }

    # Closing

    async def _flush(self) -> None:
        """Send what is left, as long as there is time."""
        spans = asyncio.create_task(self._flush_spans())
        while time.monotonic() < self._deadline:
            failed_for = await self._sync_once(Backoff(), closing=True)
            with self._guard.lock:
                done = self._guard.leases.settled and not self._guard.report.unconfirmed
            if done:
                break
            await asyncio.sleep(min(0.1 if failed_for else 0.0, max(0.0, self._deadline - time.monotonic())))
        await spans

    async def _flush_spans(self) -> None:
        while (batch := self._tracer.batch()) and time.monotonic() < self._deadline:
            if await self._post_spans(encode(batch, self._resource(), VERSION)) is None:
                return

    # What is known of the server

    def _reach(self, other: asyncio.Event) -> None:
        """The server answers; if it did not before, wake the other conversation from its rest."""
        if not self.reached:
            other.set()
        self.reached = True
        self.last_error = None

    def _unreached(self, about: str, text: str) -> None:
        self.reached = False
        if self.config is not None:
            self.ready.set()  # nothing better will come soon
        self._say(about, text)

    def _turned_down(self, about: str, reply: Reply) -> None:
        self.reached = reply.status < 500
        try:
            detail = json.loads(reply.body).get("detail") or ""
        except (ValueError, AttributeError):
            detail = ""
        self._say(about, f"the control plane answered {reply.status} {detail}".rstrip())
