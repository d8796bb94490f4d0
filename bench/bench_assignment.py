"""What an assignment costs: amortised over traffic in which units come again, and for a unit that is seen for the first time.

Beside it, in the same run, the hashes of others as a plain Python program computes them. ``python -m bench.bench_assignment``
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdk" / "python" / "src"))

from tidegate.core.bucketing import METHODS
from tidegate.core.release import Deployment

UNITS, CALLS, ROUNDS = 20_000, 400_000, 5


def deployment() -> Deployment:
    ring = {"share": 50_000, "tenants": [], "users": [], "regions": []}
    releases = {"a": {"version": "1", "config": {}}, "b": {"version": "2", "config": {}}}
    return Deployment(
        "assistant",
        {
            "id": 1, "unit": "user", "salt": "3f9a2c71b0d4e865", "routes": ["chat"], "step": 1, "stable": "a", "candidate": "b",
            "rings": [ring], "releases": releases,
        },
    )  # fmt: skip


def best_ns(run: Callable[[Sequence[str]], None], units: Sequence[str]) -> float:
    """Return the processor's time per unit of the best round: the machine may have other work."""
    took = []
    for _ in range(ROUNDS):
        began = time.thread_time_ns()
        run(units)
        took.append((time.thread_time_ns() - began) / len(units))
    return min(took)


def main() -> None:
    dice = random.Random(1)
    names = [f"acme/user-{number}" for number in range(UNITS)]
    # Some users call often, many seldom, as they do.
    traffic = [names[min(UNITS - 1, int(dice.paretovariate(0.7)))] for _ in range(CALLS)]

    def assigned(units: Sequence[str]) -> None:
        assign = deployment().assign  # remembers nothing at first: what it learns is part of the price
        for unit in units:
            assign(unit, tenant="acme")

    amortised = best_ns(assigned, traffic)
    first = best_ns(assigned, names)
    print(f"an assignment, amortised over {CALLS:,} calls of {len(set(traffic)):,} units   {amortised:7.0f} ns")
    print(f"an assignment of a unit that was never seen                        {first:7.0f} ns")
    for name, method in METHODS.items():

        def hashed(units: Sequence[str], method: Callable[[str, str], int] = method) -> None:
            for unit in units:
                method("3f9a2c71b0d4e865", unit)

        cost = best_ns(hashed, names)
        print(f"the hash alone, {name:<14}  {cost:7.0f} ns   {cost / amortised:5.1f} x an amortised assignment")


if __name__ == "__main__":
    main()
