"""Every rule of the protocol, broken once: the simulation must notice each of them."""

from __future__ import annotations

import functools
import multiprocessing
from pathlib import Path

import pytest

from tests.simulation.many import killer_of
from tests.simulation.mutants import MUTANTS, Stale, broken, named, table
from tests.simulation.run import Outcome, run

TRIES = 400
JOBS = 2


@pytest.fixture(scope="module")
def killers() -> dict[str, Outcome | Stale | None]:
    names = [mutant.name for mutant in MUTANTS]
    with multiprocessing.get_context("fork").Pool(JOBS) as pool:
        return dict(zip(names, pool.imap(functools.partial(killer_of, tries=TRIES), names), strict=True))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_mutant__a_rule_is_broken__an_invariant_says_so(name: str, killers: dict[str, Outcome | Stale | None]) -> None:
    killer = killers[name]

    assert killer is not None, f"{name} has survived {TRIES} worlds"
    assert not isinstance(killer, Stale), f"the code has changed, let the mutant follow: {killer}"
    assert killer.invariant.startswith("I"), killer.text


def test_mutants__named__once_each() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25


def test_broken__afterwards__the_code_is_as_it_was() -> None:
    killer = killer_of("room_ignores_outstanding", tries=20)
    assert isinstance(killer, Outcome)

    assert killer.invariant == "I1 escrow"
    assert not run(killer.setup).invariant
    with broken(named("room_ignores_outstanding")):
        assert run(killer.setup) == killer


def test_broken__code_that_has_changed__says_that_the_mutant_is_stale() -> None:
    old = named("room_ignores_outstanding")._replace(old="what is not there")

    with pytest.raises(Stale), broken(old):
        pass


def test_proof__its_list_of_mutants__is_this_one() -> None:
    proof = Path(__file__).resolve().parents[2] / "docs" / "proof.md"

    assert table() in proof.read_text()
