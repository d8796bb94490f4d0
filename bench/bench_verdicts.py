"""False and true roll-backs of our verdict beside the rules that others ship, in the same runs: ``python -m bench.bench_verdicts``.

Every rule sees every tick. The first table is of harmless releases: the part of rollouts that were rolled back all the same.
The second is of harmful ones: the part that was caught, and after how many canary requests (median).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "sdk" / "python" / "src")]

from tests.simulation.rollouts.counting import Outcome, count  # noqa: E402
from tests.simulation.rollouts.rules import RULES  # noqa: E402
from tests.simulation.rollouts.worlds import HARMFUL, HARMLESS, WRONG_UNIT, World  # noqa: E402

SLOW = "Kayenta"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    began = time.monotonic()
    print(f"{runs} runs of each ({max(1, runs // 20)} of Kayenta's, which is slow)\n")
    _table("harmless: rolled back", (*HARMLESS, WRONG_UNIT), runs)
    _table("harmful: caught / after canary requests", HARMFUL, runs)
    print(f"took {time.monotonic() - began:.0f} s")


def _table(title: str, worlds: tuple[World, ...] | list[World], runs: int) -> None:
    print(f"| {title} | {' | '.join(world.name for world in worlds)} |")
    print(f"|---|{'---|' * len(worlds)}")
    for name, make in RULES:
        of = max(1, runs // 20) if name.startswith(SLOW) else runs
        cells = [_cell(count(make, world, runs=of), harmful=world.harmful) for world in worlds]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print()


def _cell(outcome: Outcome, *, harmful: bool) -> str:
    rate = f"{outcome.rate:.1%}"
    return f"{rate} / {outcome.median:,.0f}" if harmful and outcome.median is not None else rate


if __name__ == "__main__":
    main()
