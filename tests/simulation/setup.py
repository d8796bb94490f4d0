"""What kind of world a seed makes: every parameter and every class of fault is drawn, so that they meet in all combinations.

Swarm testing (Groce et al., ISSTA 2012; TigerBeetle's VOPR): a world in which everything fails at once hides the faults
that need peace elsewhere.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Setup:
    """Times are seconds, chances are from 0 to 1, rates are per second of the safety phase."""

    seed: int
    horizon: float = 25.0
    clients: int = 3
    calls: int = 250
    tenants: int = 2
    budgets: int = 3
    blocking: float = 0.9  # the part of budgets that block
    tightness: float = 1.0  # all budgets together, relative to what calls could cost
    bound: int = 1000  # the greatest upper bound of a call, nano-USD
    duration: float = 1.0  # of a call, on average
    interval: float = 0.5  # between syncs
    ttl: float = 5.0  # of leases
    patience: float = 3.0  # of a client for an answer
    journals: float = 0.0  # the part of processes of which a journal outlives them
    swift: float = 0.0  # the part of calls that may pass on credit lent to their kind
    lenient: float = 0.0  # the part of calls that stream, on budgets that are not strict and cut them
    burst: int = 1  # calls that come at once
    queue: int = 0  # calls of a route at once; 0: any number
    hours: float = 0.0  # the part of budgets that renew hourly
    rolling: float = 0.0  # the part of budgets that roll over a day
    carries: float = 0.0  # the part of hourly budgets that carry what is unused, and debts, to the next hour
    finishes: float = 0.0  # the part of budgets whose leases are finished when the server is away
    hour_ends: float = 1e9  # after the start
    delay: float = 0.02
    slow: float = 0.0  # chance of a message that takes up to three TTLs
    loss: float = 0.0
    repeat: float = 0.0
    late: float = 0.0  # chance that an answer is heard after its request was given up
    partitions: float = 0.0
    kills: float = 0.0
    exits: float = 0.0
    forks: float = 0.0
    pauses: float = 0.0
    suspends: float = 0.0
    drift: float = 0.0
    skew: float = 0.0  # of wall clocks, which also step
    failures: float = 0.0  # chance that a transaction fails and nothing of it counts
    unknown: float = 0.0  # chance that a transaction commits and its clients hear of an error
    failovers: float = 0.0
    amounts: float = 0.0  # budgets are raised and lowered
    archives: float = 0.0
    revokes: float = 0.0  # of leases
    resolves: float = 0.0  # of leases of lost holders, by operators and by time
    folds: float = 0.0  # closed leases of which nothing was heard for a while are folded
    takes: float = 0.0  # of what was charged and never spent, back, by operators
    lies: float = 0.0  # of clients that keep to no rule
    nights: float = 0.0  # hours pass in which nothing happens
    cancels: float = 0.0  # chance that a call is cancelled, and billed all the same
    errors: float = 0.0  # chance that nobody knows whether a call was billed
    silent: float = 0.0  # chance that a call says nothing of its cost
    gives_up: float = 0.0  # chance that a caller does not wait to the end
    corrections: float = 0.0  # chance that a bill lower than presumed is heard of
    amends: float = 0.0  # chance that a call is billed more, and that is heard when it is over
    overbilled: float = 0.0  # chance that a call costs more than its bound

    def changed(self, **values: Any) -> Setup:
        """Return the setup with some parameters replaced; texts are read as numbers. ``ValueError`` names an unknown one."""
        kinds = {item.name: type(getattr(self, item.name)) for item in fields(self)}
        unknown = set(values) - set(kinds)
        if unknown:
            raise ValueError(f"not a parameter of a setup: {', '.join(sorted(unknown))}")
        return replace(self, **{name: kinds[name](float(value)) for name, value in values.items() if name != "seed"})

    def differences(self, other: Setup) -> dict[str, float]:
        """Return the parameters that ``other`` has otherwise, with its values."""
        names = [item.name for item in fields(self)]
        return {name: getattr(other, name) for name in names if getattr(self, name) != getattr(other, name)}


FAULTS = {
    "slow": (0.01, 0.2), "loss": (0.02, 0.35), "repeat": (0.05, 0.5), "late": (0.2, 1.0), "partitions": (0.05, 0.3),
    "kills": (0.02, 0.15), "exits": (0.02, 0.15), "forks": (0.02, 0.1), "pauses": (0.02, 0.15), "suspends": (0.02, 0.15),
    "drift": (0.002, 0.02), "skew": (1.0, 7200.0), "failures": (0.02, 0.2), "unknown": (0.02, 0.2), "failovers": (0.02, 0.1),
    "amounts": (0.05, 0.4), "nights": (0.03, 0.25), "cancels": (0.05, 0.4), "errors": (0.05, 0.3), "silent": (0.05, 0.3),
    "gives_up": (0.05, 0.3), "corrections": (0.2, 1.0), "hours": (0.2, 1.0), "rolling": (0.2, 1.0),
    "carries": (0.3, 1.0), "journals": (0.5, 1.0),
}  # fmt: skip
RARE_FAULTS = {
    "archives": (0.02, 0.05), "overbilled": (0.02, 0.2), "revokes": (0.05, 0.3), "finishes": (0.3, 1.0),
    "lies": (0.5, 4.0), "resolves": (0.1, 0.6), "folds": (0.3, 2.0), "amends": (0.1, 0.6),
}  # fmt: skip


def drawn(seed: int) -> Setup:
    """Return the world of ``seed``."""
    chance = random.Random(f"setup {seed}")
    interval = chance.choice((0.2, 0.5, 1.0, 2.0))
    horizon = min(30.0, max(5.0, interval * chance.uniform(12, 40)))
    values: dict[str, Any] = {
        "horizon": horizon,
        "clients": chance.choice((1, 2, 2, 3, 3, 4, 5)),
        "calls": chance.randint(60, 260),
        "tenants": chance.randint(1, 3),
        "budgets": chance.randint(1, 5),
        "blocking": chance.choice((1.0, 1.0, 0.7)),
        "tightness": chance.choice((0.05, 0.2, 0.5, 1.0, 3.0)),
        "bound": chance.choice((1, 3, 10, 1000, 1_000_000)),
        "duration": chance.choice((0.05, 0.3, 1.0, 4.0)),
        "interval": interval,
        "ttl": chance.choice((0.5, 2.0, 5.0, 15.0)),
        "patience": chance.choice((0.5, 1.0, 3.0, 10.0)),
        "queue": chance.choice((0, 0, 1, 3)),
        "burst": chance.choice((1, 1, 1, 8)),
        "hour_ends": chance.uniform(0.1, 1.0) * horizon,
        "delay": chance.choice((0.002, 0.02, 0.1, 0.4)),
    }
    if chance.random() < 0.3:  # calls that come often, of which there is plenty, are lent to
        values |= {
            "swift": chance.choice((0.7, 1.0)),
            "burst": 8,
            "tightness": chance.choice((3.0, 10.0)),
            "tenants": 1,
        }
        values |= {"calls": 300, "budgets": chance.randint(1, 3), "duration": 0.05}
    elif chance.random() < 0.2:  # of calls that are known well, some need more
        values |= {"lenient": chance.choice((0.6, 1.0)), "bound": chance.choice((8, 20)), "duration": 0.05}
        values |= {
            "calls": 300,
            "clients": chance.choice((1, 1, 2)),
            "tenants": 1,
            "tightness": chance.choice((0.5, 1.0, 3.0)),
        }
    for name, (least, most) in FAULTS.items():
        if chance.random() < 0.4:
            values[name] = chance.uniform(least, most)
    for name, (least, most) in RARE_FAULTS.items():
        if chance.random() < 0.1:
            values[name] = chance.uniform(least, most)
    if chance.random() < (0.8 if "folds" in values else 0.1):
        values["takes"] = chance.uniform(0.2, 2.0)
    return Setup(seed, **values)
