"""The one thread that talks to the control plane: long-poll, sync and traces in one event loop, each on its own connection.

Nothing that happens here is raised into the host; it is logged, now and then, to the logger ``tidegate``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable

from tidegate.config import Config, Store
from tidegate.contact import Backoff, Contact
from tidegate.guard import Guard
from tidegate.journal import Journal, Journals
from tidegate.polling import Poller
from tidegate.replaying import Replayer
from tidegate.shipping import Shipper
from tidegate.state.courier import Courier
from tidegate.state.listening import Listener
from tidegate.state.memory import Memory
from tidegate.syncing import Syncer
from tidegate.trace import Tracer
from tidegate.wire import Address

JOIN_MARGIN_S = 0.5

_log = logging.getLogger("tidegate")
_orphans: list[object] = []  # what belongs to parent processes: never touched, never collected


class Background:
    """Runs the conversations of one incarnation. ``start`` is called lazily, once per process."""

    def __init__(
        self,
        *,
        address: Address,
        key: str,
        app: str,
        guard: Guard,
        tracer: Tracer,
        store: Store,
        kept: Config | None,
        journals: Journals | None = None,
    ) -> None:
        self._app = app
        self._guard = guard
        self._journals = journals
        self._journal: Journal | None = None
        self.contact = Contact(address, key)
        self.memory = Memory()
        self.poller = Poller(contact=self.contact, guard=guard, store=store, kept=kept)
        self.renew(tracer)

    def renew(self, tracer: Tracer) -> None:
        """Start as a new incarnation, at first and in a forked child."""
        self.contact.renew()
        self.poller.renew()
        self._syncer = Syncer(
            app=self._app,
            contact=self.contact,
            guard=self._guard,
            poller=self.poller,
            tracer=tracer,
            renamed=self._renamed,
        )
        self._shipper = Shipper(app=self._app, incarnation=self.incarnation, contact=self.contact, tracer=tracer)
        self.courier = Courier(self.contact, self.memory, self._tell)
        self._listener = Listener(self.contact, self.memory)
        if self._journals is not None:
            self._replayer = Replayer(self._journals, self.contact)
            self._journal = self._guard.leases.journal = Journal(self._journals, self._syncer.identity())
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self.thread: threading.Thread | None = None

    def _renamed(self) -> None:
        """The server has given the incarnation up, and another one goes on, with a journal of its own."""
        self._shipper.rename(self.incarnation)
        if self._journal is not None and self._journals is not None:
            with self._guard.lock:
                self._journal.close()
                self._journal = self._guard.leases.journal = Journal(self._journals, self._syncer.identity())

    @property
    def incarnation(self) -> str:
        return self._syncer.incarnation

    def forked(self, tracer: Tracer) -> None:
        """Let go of what belongs to the parent process."""
        conversations = (self._syncer, self._shipper, self.courier, self._listener, vars(self.poller).copy())
        _orphans.append((self._loop, self.thread, self._closing, conversations))
        self.memory.renew()
        if self._journal is not None:
            self._journal.abandon()
            _orphans.append(self._replayer)
        self.renew(tracer)

    # From other threads

    def start(self) -> None:
        """Start the thread, if it does not run."""
        with self._starting:
            if self.thread is not None:
                return
            loop = asyncio.SelectorEventLoop()
            thread = threading.Thread(target=self._run, args=(loop,), name="tidegate", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the interpreter shuts down
                self.contact.say("start", f"the background thread can't be started: {error}")
                loop.close()
                return
            self._loop, self.thread = loop, thread

    def poke(self) -> None:
        """Ask for a sync at once."""
        self._tell(self._syncer.hurry)

    def listen(self) -> None:
        """Hear from now on what changes in the state that is remembered here."""
        self._tell(self._listener.wanted)

    def _tell(self, event: asyncio.Event) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # the loop was closed
                return

    def finish(self, timeout_s: float) -> None:
        """Flush windows, spans and leases for at most ``timeout_s``, and end the thread."""
        if self.thread is None or not self.thread.is_alive():
            return
        self.contact.deadline = time.monotonic() + timeout_s
        self._tell(self._closing)
        if self.thread is not threading.current_thread():
            self.thread.join(timeout_s + JOIN_MARGIN_S)

    # In the thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(self._main())
        except BaseException:  # noqa: BLE001  nothing may escape into the host's threading hook
            _log.exception("tidegate: the background thread has ended")
        finally:
            self.poller.ready.set()
            loop.close()

    async def _main(self) -> None:
        works = {"config": self.poller.work, "sync": self._syncer.work, "traces": self._shipper.work}
        if self._journals is not None:
            works["journal"] = self._replayer.work
        works |= {"state": self.courier.work, "changes": self._listener.work}
        tasks = [asyncio.create_task(self._for_ever(name, work)) for name, work in works.items()]
        await self._closing.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(
            self._to_its_end("sync", self._syncer.finish),
            self._to_its_end("traces", self._shipper.finish),
            self._to_its_end("state", self.courier.finish),
        )
        for conversation in (self.poller, self._syncer, self._shipper, self.courier, self._listener):
            conversation.close()
        if self._journal is not None:
            self._replayer.close()
            with self._guard.lock:
                self._journal.close()
        await asyncio.sleep(0)  # lets the connections' transports go

    async def _to_its_end(self, name: str, finish: Callable[[], Awaitable[None]]) -> None:
        """Finish one conversation; what it fails of is said, and the others finish all the same."""
        try:
            await finish()
        except Exception as error:  # noqa: BLE001  as below
            self._say_fault(name, error)

    async def _for_ever(self, name: str, work: Callable[[Backoff], Awaitable[None]]) -> None:
        """Do ``work`` again and again, whatever comes of it."""
        backoff = Backoff()
        while True:
            try:
                await work(backoff)
            except Exception as error:  # noqa: BLE001  a fault of ours or a strange answer must not end the thread
                self._say_fault(name, error)
                await asyncio.sleep(backoff.next_s())

    def _say_fault(self, name: str, error: Exception) -> None:
        self.contact.say(name, f"{type(error).__name__}: {error}", fault=True)
