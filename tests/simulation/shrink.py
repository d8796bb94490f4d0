"""Makes a failing world smaller: fewer faults, clients, budgets, calls, less time, as long as the same invariant breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.simulation.run import Outcome, run
from tests.simulation.setup import FAULTS, RARE_FAULTS, Setup, drawn

WHOLE = ("clients", "budgets", "tenants", "calls", "bound")
Run = Callable[[Setup], Outcome]


def shrunk(failed: Outcome, *, tries: int = 300, again: Run = run) -> Outcome:
    """Return the smallest failing outcome that is found in so many runs."""
    best = failed
    left = tries
    improved = True
    while improved and left > 0:
        improved = False
        for smaller in _smaller(best):
            left -= 1
            if left < 0:
                break
            outcome = again(smaller)
            if outcome.invariant == failed.invariant:
                best, improved = outcome, True
                break
    return best


def _smaller(outcome: Outcome) -> Iterator[Setup]:
    setup = outcome.setup
    for name in (*FAULTS, *RARE_FAULTS, "queue"):
        if getattr(setup, name):
            yield setup.changed(**{name: 0})
    for name in WHOLE:
        value = getattr(setup, name)
        for less in sorted({1, value // 2, value - 1}):
            if 1 <= less < value:
                yield setup.changed(**{name: less})
    if outcome.at < setup.horizon - 0.01:
        yield setup.changed(horizon=outcome.at + 0.005)
    if setup.blocking < 1:
        yield setup.changed(blocking=1)
    if setup.horizon > 2:
        yield setup.changed(horizon=setup.horizon / 2)


def replay_line(setup: Setup) -> str:
    """Return the command that runs ``setup`` again."""
    changes = drawn(setup.seed).differences(setup)
    words = [f"--set {name}={value:.12g}" for name, value in changes.items()]
    return " ".join(["python -m tests.simulation --replay", str(setup.seed), *words])
