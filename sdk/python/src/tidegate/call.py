"""One guarded call, as the caller holds it: ``with`` and ``async with`` on the same object."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tidegate.amending import take
from tidegate.around import current_call, here
from tidegate.core.catalog import Context
from tidegate.core.policy import route_fault
from tidegate.core.queue import MAX_PRIORITY
from tidegate.core.usage import beyond_plain, cached_tokens, checked
from tidegate.core.usage import input_tokens as input_tokens_of
from tidegate.core.usage import output_tokens as output_tokens_of
from tidegate.describing import MAX_TOKENS, CallOptions, Usd, count_of, nusd_of, text_of
from tidegate.errors import Refused
from tidegate.reserving import grow, hold_of
from tidegate.telling import attempt_of, explained, span_of
from tidegate.ticket import SLOTS, Ticket, Usage
from tidegate.trace import RANDOM_ID, SAMPLED, Event, Span, Traceparent, carried
from tidegate.waiting import LoopWaiter, ThreadWaiter, Waiter
from tidegate.wire import clean

if TYPE_CHECKING:
    from tidegate.guard import Guard
    from tidegate.trace import Tracer

_log = logging.getLogger("tidegate")
SHADOW_BEHIND = 5  # levels of priority
_SAID = (
    "tenant", "user", "session", "category", "model", "target", "credential", "input_tokens", "max_output_tokens", "declared_nusd",
    "priority",
)  # fmt: skip

CALL_SLOTS = (
    *SLOTS, "_asynchronous", "_before", "_begun_ns", "_guard", "_patience", "_spans", "_tracer", "_waited_ns", "parent_id",
    "span_id", "trace_flags", "trace_id", "tracestate",
)  # fmt: skip


class Call(Ticket):
    """A call on a route. Enter it once; ``Refused`` is raised on entry when a gate does not let it through."""

    if not TYPE_CHECKING:
        __slots__ = ()

    def __init__(self, guard: Guard, tracer: Tracer, route: str, options: CallOptions) -> None:
        super().__init__()
        self._guard = guard
        self._tracer = tracer
        self._asynchronous = False
        self._before: Call | None = None
        self._patience: asyncio.Timeout | None = None
        self._spans: list[Span] = []
        self._begun_ns = self._waited_ns = 0
        self.trace_id = self.span_id = self.parent_id = self.trace_flags = 0
        self.tracestate = ""  # of its trace, to send along beside ``traceparent``
        self._describe(route, **options)

    def _describe(
        self,
        route: str,
        *,
        tenant: str | None = None,
        user: str | None = None,
        session: str | None = None,
        category: str | None = None,
        model: str | None = None,
        target: str | None = None,
        credential: str | None = None,
        input_tokens: int | None = None,
        max_output_tokens: int | None = None,
        cost_usd: Usd | None = None,
        priority: int = 0,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> None:
        fault = route_fault(route)
        if fault is not None:
            raise ValueError(f"{fault}, got {route!r}.")
        if tenant is not None and (
            not isinstance(tenant, str) or not 1 <= len(tenant) <= 64 or clean(tenant, 64) != tenant
        ):
            raise ValueError(f"A tenant's name has 1 to 64 characters, got {tenant!r}.")
        self.route = route
        self.tenant = tenant
        self.user, self.session, self.model = (
            text_of(user, "user"),
            text_of(session, "session"),
            text_of(model, "model"),
        )
        self.category = text_of(category, "category", 64)
        self.target, self.credential = text_of(target, "target", 64), text_of(credential, "credential", 64)
        self.input_tokens = count_of(input_tokens, "input_tokens")
        self.max_output_tokens = count_of(max_output_tokens, "max_output_tokens")
        self.declared_nusd = None if cost_usd is None else nusd_of(cost_usd)
        if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MAX_PRIORITY:
            raise ValueError(f"A priority is a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}, got {priority!r}.")
        self.priority = priority
        self._join_trace(traceparent, tracestate)

    # What the body may ask and say

    @property
    def timeout_s(self) -> float | None:
        """Seconds that are left until ``deadline`` (never negative), ``None`` when the policy sets no timeout."""
        return None if self.deadline is None else max(0.0, self.deadline - self._guard.clock.now())

    @property
    def traceparent(self) -> str:
        """The W3C ``traceparent`` to send along, so that what the provider does is a child of this call."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.trace_flags:02x}"

    @property
    def release(self) -> str | None:
        """The version of the release that this call gets, ``None`` on a route without a deployment."""
        return self.assignment.version if self.assignment is not None else None

    @property
    def config(self) -> Any:
        """The configuration of that release; an empty object without one. It belongs to all calls: do not change it."""
        return self.assignment.config if self.assignment is not None else {}

    def shadow(self) -> Call | None:
        """Return a call for a copy of this one with the config of a release in the shadow; ``None`` where none is wanted.

        Send it like any other, in your own time (it is a call like this one: it costs money, and budgets and limits hold), and
        throw the answer away. ``rate``, ``record`` and how it ends are what the release is judged by. It goes behind others. Ask for
        it before this call ends: copies of calls that went well alone would make any release look good.
        """
        copied = self.assignment.shadow if self.assignment is not None else None
        if copied is None:
            return None
        copy = OwnCall(self._guard, self._tracer, self.route, {})
        for name in _SAID:
            setattr(copy, name, getattr(self, name))
        copy.priority = max(-MAX_PRIORITY, self.priority - SHADOW_BEHIND)
        copy.assignment, copy.counted_as = copied, self.counted_as
        return copy

    def rate(self, score: float) -> None:
        """Say how good the answer is, from 0 (useless) to 1; the release that gave it is judged by it, too."""
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            _log.warning("tidegate: call.rate was ignored: a score is a number from 0 to 1, got %r", score)
            return
        self.score = float(score)

    def record(  # say it by keyword, as everything
        self,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_input_tokens: int = 0,
        cost_usd: Usd | None = None,
        model: str | None = None,
    ) -> None:
        """Say what the call used; the last word counts. ``input_tokens`` include the cached ones.

        Without ``cost_usd`` the cost is that of the price book, for ``model`` when it is not the one that was asked for. What can't
        be true is logged and ignored: nothing is raised into a call that went well.
        """
        try:
            fresh, out = count_of(input_tokens, "input_tokens"), count_of(output_tokens, "output_tokens")
            cached = count_of(cached_input_tokens, "cached_input_tokens") or 0
            known = fresh if fresh is not None else max(self.input_tokens or 0, cached)
            if cached > known:
                raise ValueError(f"cached input is part of input: got input {known}, cached input {cached}.")
            cost = None if cost_usd is None else nusd_of(cost_usd)
        except ValueError as error:
            _log.warning("tidegate: call.record was ignored: %s", error)
            return
        self.use(Usage(known, out, cached, cost, model), None)

    def record_usage(
        self,
        usage: Mapping[str, int],
        *,
        model: str | None = None,
        provider: str | None = None,
        context: Context = (),
    ) -> None:
        """Say what the call used by disjoint classes (``tidegate.core.usage``), as ``read_usage`` finds them in a provider's reply.

        Priced by the book for ``model``, at ``provider`` when that is said, in ``context`` (``(("service_tier", "flex"),)``). What
        can't be true is logged and ignored.
        """
        try:
            known = checked(usage)
            fresh, out, cached = input_tokens_of(known), output_tokens_of(known), cached_tokens(known)
            for count in (fresh, out):
                count_of(count, "usage")
        except ValueError as error:
            _log.warning("tidegate: call.record_usage was ignored: %s", error)
            return
        if self._guard.put_off(self.record_usage, known, model=model, provider=provider, context=context):
            return
        cost = self._guard.price(self, known, model or self.model, provider, context)
        self.use(Usage(fresh, out, cached, cost, model), beyond_plain(known))

    def use(self, usage: Usage, beyond: dict[str, int] | None) -> None:
        """Take what was said as what the attempt used; once it is over, what it was charged is amended."""
        if self._guard.put_off(self.use, usage, beyond):
            return
        if not take(self._guard, self, usage, beyond):
            _log.warning("tidegate: usage of a call on %s came too late and was ignored", self.route)

    def progress(self, *, output_tokens: int | None = None) -> None:
        """Say that something of the answer has arrived, a token or a chunk: the first time is what adaptive queues go by; and how
        many tokens have come so far, while the call streams: its hold on budgets grows with them.

        Raises ``BudgetExhausted`` when nothing is left and a budget cuts such calls: stop reading then. Without ``record`` a call of
        which ``input_tokens`` are known is charged what it said here, however it ends. What can't be true is ignored.
        """
        if self.first_at is None:
            self.first_at = self._guard.clock.now()
        if self.stage != "running" or isinstance(output_tokens, bool) or not isinstance(output_tokens, int):
            return
        before = self.seen or 0
        if not before <= output_tokens <= MAX_TOKENS:
            return
        self.seen = output_tokens
        self.stride = max(self.stride, output_tokens - before)
        if self.reach is None:
            self.reach = hold_of(self._guard.book, self)
        if output_tokens + self.stride > self.reach.asks:
            grow(self._guard, self, output_tokens, self.stride)

    def no_retry(self) -> None:
        """Say that this attempt must not be repeated, whatever comes of it."""
        self.final = True

    # Waiting and letting through

    def wait(self, until: float) -> Waiter:
        return LoopWaiter(until) if self._asynchronous else ThreadWaiter(until)

    def admit(self) -> None:
        """Wait in this thread until the attempt is let through; raises ``Refused``."""
        self._begin(asynchronous=False)
        try:
            waiter = self._guard.advance(self)
            while waiter is not None:
                waiter.block(self._guard.clock)  # type: ignore[attr-defined]  # a thread's, see wait
                waiter = self._guard.advance(self)
        except BaseException as error:
            self._not_let_through(error)
            raise

    async def admit_async(self) -> None:
        """Wait in this task until the attempt is let through; raises ``Refused``. Cancellation gives everything back."""
        self._begin(asynchronous=True)
        try:
            waiter = self._guard.advance(self)
            while waiter is not None:
                await waiter.wait(self._guard.clock)  # type: ignore[attr-defined]  # a loop's, see wait
                waiter = self._guard.advance(self)
        except BaseException as error:
            self._not_let_through(error)
            raise

    def _begin(self, *, asynchronous: bool) -> None:
        if self.stage != "new":
            raise RuntimeError("A call is entered once; make another one with gate.call(…).")
        self._asynchronous = asynchronous
        self._waited_ns = time.time_ns()
        if not self._begun_ns:
            self._begun_ns = self._waited_ns

    def _not_let_through(self, error: BaseException) -> None:
        if isinstance(error, Refused):
            if not self.attempts:
                self.trace_end(error)
        else:
            self._guard.abandon(self)

    def settle(self, error: BaseException | None, *, last: bool) -> None:
        """End the attempt that was let through; with ``last``, the call."""
        if self._guard.put_off(self.settle, error, last=last):
            return
        self._guard.settle(self, error, last=last)
        if self._tracer.enabled and (not last or self._spans):
            self._spans.append(attempt_of(self, error))
        if last:
            self.trace_end(error)

    def __enter__(self) -> Self:
        self.admit()
        self.become_current()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave_current()
        self.settle(error, last=True)

    async def __aenter__(self) -> Self:
        await self.admit_async()
        await self.start_clock()
        self.become_current()
        return self

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Awaitable[None]:
        return self._left(error)

    async def _left(self, error: BaseException | None) -> None:
        self.leave_current()
        late = await self.stop_clock(error)
        self.settle(late or error, last=True)
        if late is not None:
            raise late from error

    async def start_clock(self) -> None:
        """From here on the task is cancelled when the call's deadline passes."""
        if self.deadline is not None:
            left = self._guard.clock.patience(self.deadline)
            self._patience = asyncio.timeout(left)
            await self._patience.__aenter__()

    async def stop_clock(self, error: BaseException | None) -> TimeoutError | None:
        """Return the error to raise when it was the deadline that ended the attempt."""
        patience, self._patience = self._patience, None
        if patience is None:
            return None
        try:
            await patience.__aexit__(type(error) if error is not None else None, error, None)
        except TimeoutError as late:
            return explained(late, self.route, self.policy)
        return None

    def twin(self) -> Call:
        """Return a call that makes a second attempt beside this one's, in its name."""
        twin = OwnCall(self._guard, self._tracer, self.route, {})
        for name in _SAID:
            setattr(twin, name, getattr(self, name))
        twin.trace_id, twin.span_id, twin.parent_id = self.trace_id, self.span_id, self.parent_id
        twin.trace_flags, twin.tracestate = self.trace_flags, self.tracestate
        self._guard.hedging(self, twin)
        return twin

    def absorb(self, twin: Call, *, won: bool) -> None:
        """Take over what a twin has used, and its spans."""
        if self._guard.put_off(self.absorb, twin, won=won):
            return
        self._guard.absorb(self, twin, won=won)
        self._spans += twin._spans

    def end(self, error: BaseException | None = None) -> None:
        """End the call after its last attempt was settled."""
        if self._guard.put_off(self.end, error):
            return
        self._guard.end(self, error)
        self.trace_end(error)

    # Traces

    def become_current(self) -> None:
        self._before = current_call.get()
        current_call.set(self)

    def leave_current(self) -> None:
        if current_call.get() is self:
            current_call.set(self._before)
        self._before = None

    def _join_trace(self, traceparent: str | None, tracestate: str | None) -> None:
        if not self._tracer.enabled:
            return
        given = carried(traceparent, tracestate)
        if given is None:
            given = here()
        if given is None:
            given = Traceparent(self._tracer.new_trace_id(), 0, SAMPLED | RANDOM_ID)
        self.trace_id, self.parent_id, self.trace_flags, self.tracestate = given
        self.span_id = self._tracer.new_span_id()

    def begun_before(self, took: float) -> None:
        """Have the call's span begin ``took`` seconds ago."""
        self._begun_ns = time.time_ns() - int(took * 1e9)

    def trace_end(self, error: BaseException | None, events: tuple[Event, ...] = ()) -> None:
        """Hand the call's span, and those of its attempts, to the tracer."""
        if not self._tracer.enabled:
            return
        spans, self._spans = self._spans, []
        self._tracer.ended((*spans, span_of(self, error, events)))


class OwnCall(Call):
    """A call that asks the guard for itself; the other kind is ``tidegate.swift.SwiftCall``."""

    if not TYPE_CHECKING:
        __slots__ = CALL_SLOTS
