"""``python -m tests.simulation --seeds 1000000 --jobs 2`` runs many worlds; ``--replay SEED`` runs one again."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.simulation.many import outcomes, report_of
from tests.simulation.run import run
from tests.simulation.setup import drawn

EVERY_S = 10.0


def main() -> int:
    """Return 0 when every invariant held in every world."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--failures", type=int, default=3, help="stop after so many failures")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run one world, with what happened in it")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a parameter of it")
    options = parser.parse_args()
    if options.replay is not None:
        return _replay(options.replay, dict(change.split("=", 1) for change in options.set))
    return _many(options)


def _replay(seed: int, changes: dict[str, str]) -> int:
    outcome = run(drawn(seed).changed(**changes))
    print("\n".join(outcome.told))
    print(outcome.text or f"Everything holds after {outcome.events} events.")
    return 1 if outcome.invariant else 0


def _many(options: argparse.Namespace) -> int:
    began = said = time.monotonic()
    seeds = events = admitted = failures = 0
    for outcome in outcomes(range(options.first, options.first + options.seeds), jobs=options.jobs):
        seeds += 1
        events += outcome.events
        admitted += outcome.admitted
        if outcome.invariant:
            failures += 1
            print(report_of(outcome), flush=True)
            if failures >= options.failures:
                break
        if time.monotonic() - said > EVERY_S:
            said = time.monotonic()
            print(f"{seeds:,} seeds, {events:,} events, {admitted:,} calls, {failures} failures", flush=True)
    took = time.monotonic() - began
    print(f"{seeds:,} seeds, {events:,} events, {admitted:,} calls let through, {failures} failures in {took:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
