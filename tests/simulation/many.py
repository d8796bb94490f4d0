"""Runs many seeds, on several cores."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator

from tests.simulation.mutants import Stale, broken, named
from tests.simulation.run import Outcome, run
from tests.simulation.setup import drawn
from tests.simulation.shrink import replay_line, shrunk

CHUNK = 10


def run_seed(seed: int) -> Outcome:
    """Return what becomes of the world of ``seed``."""
    return run(drawn(seed))


def outcomes(seeds: Iterable[int], *, jobs: int) -> Iterator[Outcome]:
    """Return the outcomes of ``seeds``, in their order."""
    if jobs <= 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(run_seed, seeds, chunksize=CHUNK)


def killer_of(name: str, *, tries: int) -> Outcome | Stale | None:
    """Return the first world, of so many that have what it needs, in which a mutant breaks an invariant."""
    mutant = named(name)
    setups = (setup for setup in map(drawn, itertools.count()) if all(getattr(setup, need) for need in mutant.needs))
    try:
        with broken(mutant):
            return next((found for found in map(run, itertools.islice(setups, tries)) if found.invariant), None)
    except Stale as stale:
        return stale


def report_of(failed: Outcome, *, shrink: Callable[[Outcome], Outcome] = shrunk) -> str:
    """Return what somebody needs who is to find out why a seed failed."""
    small = shrink(failed)
    told = "\n".join(small.told)
    return (
        f"seed {failed.setup.seed}: {failed.text}\n"
        f"  as drawn:  {replay_line(failed.setup)}\n"
        f"  smallest:  {replay_line(small.setup)}\n"
        f"  {small.text} (after {small.events} events)\n{told}"
    )
