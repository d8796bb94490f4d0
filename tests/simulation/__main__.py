"""``python -m tests.simulation --seeds 1000000`` runs many worlds, on all cores; ``--replay SEED`` runs one again.

Interrupted, it goes on where it stopped, unless the code has changed meanwhile.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.simulation.campaign import FOLDER, resumed
from tests.simulation.many import outcomes, report_of
from tests.simulation.run import run
from tests.simulation.setup import drawn

EVERY_S = 10.0


def main() -> int:
    """Return 0 when every invariant held in every world."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where it is kept how far they have come")
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
    campaign = resumed(options.first, options.seeds, options.folder)
    if campaign.done:
        print(f"Going on: {campaign.told()}", flush=True)
    began = said = time.monotonic()
    before, taken = campaign.done, campaign.seconds
    failures = 0
    for outcome in outcomes(campaign.left, jobs=options.jobs):
        campaign.count(outcome)
        now = time.monotonic()
        campaign.seconds = taken + now - began
        if outcome.invariant:
            failures += 1
            print(report_of(outcome), flush=True)
            if failures >= options.failures:
                break
        if now - said > EVERY_S:
            said = now
            rate = (campaign.done - before) / (now - began)
            print(f"{campaign.told()}; {rate:.1f} seeds/s, {len(campaign.left) / rate / 3600:.1f} h left", flush=True)
            campaign.keep(options.folder)
    campaign.keep(options.folder)
    print(campaign.told())
    return 1 if campaign.failed else 0


if __name__ == "__main__":
    sys.exit(main())
