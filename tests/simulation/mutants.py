"""The rules of the protocol, each with the same code in which the rule is broken. A proof that lets one of them live proves
nothing about its rule.

A mutant is an edit of the real source; only functions' code is exchanged, so every reference to them sees it.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

GRANTS = "controlplane.domain.grants"
LEASES = "controlplane.domain.leases"
LEDGER = "controlplane.domain.ledger"
CARRY = "controlplane.domain.carry"
PERIODS = "controlplane.domain.periods"
RETENTION = "controlplane.domain.retention"
TAKING_BACK = "controlplane.domain.taking_back"
BUDGET = "tidegate.core.budget"
LEASING = "tidegate.leasing"
LENDING = "tidegate.lending"
HARVEST = "tidegate.harvest"
BOOKS = "tidegate.books"
EXCHANGE = "tidegate.exchange"
REPORT = "tidegate.report"
RESERVING = "tidegate.reserving"
JOURNAL = "tidegate.journal"
REPLAYING = "tidegate.replaying"
AMENDING = "tidegate.amending"
KERNEL = "tests.simulation.kernel"
PROCESS = "tests.simulation.process"
SERVER = "tests.simulation.server"
STORE = "tests.simulation.store"


class Stale(LookupError):
    """The code that a mutant edits is not there any more, or more than once."""


class Mutant(NamedTuple):
    """``rule`` is what docs/protocol.md says; ``function`` of ``module`` breaks it once ``old`` is ``new`` in it.

    ``needs`` are the faults without which it can't show: worlds that have none of one of them are not tried.
    """

    name: str
    rule: str
    module: str
    function: str
    old: str
    new: str
    needs: tuple[str, ...] = ()


MUTANTS = (
    # What the server counts
    Mutant("settled_is_the_last_word", "both sides merge by maximum", GRANTS, "Counters.merge",
           "settled = max(self.settled, settled)", "settled = settled", ("repeat",)),
    Mutant("returned_is_the_last_word", "both sides merge by maximum", GRANTS, "Counters.merge",
           "max(self.returned, returned)", "returned", ("repeat",)),
    Mutant("corrected_is_the_last_word", "both sides merge by maximum", GRANTS, "Counters.merge",
           "max(self.corrected, corrected)", "corrected", ("repeat", "corrections")),
    Mutant("settled_adds_up", "a sync sent again changes nothing twice", GRANTS, "Counters.merge",
           "settled = max(self.settled, settled)", "settled = self.settled + settled"),
    Mutant("seq_goes_back", "only the newest report says what is held", LEASES, "merge_report",
           "report.seq >= lease.seq", "True", ("repeat",)),
    Mutant("denials_count_twice", "a sync sent again changes nothing twice", LEASES, "_count_denied",
           "report.denied - lease.denied", "report.denied"),
    Mutant("final_forgets_what_was_settled", "a final report counts like any other", LEASES, "merge_report",
           "counters.settled - stood.settled", "0 if report.final else counters.settled - stood.settled"),
    Mutant("final_does_not_close", "final is answered by closed", LEASES, "merge_report",
           "lease.closed = lease.closed or report.final", "lease.closed = lease.closed"),
    Mutant("closed_opens_again", "a closed lease stays closed", LEASES, "merge_report",
           "lease.closed = lease.closed or report.final", "lease.closed = report.final", ("repeat",)),
    Mutant("windows_are_counted_twice", "the server folds the windows above what it has acknowledged", SERVER, "Server._count",
           "if number > self.acked[message.incarnation]:", "if number:"),
    # What it grants
    Mutant("grant_from_the_delta", "grants are level-triggered", GRANTS, "decide",
           "missing = ask.want - outstanding", "missing = ask.want"),
    Mutant("want_counts_calls_in_flight_twice", "want is above G - S - R", GRANTS, "decide",
           "missing = ask.want - outstanding", "missing = ask.want + ask.held - outstanding"),
    Mutant("only_the_leaf_is_asked", "every account on the path must have room", GRANTS, "decide",
           "for index, account in enumerate(path) if", "for index, account in enumerate(path[:1]) if"),
    Mutant("root_is_not_checked", "every account on the path must have room", GRANTS, "decide",
           "for index, account in enumerate(path) if", "for index, account in enumerate(path[:-1] or path) if"),
    Mutant("room_ignores_outstanding", "room is amount - outstanding - settled", GRANTS, "Account.room",
           "self.amount - self.outstanding - self.settled", "self.amount - self.settled"),
    Mutant("room_ignores_settled", "room is amount - outstanding - settled", GRANTS, "Account.room",
           "self.amount - self.outstanding - self.settled", "self.amount - self.outstanding"),
    Mutant("a_group_is_granted_what_it_found", "what one report changes, the next in the transaction sees", GRANTS, "Account.moved",
           "self.outstanding + outstanding,", "self.outstanding,"),
    Mutant("grants_under_min_useful", "nothing is granted under min_useful", GRANTS, "decide",
           "floor = max(1, ask.min_useful - idle)", "floor = 1"),
    Mutant("closed_lease_grants", "a closed lease never grants again", LEASES, "_answer",
           "if over:\n", "if lease.revoked or (lease.closed and report.final):\n", ("repeat",)),
    Mutant("folded_leases_are_forgotten", "a closed lease never grants again, nor once it has been folded", RETENTION, "is_folded",
           "return report.number <= floors.get(report.incarnation, NO_FLOOR)", "return False", ("repeat", "folds")),
    Mutant("revoked_lease_grants", "a revoked lease grants nothing more", LEASES, "_answer",
           "if over:\n", "if lease.closed:\n", ("revokes",)),
    Mutant("grants_after_the_period", "a period that is over grants nothing", LEASES, "_answer",
           "elif period_ms != 0:", "else:", ("hours",)),
    Mutant("grants_on_archived_budgets", "an archived budget is unknown", LEASES, "_answer",
           "elif any(account.budget.archived for account in path):", "elif False:", ("archives",)),
    Mutant("the_longest_period_counts", "the lease ends with the first account on its path", LEASES, "_answer",
           "(min(ends) - now)", "(max(ends) - now)", ("hours",)),
    Mutant("over_its_amount_nothing_is_asked_back", "cap is 0 while an account is over its amount", GRANTS, "cap",
           "account.blocks and account.room < 0", "account.blocks and False", ("amounts",)),
    Mutant("amounts_are_cached", "an amount that was lowered before counts", STORE, "Store._open_account",
           "Account(budget.amount + extra,", "Account(self.__dict__.setdefault(budget.id, budget.amount) + extra,", ("amounts",)),
    Mutant("expiry_frees_rights", "a lease that expires without a final report stays counted", STORE, "Store._open_account",
           "Account(budget.amount + extra, row.outstanding,",
           "Account(budget.amount + extra, sum(lease.outstanding for key, lease in self.leases.items() if row.id in lease.path"
           " and (now - self.seen[key]).total_seconds() < 1.0),"),
    Mutant("the_client_says_which_period", "times of a sender decide nothing", SERVER, "Server._transact",
           "now=self.time(),", "now=datetime.fromtimestamp(group[0].sent.sent_ms / 1000, UTC),", ("skew", "hours")),
    Mutant("answers_before_the_commit", "everything in a sync is durable before the answer", SERVER, "Server._transact",
           "heard = fate >= setup.failures + setup.unknown", "heard = True", ("failures",)),
    Mutant("a_window_rolls_too_early", "what was settled counts for the whole window", PERIODS, "rolling_cutoff",
           "timedelta(days=days)", "timedelta(hours=12 * days)", ("rolling", "nights")),
    Mutant("a_correction_counts_from_its_coming", "a correction leaves the window before the charge does", LEDGER, "slot_moves",
           "slot_of(days, entry.opened_at)", "slot_of(days, entry.at)", ("rolling", "nights", "corrections")),
    Mutant("what_is_leased_is_carried_over", "what is still leased of a period counts as spent", CARRY, "carried",
           "unused = before.amount - before.exposure", "unused = before.amount", ("hours", "carries")),
    Mutant("debts_are_forgotten", "a debt is taken off the next period", CARRY, "carried",
           "return max(unused, -MOST_DEBT_NUSD) if rule.debt else 0", "return 0", ("hours", "carries", "amounts")),
    Mutant("idle_periods_forgive_debts", "debts go on past periods that nobody uses", CARRY, "brought",
           "return _idle(carry, left, past.amount, periods_between(rule, past.ends_at, starts_at))",
           "return left if past.ends_at == starts_at else 0", ("hours", "carries", "amounts", "nights")),
    Mutant("only_the_next_period_hears", "what comes back from a period changes all that follow", CARRY, "carried_on",
           "if extra != account.stands.carried:", "if False:", ("hours", "carries", "nights")),
    Mutant("what_is_presumed_is_taken_back_last", "of what a lease was charged, what is presumed is taken back first", TAKING_BACK,
           "taken_back", "min(nusd, lease.presumed)", "max(0, nusd - lease.counters.charged)", ("resolves", "takes")),
    Mutant("what_is_folded_stays_charged", "what was charged to budgets for all of time can be taken back of a rest", TAKING_BACK,
           "rests_of", "if not accounts or not lease.charged:", "if True:", ("folds",)),
    Mutant("a_rest_forgets_what_was_taken_back", "a rest has what was charged, less what was taken back", TAKING_BACK, "rests_of",
           "settled + lease.counters.charged", "settled + lease.counters.settled", ("folds", "corrections")),
    Mutant("a_rest_forgets_what_was_presumed", "a rest has what was charged, less what was taken back", TAKING_BACK, "rests_of",
           "rest.presumed + lease.presumed", "rest.presumed", ("folds", "resolves", "kills")),
    # What the client admits
    Mutant("holds_without_room", "x is admitted when G - S - H - R >= x", BUDGET, "hold",
           "if lease.room >= bound", "if lease.room > 0"),
    Mutant("room_ignores_holds", "x is admitted when G - S - H - R >= x", BUDGET, "Lease.room",
           "self.granted - self.settled - self.held - self.returned", "self.granted - self.settled - self.returned"),
    Mutant("returned_rights_are_spent", "returned rights are given back for good", BUDGET, "Lease.room",
           "self.granted - self.settled - self.held - self.returned", "self.granted - self.settled - self.held"),
    Mutant("settled_rights_are_spent", "x is admitted when G - S - H - R >= x", BUDGET, "Lease.room",
           "self.granted - self.settled - self.held - self.returned", "self.granted - self.held - self.returned"),
    Mutant("grants_add_up", "both sides merge by maximum", BUDGET, "merge_grant",
           "lease._replace(granted=granted) if", "lease._replace(granted=lease.granted + granted) if"),
    Mutant("the_last_grant_counts", "both sides merge by maximum", BUDGET, "merge_grant",
           "if granted > lease.granted else lease", "if granted != lease.granted else lease", ("late", "slow")),
    Mutant("holds_are_returned", "only what is idle is returned", BUDGET, "keep_at_most",
           "spare = lease.room - max(0, idle)", "spare = lease.room + lease.held - max(0, idle)"),
    Mutant("cap_is_ignored", "the SDK returns what it holds idle beyond cap", LEASING, "Leases._merge",
           'budget.keep_at_most(slip.lease, answer["cap"])', "slip.lease", ("amounts",)),
    Mutant("deadlines_are_ignored", "a call is admitted when now < deadline", LEASING, "Slip.live",
           "return boot < self.deadline or", "return self.deadline > -math.inf or"),
    Mutant("deadline_from_the_answer", "the deadline counts from the sending of the request", EXCHANGE, "Exchange.answered",
           "sent_boot=sent.sent_boot", "sent_boot=guard.clock.boot()"),
    Mutant("wall_clock_deadline", "deadlines are on a clock that nobody sets", KERNEL, "ProcessClock.boot",
           "return 5000.0 + self._kernel.now * self.rate", "return self.wall_ms() / 1000", ("skew",)),
    Mutant("suspend_does_not_count", "deadlines are on a clock that counts suspend", KERNEL, "ProcessClock.boot",
           "return 5000.0 + self._kernel.now * self.rate", "return self.now()", ("suspends",)),
    Mutant("periods_never_end", "the lease ends with its period", LEASING, "Leases._merge",
           'math.inf if period_ms is None else sent_boot + period_ms / 1000', "math.inf", ("hours",)),
    Mutant("a_retired_lease_is_not_replaced", "the SDK opens a new lease for the same path", LEASING, "Leases._current",
           "if slip.retiring or boot >= slip.ends:", "if boot >= slip.ends:"),
    Mutant("lease_numbers_come_again", "numbers are never used twice", LEASING, "Leases._next",
           "self._number += 1", "self._number = max(1, self._number)"),
    Mutant("what_is_lent_is_not_held", "calls on credit were paid for before", LEASING, "Leases.lend",
           "slip.lease = budget.hold_unfunded(slip.lease, nusd)", "slip.lease = budget.hold_unfunded(slip.lease, 0)", ("swift",)),
    Mutant("credit_outlives_the_lease", "a call is admitted when now < deadline", LENDING, "Lending._draw",
           "min(cell.until, now + cell.slip.ends_in(boot))", "cell.until + 10.0", ("swift",)),
    Mutant("credit_is_never_called_back", "what is lent goes back before a sync", HARVEST, "Harvest.gather",
           "if self.active:", "if False:", ("swift",)),
    Mutant("streams_hold_nothing_more", "a stream holds what it has cost and the next step", RESERVING, "grow",
           "if _take(guard, ticket, ahead):", "if True:", ("lenient",)),
    Mutant("streams_hold_what_has_come", "a stream holds what it has cost and the next step", RESERVING, "grow",
           "need = tokens + stride", "need = tokens", ("lenient",)),
    Mutant("nothing_is_cut", "a budget that cuts is not overspent", RESERVING, "_cuts",
           'ref.on_overrun == "cut" and', "False and", ("lenient",)),
    Mutant("calls_go_before_the_journal", "the journal knows of a call before it is let through", LEASING, "Leases.hold",
           "self.keep(slip)", "pass", ("journals", "kills")),
    Mutant("credit_is_not_journaled", "the journal knows of a call before it is let through", LEASING, "Leases.lend",
           "self.keep(slip)", "pass", ("journals", "kills", "swift")),
    Mutant("the_journal_says_what_was_settled", "of a dead process S + H counts as settled", JOURNAL, "Journal.note",
           "lease.settled + max(0, lease.held)", "lease.settled", ("journals", "kills")),
    Mutant("last_words_end_nothing", "what a journal says is the end of its leases", REPLAYING, "last_words",
           '"final": True,', '"final": False,', ("journals", "kills")),
    Mutant("what_changed_since_is_forgotten", "final is repeated until the answer says closed", LEASING, "Leases._merge",
           "if line.final and slip.lease == line.sent:", "if line.final:", ("corrections",)),
    Mutant("what_was_presumed_stays", "what the holder says replaces what was presumed", LEASES, "merge_report",
           "lease.presumed = 0 if report.final else max(0, presumed - settled)", "pass",
           ("resolves", "nights")),
    # Who says it
    Mutant("anybody_speaks_for_anybody", "only who may touch all of a lease's budgets speaks of it", LEASES, "drop_strangers",
           "del leases[report.incarnation, report.number]", "pass", ("lies",)),
    Mutant("what_is_corrected_was_never_settled", "S only grows", BUDGET, "correct",
           "corrected=min(lease.settled, lease.corrected + nusd)", "settled=lease.settled - nusd", ("corrections",)),
    Mutant("what_is_heard_late_is_not_settled", "what a call turns out to have cost more is settled as well", AMENDING, "_charge",
           "cost=change", "cost=0", ("amends",)),
    Mutant("more_is_corrected_than_was_settled", "C ≤ S", GRANTS, "Counters.merge",
           "min(settled, max(self.corrected, corrected))", "max(self.corrected, corrected)", ("lies",)),
    # What it says
    Mutant("a_cancelled_call_costs_nothing", "a call whose outcome nobody knows settles at its bound", BOOKS, "Books.cost_of",
           "return ticket.estimate\n", "return 0\n"),
    Mutant("bounds_cut_costs_off", "more than the bound is counted in full", BUDGET, "settle",
           "lease.settled + cost", "lease.settled + min(cost, bound)", ("overbilled",)),
    Mutant("final_with_calls_in_flight", "final is sent when H = 0", LEASING, "Leases.lines",
           "slip.retiring and slip.lease.held == 0", "slip.retiring"),
    Mutant("final_is_said_once", "final is repeated until the answer says closed", LEASING, "Leases.as_sent",
           "slip.path.short = slip.path.grows = 0\n", "slip.path.short = slip.path.grows = 0\n"
           "            if slip.retiring and slip.lease.held == 0:\n                self.slips.pop(slip.number, None)\n", ("loss",)),
    Mutant("final_only_after_a_grant", "final is sent also when no grant was seen", LEASING, "Leases.lines",
           "slips = list(self.slips.values())",
           "self.slips = {n: s for n, s in self.slips.items() if s.lease.granted or s.lease.held or not s.retiring}\n"
           "        slips = list(self.slips.values())", ("loss",)),
    Mutant("exit_drops_calls_in_flight", "what is in flight at the end is presumed billed", BOOKS, "Books.presume",
           "self._settle(ticket, SystemExit(), last=True)", "pass", ("exits",)),
    Mutant("a_fork_keeps_the_incarnation", "a forked child mints its own incarnation", PROCESS, "Process.fork",
           "child.begin()\n", "child.begin()\n        child.incarnation = self.incarnation\n", ("forks",)),
    Mutant("a_fork_keeps_the_leases", "a forked child drops everything", BOOKS, "Books.reborn",
           "self.leases = Leases()", 'self.leases = vars(self).get("leases") or Leases()', ("forks",)),
    Mutant("a_restart_keeps_the_incarnation", "an incarnation is one run, never reused", PROCESS, "Process.begin",
           "int=self.chance.getrandbits(128)", "int=1 + self.number % self.world.setup.clients", ("kills",)),
    Mutant("acknowledged_is_whatever_was_sent", "windows are kept until acknowledged", REPORT, "Report.acked",
           "while self._sent and self._sent[0][0] <= number:", "while self._sent:", ("late", "slow")),
    Mutant("places_in_line_are_lost", "a call that gave up leaves the line", BOOKS, "Books._release",
           "self._leave_line(ticket)", "pass", ("queue",)),
)  # fmt: skip


@contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    """Run with the rule of ``mutant`` broken. ``Stale`` when the code has changed so that the mutant has to follow."""
    module = importlib.import_module(mutant.module)
    source = inspect.getsource(module)
    target = _function(module, mutant.function)
    own = inspect.getsource(target)
    if own.count(mutant.old) != 1 or source.count(own) != 1:
        raise Stale(f"{mutant.name}: {mutant.old!r} is {own.count(mutant.old)} times in {mutant.function}")
    scratch = types.ModuleType(module.__name__)
    edited = source.replace(own, own.replace(mutant.old, mutant.new))
    # The project's own source, edited by this file.
    exec(compile(edited, str(module.__file__), "exec"), scratch.__dict__)
    kept = target.__code__
    target.__code__ = _function(scratch, mutant.function).__code__
    try:
        yield
    finally:
        target.__code__ = kept


def _function(module: types.ModuleType, name: str) -> types.FunctionType:
    found: object = module
    for part in name.split("."):
        found = vars(found)[part]
    if isinstance(found, property):
        found = found.fget
    assert isinstance(found, types.FunctionType), f"{name} of {module.__name__} is not a function"
    return found


def named(name: str) -> Mutant:
    """Return a mutant by its name."""
    return next(mutant for mutant in MUTANTS if mutant.name == name)


def table() -> str:
    """Return the mutants as docs/proof.md lists them."""
    rows = [f"| `{mutant.name}` | {mutant.rule} | `{mutant.function}` |" for mutant in MUTANTS]
    return "\n".join(["| mutant | the rule that it breaks | where |", "|---|---|---|", *rows])


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
