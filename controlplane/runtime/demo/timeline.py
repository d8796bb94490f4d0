"""What goes wrong when: a loop of ten minutes, the same for every process that knows when it began."""

from __future__ import annotations

from typing import NamedTuple

LOOP_S = 600.0


class Phase(NamedTuple):
    """A stretch of the loop, from ``starts_s`` (inclusive) on. ``says`` tells the person at the terminal."""

    name: str
    starts_s: float
    says: str


CALM, BROWNOUT, RUNAWAY, NOISY = "calm", "brown-out", "runaway", "noisy"

PHASES = (
    Phase(CALM, 0, "all is calm"),
    Phase(BROWNOUT, 60, "the provider browns out on gpt-4o-mini: watch the breaker of chat open"),
    Phase(CALM, 130, "the provider is well again: the breaker closes"),
    Phase(RUNAWAY, 220, "an agent of demo-fabrikam-agents runs away: watch its budget stop it"),
    Phase(CALM, 330, "the agent is calm again, its budget was raised"),
    Phase(NOISY, 400, "demo-contoso calls ten times as much: watch its rate limit protect the others"),
    Phase(CALM, 480, "all is calm"),
)

BROWNOUT_MODEL = "gpt-4o-mini"
NOISY_TENANT, NOISY_SURGE = "demo-contoso", 10.0
RUNAWAY_TENANT, RUNAWAY_SURGE = "demo-fabrikam-agents", 10.0


def phase_at(elapsed_s: float) -> Phase:
    """Return the phase in which the loop is, ``elapsed_s`` seconds after it began for the first time."""
    into_s = max(0.0, elapsed_s) % LOOP_S
    return next(phase for phase in reversed(PHASES) if phase.starts_s <= into_s)


def surge(phase: Phase, tenant: str) -> float:
    """Return by how much ``tenant`` calls more than usual."""
    if phase.name == NOISY and tenant == NOISY_TENANT:
        return NOISY_SURGE
    if phase.name == RUNAWAY and tenant == RUNAWAY_TENANT:
        return RUNAWAY_SURGE
    return 1.0
