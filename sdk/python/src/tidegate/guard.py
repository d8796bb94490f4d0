"""Lets calls through or refuses them, in a few microseconds.

The order of gates: breaker, limits, queue, budgets. A gate that refuses gives back what the earlier ones took.
"""

from __future__ import annotations

import math

from tidegate import early
from tidegate.cells import Lasting
from tidegate.core.backoff import earned
from tidegate.core.breaker import Breaker
from tidegate.core.circuit import Circuit
from tidegate.core.policy import QueueRule
from tidegate.core.snapshot import BudgetRef
from tidegate.core.usage import plain_classes
from tidegate.errors import (
    BreakerOpen,
    BudgetExhausted,
    Closed,
    QueueFull,
    QueueTimeout,
    RateLimited,
    Refused,
    Stale,
    Unpriced,
)
from tidegate.lanes import Lane
from tidegate.leasing import Path, Slip, denied, waits_longer
from tidegate.lending import Lending
from tidegate.report import RowKey
from tidegate.reserving import costs_nothing, lenient
from tidegate.ticket import Ticket
from tidegate.waiting import Waiter

FUNDING_WAIT_S = 1.0  # for an answer: calls to providers take seconds, and who waited is not refused what there was


class Guard(Lending):
    """Every decision on a call that asks to be let through."""

    def advance(self, ticket: Ticket) -> Waiter | None:
        """Take ``ticket`` as far as it gets: ``None`` when it was let through, else what it has to wait for before it is
        advanced again. Raises ``Refused``."""
        self.catch_up()
        now = self.clock.now()
        with self.lock:
            if ticket.stage == "new":
                self._arrive(ticket, now)
                self._pass_breaker(ticket, now)
                self._pass_limits(ticket, now)
                return self._pass_queue(ticket, now)
            self.waiting.discard(ticket)
            if ticket.epoch != self.epoch or self.closed:
                raise self._refuse(ticket, now, Closed("The gate was closed while the call waited."))
            if ticket.stage == "queued":
                return self._wait_in_line(ticket, now)
            return self._pass_budgets(ticket, now)

    def probe(self, ticket: Ticket) -> Waiter | None:
        """Ask whether the budgets of a call that has not arrived have room: ``None`` when they have, and then nothing is held.

        Else what to wait for before asking again. Raises ``Refused``; nothing of it counts as a call.
        """
        now = self.clock.now()
        with self.lock:
            self.waiting.discard(ticket)
            if ticket.lane is None:
                ticket.lane, ticket.epoch = self.lane(self.tenant_of(ticket), ticket.route), self.epoch
                ticket.policy = ticket.lane.follow(self.snapshot)
            waiter = self._pass_budgets(ticket, now)
            if waiter is None:
                self.running.discard(ticket)
                ticket.stage = "over"
                if ticket.slip is not None:
                    self.leases.settle(ticket.slip, bound=ticket.bound, cost=0)
            return waiter

    def tenant_of(self, ticket: Ticket) -> str | None:
        if ticket.tenant is None and self.snapshot is not None:
            return self.snapshot.scope
        return ticket.tenant

    def _arrive(self, ticket: Ticket, now: float) -> None:
        snapshot = self.snapshot
        tenant = self.tenant_of(ticket)
        lane = self.lane(tenant, ticket.route)
        lane.used_at = now
        ticket.epoch = self.epoch
        ticket.lane = lane
        ticket.policy = policy = lane.follow(snapshot)
        if ticket.arrived is None:
            ticket.arrived = now
            ticket.ungoverned = snapshot is None
            ticket.key = RowKey(tenant or "", ticket.route, ticket.model, ticket.category)
            if snapshot is not None and snapshot.deployments:
                self.releases.assign(ticket, snapshot, tenant)
            if policy.timeout_ms is not None:
                ticket.deadline = now + policy.timeout_ms / 1000
            if ticket.session:
                self.report.touch_session(tenant or "", ticket.route, ticket.session, now)
            if policy.queue is not None:
                self.row(ticket.key).queue_depth.add(lane.line.waiting)
            if policy.retry is not None:
                lane.retries = earned(lane.retries, policy.retry.budget_ratio)
        if self.closed:
            raise self._refuse(ticket, now, Closed("The gate was closed; no more calls are let through."))
        if snapshot is None and self.without_policy == "refuse":
            raise self._refuse(ticket, now, Stale("No policy is known yet, and calls without one are refused."))

    def charge(self, ticket: Ticket, now: float) -> None:
        early.charge(self, ticket, now)

    def _pass_breaker(self, ticket: Ticket, now: float) -> None:
        """Refuse at once what would be refused; the permit is taken when the call goes out, so that nobody waits with a probe's."""
        policy = ticket.policy
        rule = policy.breaker
        if rule is None or policy.enforcement == "off":
            return
        key = (ticket.target or ticket.route, ticket.model)
        circuit = self.breakers.get(key)
        if circuit is None:
            circuit = self.breakers[key] = Circuit(rule, now=now, resets=policy.breaker_resets)
        elif circuit.rule is not rule:
            circuit.follow(rule)
        if policy.breaker_resets > circuit.provider.resets:
            circuit.reset(now=now, resets=policy.breaker_resets)
        ticket.circuit = circuit
        if rule.mode == "metrics_only" and circuit.provider.cause:
            self._watch(ticket, BreakerOpen.reason)
        if self.active and rule.slow_call_ms is not None:
            self.mind_hanging(circuit, now)
        closed = circuit.refusing(ticket.payer, now)
        if closed is not None:
            ticket.circuit = None  # what only watches asks no further
            refusal, until = self._shut(ticket, circuit, closed, now), now
            if closed.phase == "open" or rule.mode == "forced_open":
                until = math.inf if refusal.retry_after_s is None else now + refusal.retry_after_s
            self._object(ticket, now, refusal, Lasting(until, breaker=closed))

    def _take_permit(self, ticket: Ticket, now: float) -> None:
        circuit = ticket.circuit
        if circuit is None or ticket.leave is not None:
            return
        leave = circuit.ask(ticket.payer, now)
        if isinstance(leave, Breaker):
            ticket.circuit = None
            self._object(ticket, now, self._shut(ticket, circuit, leave, now))
        else:
            ticket.leave = leave

    def _shut(self, ticket: Ticket, circuit: Circuit, closed: Breaker, now: float) -> BreakerOpen:
        rule = circuit.rule
        name = f"{ticket.target or ticket.route} {ticket.model}".rstrip()
        if closed is not circuit.provider:
            name = f"{name} of {ticket.payer}".rstrip()
        cause = "an operator forced it open" if rule.mode == "forced_open" else closed.cause
        text = f"The breaker of {name} is open: {cause}."
        return BreakerOpen(text, blocked_by=name, retry_after_s=closed.retry_after_s(rule, now))

    def _pass_limits(self, ticket: Ticket, now: float) -> None:
        policy, lane = ticket.policy, ticket.lane
        if not policy.limits or policy.enforcement == "off" or lane is None:
            return
        self.mind_shares(lane, now)
        for number, limit in enumerate(policy.limits):
            amount = 1.0
            if limit.scope == "fleet" and limit.unit not in lane.shares and limit.unit not in lane.unmet:
                self._poke()  # the sooner it is said, the sooner there is a share
            if limit.unit == "tokens":
                amount = float((ticket.input_tokens or 0) + (ticket.max_output_tokens or 0))
            wait = lane.take(number, limit, amount, now)
            if wait and lane.cells:
                self.call_back(lane.cells)
                wait = lane.take(number, limit, amount, now, again=True)
            if wait:
                name = f"{ticket.key.tenant}/{ticket.route} {limit.unit}"
                text = f"{name}: the limit of {limit.amount} per {limit.per_s:g} s has no room."
                after = wait if wait < float("inf") else None
                refusal = RateLimited(text, blocked_by=name, retry_after_s=after)
                lasting = Lasting(now + wait, lane, amount=amount) if limit.unit == "requests" else None
                self._object(ticket, now, refusal, lasting, only_watch=limit.enforcement == "shadow")
            else:
                ticket.taken.append(((number, limit.unit, limit.per_s), amount))

    def _pass_queue(self, ticket: Ticket, now: float) -> Waiter | None:
        policy, lane = ticket.policy, ticket.lane
        assert lane is not None  # noqa: S101  _arrive has set it
        rule = policy.queue
        if rule is None:
            ticket.entry = lane.line.push_in(ticket, now=now)
            return self._pass_budgets(ticket, now)
        self.mind_shares(lane, now)
        slots = lane.slots(rule)
        if rule.scope == "fleet" and "calls" not in lane.shares and not lane.line.peak:
            self._poke()
        if lane.cells and lane.line.running >= slots:
            self.call_back(lane.cells)
            if lane.line.running >= slots:
                self.alarm(lane)
        if policy.enforcement == "enforce":
            return self._stand_in_line(ticket, lane, rule, slots, now)
        ticket.entry = lane.line.push_in(ticket, now=now)
        if lane.line.running > slots + rule.max_waiting:
            self._object(ticket, now, QueueFull(""))
        return self._pass_budgets(ticket, now)

    def _stand_in_line(self, ticket: Ticket, lane: Lane, rule: QueueRule, slots: int, now: float) -> Waiter | None:
        line, name = lane.line, f"{ticket.key.tenant}/{ticket.route} queue"
        patience_s = line.patience_s(rule, now)
        if ticket.deadline is not None:
            patience_s = min(patience_s, max(0.0, ticket.deadline - now))
        if line.hopeless(rule, slots=slots, priority=ticket.priority, patience_s=patience_s):
            after = line.estimate_s(rule, slots=slots, priority=ticket.priority)
            text = f"{name}: a slot would come free in about {after or 0.0:.1f} s, the call may wait for {patience_s:.1f} s."
            raise self._refuse(ticket, now, QueueTimeout(text, blocked_by=name, retry_after_s=after))
        ticket.entry = line.enter(rule, ticket, now=now, priority=ticket.priority, slots=slots)
        if ticket.entry is None:
            text = f"{name}: {rule.max_waiting} calls are waiting already."
            after = line.estimate_s(rule, slots=slots)
            raise self._refuse(ticket, now, QueueFull(text, blocked_by=name, retry_after_s=after))
        if ticket.entry.state == "running":
            return self._pass_budgets(ticket, now)
        ticket.stage = "queued"
        ticket.wait_until = now + patience_s
        return self._wait_in_line(ticket, now)

    def _wait_in_line(self, ticket: Ticket, now: float) -> Waiter | None:
        if ticket.entry is None or ticket.entry.state == "running":
            return self._pass_budgets(ticket, now)
        if now >= ticket.wait_until:
            name = f"{ticket.key.tenant}/{ticket.route} queue"
            rule, lane = ticket.policy.queue, ticket.lane
            after = lane.line.estimate_s(rule) if lane is not None and rule is not None else None
            text = f"{name}: no slot came free in {now - ticket.entry.at:.1f} s."
            raise self._refuse(ticket, now, QueueTimeout(text, blocked_by=name, retry_after_s=after))
        return self._wait(ticket, ticket.wait_until)

    def _wait(self, ticket: Ticket, until: float) -> Waiter:
        ticket.waiter = ticket.wait(until)
        self.waiting.add(ticket)
        return ticket.waiter

    def _pass_budgets(self, ticket: Ticket, now: float) -> Waiter | None:
        if ticket.path is not None:
            ticket.path.waiting.pop(ticket, None)
        self._take_permit(ticket, now)
        refs = self.budgets_of(ticket)
        if ticket.stage != "funding":
            if ticket.model and self.book.unknown.policy == "refuse":
                self._pass_prices(ticket, now)
            ticket.estimate = self.estimate(ticket, now, learn=bool(refs), lenient=lenient(refs))
            ticket.bound = max(1, ticket.estimate)
        if not refs:
            self._let_through(ticket, now)
            return None
        path = ticket.path = self.leases.path(refs)
        enforcement = ticket.policy.enforcement
        boot = self.clock.boot()
        ticket.slip = self.leases.hold(path, ticket.bound, now=now, boot=boot, force=enforcement == "off")
        if ticket.slip is None and self.active and self.call_in(path):
            ticket.slip = self.leases.hold(path, ticket.bound, now=now, boot=boot)
        if ticket.slip is None:
            ticket.slip = self._overdraw(ticket, path, now=now, boot=boot)
        if ticket.slip is not None:
            if not path.slip.live(boot):
                self._poke()
            if path.warned_by is not None and enforcement != "off":
                self._watch(ticket, BudgetExhausted.reason)
            self._let_through(ticket, now)
            return None
        return self._wait_for_funding(ticket, path, now)

    def _overdraw(self, ticket: Ticket, path: Path, *, now: float, boot: float) -> Slip | None:
        """Hold what the lease has no room for, where budgets or the policy only watch, and for a call that costs nothing."""
        if costs_nothing(self.book, ticket):
            ticket.bound = 0
        elif not path.only_warns:
            if ticket.policy.enforcement != "shadow":
                return None
            if path.denial is not None:
                self._object(ticket, now, BudgetExhausted(""))
        return self.leases.hold(path, ticket.bound, now=now, boot=boot, force=True)

    def _wait_for_funding(self, ticket: Ticket, path: Path, now: float) -> Waiter:
        if ticket.stage != "funding":
            ticket.stage = "funding"
            ticket.asked_at = now
            queue = ticket.policy.queue
            ticket.wait_until = now + max(FUNDING_WAIT_S, queue.max_wait_ms / 1000 if queue is not None else 0.0)
            if ticket.deadline is not None:
                ticket.wait_until = min(ticket.wait_until, ticket.deadline)
        refusal = self._unfunded(ticket, path, now)
        if refusal is not None:
            denial = path.denial
            if ticket.arrived is None or not isinstance(refusal, BudgetExhausted):
                raise self._refuse(ticket, now, refusal)
            self.leases.deny(path, ticket.bound)
            refused = self._refuse(ticket, now, refusal)
            if denial is not None and ticket.fixed:
                self.remember(ticket, refused, now, Lasting(denial.at + self.link.interval_s, path, path=path))
            raise refused
        path.waiting[ticket] = ticket.bound
        later = path.asks_again_at(now)
        if later is None:
            self._poke()
        return self._wait(ticket, min(ticket.wait_until, later or ticket.wait_until))

    def _unfunded(self, ticket: Ticket, path: Path, now: float) -> Refused | None:
        """Return why waiting for funding is of no use (any more), or ``None`` while it is."""
        denial = path.denial
        if denial is not None and ticket.bound >= denial.asked and denial.holds(ticket, now, self.link.interval_s):
            return denied(denial, path, now)
        name = path.refs[0].name
        if self.link.failed_at >= ticket.asked_at or self.link.next_try_at > now:
            after = max(0.0, self.link.next_try_at - now)
            text = f"{name}: the control plane can't be reached to fund the call."
            return Stale(text, blocked_by=name, retry_after_s=after)
        live, heard = path.slip.live(self.clock.boot()), path.heard_at >= ticket.asked_at
        if now < ticket.wait_until or (live and not heard and waits_longer(ticket, now)):
            return None
        if live and heard:
            return BudgetExhausted(
                f"{name} has no room for this call.", blocked_by=name, retry_after_s=self.link.interval_s
            )
        text = f"{name}: the control plane did not answer in time to fund the call."
        return Stale(text, blocked_by=name, retry_after_s=self.link.interval_s)

    def _let_through(self, ticket: Ticket, now: float) -> None:
        ticket.stage = "running"
        ticket.attempts += 1
        ticket.since = now
        if ticket.started is None:
            ticket.started = now
        if ticket.leave is not None and ticket.circuit is not None:
            ticket.circuit.provider.started(ticket.leave.permit, now)
        self.running.add(ticket)
        if ticket.arrived is not None:
            self.lend(ticket, now)

    def budgets_of(self, ticket: Ticket) -> tuple[BudgetRef, ...]:
        """Return the budgets on the call's path, leaf first."""
        if self.snapshot is None or ticket.lane is None:
            return ()
        return self.snapshot.budgets_for(
            ticket.lane.tenant,
            route=ticket.route,
            category=ticket.category,
            model=ticket.model,
            user=ticket.user,
            session=ticket.session,
        )

    def estimate(self, ticket: Ticket, now: float, *, learn: bool, lenient: bool = False) -> int:
        """Return what the call may cost at most, in nano-USD, as far as anybody can know; 0: nobody knows anything.

        What the caller declared; else the price of its input and all the output it may make. When that is not known and a
        budget depends on it (``learn``), the most that a call on this route did cost lately. Where budgets are not strict
        (``lenient``), output is what such calls used to need.
        """
        if ticket.declared_nusd is not None:
            return ticket.declared_nusd
        most = ticket.max_output_tokens
        if lenient:
            most = self.outputs.bound(ticket.key, most)
        known = None
        if ticket.model and ticket.input_tokens is not None:
            out = most or 0
            known = self.book.cost_nusd(ticket.model, input_tokens=ticket.input_tokens, output_tokens=out)
            if known is None:
                known = self.book.unknown.cost_nusd(ticket.model, plain_classes(ticket.input_tokens, 0, out))
        whole = known is not None and most is not None
        learned = ticket.lane.learned(now) if learn and not whole and ticket.lane is not None else 0
        return max(learned, known or 0)

    def _pass_prices(self, ticket: Ticket, now: float) -> None:
        """Refuse a call of a model without a price, as the book says; what declares its cost passes."""
        if ticket.declared_nusd is None and ticket.model not in self.book:
            text = f"{ticket.model} has no price, and calls of such models are refused."
            self._object(ticket, now, Unpriced(text, blocked_by=ticket.model))

    def _object(
        self, ticket: Ticket, now: float, refusal: Refused, lasting: Lasting | None = None, *, only_watch: bool = False
    ) -> None:
        """Refuse, or only count it where the policy, or this part of it, watches."""
        if ticket.policy.enforcement == "enforce" and not only_watch:
            refused = self._refuse(ticket, now, refusal)
            if lasting is not None:
                self.remember(ticket, refused, now, lasting)
            raise refused
        if ticket.policy.enforcement != "off":
            self._watch(ticket, refusal.reason)

    def _watch(self, ticket: Ticket, reason: str) -> None:
        """Count that the call would have been refused, once for each reason."""
        if reason not in ticket.watched and not ticket.hedge:
            ticket.watched |= {reason}
            self.row(ticket.key).count(f"shadow.{reason}")
