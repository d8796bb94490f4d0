"""``connect`` and the ``Gate``: what a host program holds."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar, Unpack

from tidegate.background import Background
from tidegate.call import Call
from tidegate.caller import Caller
from tidegate.cells import CellKey
from tidegate.clock import Clock, SystemClock
from tidegate.config import Store, default_folder
from tidegate.core.release import Assignment, unit_of
from tidegate.describing import CallOptions
from tidegate.early import WithoutPolicy
from tidegate.errors import Refused
from tidegate.guard import Guard
from tidegate.journal import Journals, folder_from, owner_of
from tidegate.running import Plan, RetryOn, arun, run
from tidegate.sampling import Sampling, sampler_of
from tidegate.state import State
from tidegate.status import describe, describe_config
from tidegate.trace import Tracer
from tidegate.version import VERSION
from tidegate.wire import abandon_sockets, clean, parse_url
from tidegate.wrapping import Wrapped

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

CONNECT_WAIT_S = 5.0
CLOSE_S = 3.0
_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


def connect(
    url: str | None = None,
    key: str | None = None,
    *,
    app: str | None = None,
    wait_s: float = CONNECT_WAIT_S,
    traces: bool | Sampling = True,
    cache_dir: str | Path | None = None,
    journal: str | Path | None = None,
    without_policy: WithoutPolicy | None = None,
    clock: Clock | None = None,
) -> Gate:
    """Return the gate to a control plane, ``TIDEGATE_URL`` and ``TIDEGATE_KEY`` by default.

    Waits at most ``wait_s`` seconds for the first policy, so that the first call is governed; for a second only when the server
    is away. That is no error: the last known good policy is used. It is kept in ``cache_dir`` (``TIDEGATE_CACHE_DIR``, or the
    user's cache folder); empty: nowhere. While there is none, calls pass ungoverned (``gate.status()`` says so), and what they
    cost is owed to their budgets later; ``without_policy="refuse"`` (``TIDEGATE_WITHOUT_POLICY``) has them refused as ``Stale``.
    ``journal`` (``TIDEGATE_JOURNAL_DIR``) is a folder on a disk that outlives the process: what a killed process may have spent
    is then said for it by the next one with the same url and key, and nothing of its leases stays counted as spent.
    ``traces``: whether calls are traced; with ``Sampling(share=0.05)`` errors, refusals, slow calls and canaries are kept, and five
    in a hundred of the other traces. Figures count every call all the same.
    Raises ``ValueError`` when url or key are missing or malformed, or ``without_policy`` is neither.
    """
    url = url or os.environ.get("TIDEGATE_URL", "")
    key = key or os.environ.get("TIDEGATE_KEY", "")
    if not url:
        raise ValueError("The control plane's url is missing: pass url= or set TIDEGATE_URL.")
    if not key:
        raise ValueError("The SDK key is missing: pass key= or set TIDEGATE_KEY.")
    if not key.isascii() or not key.isprintable() or any(letter.isspace() for letter in key):
        raise ValueError("The SDK key has characters that no key has; copy it again.")
    folder = default_folder() if cache_dir is None else Path(cache_dir) if cache_dir else None
    gate = Gate(
        url=url,
        key=key,
        app=clean(app or _program(), 120),
        clock=clock or SystemClock(),
        traces=bool(traces),
        sampling=traces.checked() if isinstance(traces, Sampling) else None,
        folder=folder,
        journal=folder_from(journal),
        without_policy=_without_policy(without_policy),
    )
    gate.start(wait_s)
    return gate


def _without_policy(given: str | None) -> WithoutPolicy:
    said = given or os.environ.get("TIDEGATE_WITHOUT_POLICY") or "pass"
    if said not in ("pass", "refuse"):
        raise ValueError(f"without_policy is {said!r}; it must be 'pass' or 'refuse'.")
    return said  # type: ignore[return-value]  # one of the two


def _program() -> str:
    return (Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else "python")[:120]


class Gate(Caller):
    """Guards calls by the policy of a control plane. Safe for threads, event loops and forks; one per process is enough."""

    def __init__(
        self,
        *,
        url: str,
        key: str,
        app: str,
        clock: Clock,
        traces: bool,
        folder: Path | None,
        journal: Path | None = None,
        without_policy: WithoutPolicy = "pass",
        sampling: Sampling | None = None,
    ) -> None:
        address = parse_url(url)
        store = Store(folder, url=url, key=key)
        kept = store.load()
        self._url = url
        self._lock = threading.Lock()
        self._closed = False
        self._listens = False
        self._sampling = sampling
        super().__init__(Guard(clock, self._poke), Tracer(enabled=traces, sampler=sampler_of(sampling)))
        self.guard.without_policy = without_policy
        if kept is not None:
            self.guard.follow(kept.snapshot, kept.book)
        self._background = Background(
            address=address,
            key=key,
            app=app,
            guard=self.guard,
            tracer=self.tracer,
            store=store,
            kept=kept,
            journals=Journals(journal, owner_of(url, key)) if journal is not None else None,
        )
        self.state = State(self._background.memory, self._send_to_state)
        _gates.add(self)

    def start(self, wait_s: float) -> None:
        """Start talking to the control plane; wait at most ``wait_s`` for the first policy."""
        self._background.start()
        self._background.poller.ready.wait(wait_s)

    def _poke(self) -> None:
        self._background.poke()

    def _send_to_state(self, op: dict[str, Any]) -> Future[Any]:
        if self._background.thread is None and not self._closed:
            self._restart()
        if not self._listens:
            self._listens = True
            self._background.listen()
        return self._background.courier.submit(op)

    def own_call(self, route: str, key: CellKey | None, *, fixed: bool = False, **options: Any) -> Call:
        if self._background.thread is None and not self._closed:
            self._restart()
        return super().own_call(route, key, fixed=fixed, **options)

    def _restart(self) -> None:
        """Talk to the control plane from a forked child, too; its first call is what shows that it will need to."""
        self._background.start()
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            from multiprocessing.util import Finalize  # such a child leaves without running atexit

            Finalize(self, Gate.close, args=(self,), exitpriority=0)

    def run(
        self, route: str, fn: Callable[[Call], T], *, retry_on: RetryOn | None = None, **options: Unpack[CallOptions]
    ) -> T:
        """Return ``fn(call)`` with the policy's retries, breaker and fallbacks around it (``tidegate.running``).

        A thread can't be interrupted: ``call.timeout_s`` is for ``fn`` to heed; no attempt begins after the deadline.
        """
        return run(self._plan(retry_on, options), route, fn)

    async def arun(
        self,
        route: str,
        fn: Callable[[Call], Awaitable[T]],
        *,
        retry_on: RetryOn | None = None,
        **options: Unpack[CallOptions],
    ) -> T:
        """Return ``await fn(call)`` with the policy's retries, breaker, timeout and fallbacks around it."""
        return await arun(self._plan(retry_on, options), route, fn)

    def _plan(self, retry_on: RetryOn | None, options: CallOptions) -> Plan:
        return Plan(self.guard, lambda route: self.call(route, **options), retry_on)

    def guarded(
        self, route: str, *, retry_on: RetryOn | None = None, **options: Unpack[CallOptions]
    ) -> Callable[[F], F]:
        """Return a decorator for ``def`` or ``async def``. A parameter named ``call`` receives the call."""
        return Wrapped(self, route, retry_on, options).decorate

    def release(
        self, deployment: str, *, unit: str = "", tenant: str = "", user: str = "", region: str = ""
    ) -> Assignment | None:
        """Return which release of a deployment ``unit`` gets, with its config; ``None`` when the deployment is not known here.

        The same unit gets the same answer in every process, and the candidate from there on once it has got it, as long as
        the rollout goes forward. ``tenant`` and ``region`` matter for rings that name some. Without a unit chance decides.
        ``unit`` is what the deployment counts by, for users and sessions within ``tenant``: calls of the same user get the same.
        """
        snapshot = self.guard.snapshot
        found = snapshot.deployments.get(deployment) if snapshot is not None else None
        if snapshot is None or found is None:
            return None
        owner = tenant or snapshot.scope or ""
        name = unit_of(found, tenant=owner, user=unit or user, session=unit or user)
        return self.guard.releases.of(found, name, tenant=owner, user=user or unit, region=region)

    def can_afford(self, route: str, **options: Unpack[CallOptions]) -> bool:
        """Return whether every budget on the call's path has room for it now.

        Asks the control plane when this process holds too little, for as long as a call would wait; ``False`` when it does not answer.
        """
        call = self.own_call(route, None, **options)
        try:
            waiter = self.guard.probe(call)
            while waiter is not None:
                waiter.block(self.guard.clock)  # type: ignore[attr-defined]  # a thread's: the call is not asynchronous
                waiter = self.guard.probe(call)
        except Refused:
            return False
        finally:
            self.guard.abandon(call)
        return True

    def status(self) -> dict[str, Any]:
        """Return what this process knows and holds, for people and health checks. Amounts are nano-USD."""
        background = self._background
        return {
            "version": VERSION,
            "url": self._url,
            "incarnation": background.incarnation,
            "connected": background.contact.reached,
            "last_error": background.contact.last_error,
            "closed": self._closed,
            "governed": background.poller.config is not None,
            "config": describe_config(background.poller.config),
            "refused_config": background.poller.said()["refused"],
            "dropped_spans": self.tracer.dropped,
            "sampled_out_spans": self.tracer.sampler.left_out if self.tracer.sampler is not None else 0,
            "state": self.state.describe(),
            **describe(self.guard),
        }

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Let no more calls through, settle, return leases and flush, within about ``timeout_s``. Closing twice is fine.

        Calls in flight get a third of the time to end; what is left then is presumed to have cost all it may.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.guard.stop()
        until = time.monotonic() + timeout_s
        while self.guard.in_flight and time.monotonic() < until - timeout_s * 2 / 3:
            time.sleep(0.005)
        self.guard.presume()
        self._background.finish(max(0.2, until - time.monotonic()))

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self.guard.reborn()
        self.guard.closed = self._closed
        self.tracer = Tracer(enabled=self.tracer.enabled, sampler=sampler_of(self._sampling))
        self._background.forked(self.tracer)
        self.state.renew()
        self._listens = False


def _close_all() -> None:
    for gate in list(_gates):
        gate.close()


def _after_fork() -> None:
    """A child holds nothing: its parent goes on with the leases, calls and connections."""
    abandon_sockets()
    for gate in list(_gates):
        gate._forked()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
