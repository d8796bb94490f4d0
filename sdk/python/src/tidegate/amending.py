"""What a call turns out to have used once it is over: the last chunk of a stream that nobody waited for, a bill that comes later.

What it was charged when it ended is amended by counters that only grow: what it did cost more is settled, what it was charged
too much is corrected. Neither makes room on a lease: what was held for the call may be spent already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tidegate.cells import MAX_CALL_NUSD
from tidegate.report import Spent
from tidegate.reserving import lenient
from tidegate.ticket import Usage

if TYPE_CHECKING:
    from tidegate.guard import Guard
    from tidegate.ticket import Ticket

NOTHING = Usage(0, 0, 0, None, None)


class Said(NamedTuple):
    """What was known of a call's usage, and its classes that the counts don't tell apart."""

    usage: Usage | None
    beyond: dict[str, int] | None


def take(guard: Guard, ticket: Ticket, usage: Usage, beyond: dict[str, int] | None) -> bool:
    """Take ``usage`` as what the attempt used; whether that can still be said.

    A call that is over is charged for it, instead of what it was charged until now: to say the same again changes nothing.
    """
    with guard.lock:
        if ticket.stage != "over" or _waits_for_prices(guard, ticket):
            ticket.usage, ticket.beyond = usage, beyond
            return True
        if ticket.charged is None or ticket.epoch != guard.epoch:
            return False  # it was never let through, or an incarnation of before a fork knows it
        known = Said(ticket.usage, ticket.beyond)
        return known == (usage, beyond) or _amend(guard, ticket, known, Said(usage, beyond), ticket.charged)


def _waits_for_prices(guard: Guard, ticket: Ticket) -> bool:
    """Whether a call that is over will be booked when there is a first policy."""
    return ticket.charged is None and any(early[0] is ticket for early in guard.early)


def _amend(guard: Guard, ticket: Ticket, known: Said, said: Said, charged: int) -> bool:
    ticket.usage, ticket.beyond = said
    cost = min(MAX_CALL_NUSD, guard.cost_of(ticket, None, None))
    if not _charge(guard, ticket, cost - charged):
        ticket.usage, ticket.beyond = known
        return False
    ticket.charged = cost
    ticket.total_cost += cost - charged
    if known.usage is None:
        _teach(guard, ticket, cost)
    _count(guard, ticket, known, cost - charged)
    if ticket.amended is not None:
        ticket.amended()
    return True


def _charge(guard: Guard, ticket: Ticket, change: int) -> bool:
    """Charge the budgets ``change`` more, or less; whether that may still be said."""
    slip, leases = ticket.slip, guard.leases
    if slip is None or not change:
        return True
    if leases.slips.get(slip.number) is slip:
        if change > 0:
            leases.settle(slip, bound=0, cost=change)
        else:
            leases.correct(slip, -change)
        return True
    if change < 0 or guard.closed:
        return False
    leases.owe(slip.path, change, boot=guard.clock.boot())
    return True


def _teach(guard: Guard, ticket: Ticket, cost: int) -> None:
    """Remember what such calls need, as if it had been said in time."""
    lane, usage, now = ticket.lane, ticket.usage, guard.clock.now()
    if lane is not None:
        lane.learn(cost, now)
        guard.teach(lane, now)
    if usage is not None and ticket.path is not None and lenient(ticket.path.refs):
        guard.outputs.learn(ticket.key, usage.output_tokens or 0)


def _count(guard: Guard, ticket: Ticket, known: Said, change: int) -> None:
    """Enter into the window of now what was not counted before. Counts only grow: what was charged too much is counted apart."""
    fresh, cached, out = _grown(ticket, known)
    before, classes = known.beyond or {}, ticket.beyond or {}
    more = {name: count - before.get(name, 0) for name, count in classes.items() if count > before.get(name, 0)}
    if not (change or fresh or cached or out or more):
        return
    ticket.beyond = {**before, **{name: classes[name] for name in more}}
    row = guard.row(ticket.key)
    row.count("late")
    row.cost_nusd += max(0, change)
    if change < 0:
        row.count("late.corrected_nusd", -change)
    row.input_tokens += fresh
    row.cached_input_tokens += cached
    row.output_tokens += out
    row.use(more)
    ticket.total_input += fresh
    ticket.total_cached += cached
    ticket.total_output += out
    if ticket.user and (fresh or out or change > 0):
        spent = Spent(0, fresh + out, max(0, change))
        guard.report.window(guard.clock.wall_ms()).add_user(ticket.key.tenant, ticket.user, spent)


def _grown(ticket: Ticket, known: Said) -> tuple[int, int, int]:
    """Return by how much input, cached input and output exceed what was counted, and have them remembered as counted."""
    usage, before = ticket.usage or NOTHING, known.usage or NOTHING
    was = before.input_tokens, before.cached_input_tokens, before.output_tokens or 0
    now = usage.input_tokens, usage.cached_input_tokens, usage.output_tokens or 0
    fresh, cached, out = map(max, was, now)
    ticket.usage = usage._replace(input_tokens=fresh, cached_input_tokens=cached, output_tokens=out)
    return fresh - was[0], cached - was[1], out - was[2]
