"""What a call holds of its budgets while it runs: what its like used to need, and more as it turns out to need more.

A strict budget has every call hold the worst case. One that is not has it hold what 99 % of such calls stay below; the rest top up
their hold while they stream (``Call.progress``), and where nothing is left, are cut or finish on debt, as the budget says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tidegate.core import budget
from tidegate.core.outputs import Outputs
from tidegate.core.price import PriceBook
from tidegate.core.rates import Priced
from tidegate.core.snapshot import BudgetRef
from tidegate.errors import BudgetExhausted

if TYPE_CHECKING:
    from tidegate.guard import Guard
    from tidegate.report import RowKey
    from tidegate.ticket import Ticket

MAX_KINDS = 10_000
EVERYTHING = 2**62  # tokens that no call puts out
LEAST_AHEAD = 64
Kind = tuple[str, str, str]  # tenant, route, model


class Memory:
    """What calls put out lately, by tenant, route and model. Who holds the guard's lock may use it."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, Outputs] = {}

    def learn(self, key: RowKey, tokens: int) -> None:
        """Note that a call of this kind put out ``tokens``."""
        kind = (key.tenant, key.route, key.model)
        outputs = self._kinds.get(kind)
        if outputs is None:
            if len(self._kinds) >= MAX_KINDS:
                self._kinds.clear()
            outputs = self._kinds[kind] = Outputs()
        outputs.learn(tokens)

    def bound(self, key: RowKey, most: int | None) -> int | None:
        """Return how many tokens to hold for a call that may put out ``most``; ``most`` while too little is known."""
        outputs = self._kinds.get((key.tenant, key.route, key.model))
        typical = outputs.bound() if outputs is not None else None
        if typical is None:
            return most
        return typical if most is None else min(typical, most)


def lenient(refs: Sequence[BudgetRef]) -> bool:
    """Return whether every budget on a path lets calls hold less than the worst case."""
    return bool(refs) and not any(ref.strict for ref in refs)


def costs_nothing(book: PriceBook, ticket: Ticket) -> bool:
    """Return whether calls of a model are free, because the book says so: not because it does not know the model."""
    priced = book.priced(ticket.model) if ticket.model and ticket.declared_nusd is None else None
    return priced is not None and priced.free


class Hold(NamedTuple):
    """What a running call holds, in output tokens: up to ``covers`` it may go without asking, at ``asks`` it asks for more."""

    covers: int
    asks: int


def priced_for(book: PriceBook, model: str) -> Priced:
    """Return what calls of ``model`` are multiplied with; what the book says of unknown models when it has no price."""
    return book.priced(model) or book.unknown.priced(model)


def hold_of(book: PriceBook, ticket: Ticket) -> Hold:
    """Return how far the hold of ``ticket`` reaches."""
    if ticket.slip is None or ticket.declared_nusd is not None:
        return Hold(EVERYTHING, EVERYTHING)
    priced, fresh = priced_for(book, ticket.model), ticket.input_tokens or 0
    weights = priced.at(fresh)
    if not weights.output:
        return Hold(EVERYTHING, EVERYTHING)
    # cost = (fresh·i + out·o + plus) // unit ≤ bound as long as fresh·i + out·o + plus < (bound + 1)·unit
    covers = max(0, ((ticket.bound + 1) * weights.unit - 1 - fresh * weights.input - weights.plus) // weights.output)
    most = ticket.max_output_tokens
    return Hold(covers, covers if most is not None and covers >= most else covers - covers // 4)


def grow(guard: Guard, ticket: Ticket, tokens: int, stride: int) -> None:
    """Have ``ticket`` hold what ``tokens`` of output cost, those of the next step (``stride``) too, and some ahead if there is room.

    Raises ``BudgetExhausted`` when there is none and a budget on the path cuts calls; else it goes on without.
    """
    with guard.lock:
        slip, hold = ticket.slip, ticket.reach
        if slip is None or hold is None or ticket.epoch != guard.epoch or ticket.stage != "running":
            return
        need = tokens + stride
        ahead = max(need, tokens + max(tokens // 2, 8 * stride, LEAST_AHEAD))
        if ticket.max_output_tokens is not None:
            ahead = max(need, min(ahead, ticket.max_output_tokens))
        if _take(guard, ticket, ahead):
            return
        step = max(need, min(ahead, hold.covers + stride))
        slip.path.lack(_nusd(guard, ticket, step) - ticket.bound, _nusd(guard, ticket, ahead) - ticket.bound)
        guard.ask()
        if need <= hold.covers:
            ticket.reach = hold._replace(asks=min(hold.covers, tokens + max(1, (hold.covers - tokens) // 2)))
            return
        if _take(guard, ticket, need):
            return
        if _cuts(ticket):
            name = slip.path.refs[0].name
            text = f"{name} has no room for more of this call: it was cut after {tokens} tokens."
            raise BudgetExhausted(text, blocked_by=name)
        _take(guard, ticket, need, force=True)


def _cuts(ticket: Ticket) -> bool:
    path = ticket.path
    if path is None or ticket.policy.enforcement != "enforce":
        return False
    return any(ref.on_overrun == "cut" and ref.on_exhausted == "block" for ref in path.refs)


def _nusd(guard: Guard, ticket: Ticket, tokens: int) -> int:
    usage = {"input": ticket.input_tokens or 0, "output": tokens}
    return priced_for(guard.book, ticket.model).cost_nusd(usage)


def _take(guard: Guard, ticket: Ticket, tokens: int, *, force: bool = False) -> bool:
    """Hold what ``tokens`` of output cost; whether there was room."""
    slip = ticket.slip
    assert slip is not None  # noqa: S101  grow has looked
    more = _nusd(guard, ticket, tokens) - ticket.bound
    if more > 0:
        if force:
            lease = budget.hold_unfunded(slip.lease, more)
        else:
            funded = budget.hold(slip.lease, more) if slip.live(guard.clock.boot()) else None
            if funded is None:
                return False
            lease = funded
        slip.lease = lease
        guard.leases.keep(slip)
        slip.path.peak_held = max(slip.path.peak_held, lease.held)
        ticket.bound += more
    ticket.reach = hold_of(guard.book, ticket)
    return True
