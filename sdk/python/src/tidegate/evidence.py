"""What the end of an attempt says of others: of whom it called, to breakers; of how many may run at once, to queues that adapt."""

from __future__ import annotations

from tidegate.core.adaptive import Signal
from tidegate.core.outcome import Failure, described
from tidegate.lanes import Lane
from tidegate.ticket import Ticket


def tell_breaker(ticket: Ticket, now: float, error: BaseException | None, failure: Failure | None) -> None:
    """Tell the breaker that let the attempt through how it fared."""
    circuit, leave = ticket.circuit, ticket.leave
    ticket.circuit = ticket.leave = None
    if circuit is None or leave is None:
        return
    took_ms = (now - ticket.since) * 1000
    if error is None:
        circuit.finish(leave, now=now, took_ms=took_ms)
    elif failure is None:  # cancelled, or refused further in
        circuit.finish(leave, now=now, took_ms=took_ms, fault="caller")
    else:
        why, after_s = described(error, failure), failure.retry_after_s
        circuit.finish(leave, now=now, took_ms=took_ms, fault=failure.fault, why=why, retry_after_s=after_s)


def tell_adaptive(ticket: Ticket, lane: Lane, error: BaseException | None, failure: Failure | None, now: float) -> None:
    """Tell the lane's limit how the call fared: by its first token, its tokens, or as a whole."""
    adaptive, rule = lane.adaptive, lane.policy.queue
    if adaptive is None or rule is None:
        return
    if failure is not None and failure.fault in ("provider", "throttled"):
        adaptive.dropped(started=ticket.since, now=now)
        return
    if error is not None:
        return
    running = lane.line.running
    if rule.adaptive == "aimd":
        adaptive.aimd(running=running)
        return
    signal: Signal = "whole"
    seconds = now - ticket.since
    tokens = ticket.usage.output_tokens if ticket.usage is not None else None
    if ticket.first_at is not None:
        signal, seconds = "first", ticket.first_at - ticket.since
    elif tokens:
        signal, seconds = "token", seconds / tokens
    adaptive.gradient(signal, seconds, running=running, started=ticket.since, now=now)
