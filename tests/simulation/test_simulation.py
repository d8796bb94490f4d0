"""A thousand worlds; that a seed is one world and no other; that a failure can be replayed and comes out small."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.__main__ import main
from tests.simulation.campaign import resumed
from tests.simulation.many import outcomes, report_of
from tests.simulation.mutants import broken, named
from tests.simulation.run import Outcome, run
from tests.simulation.setup import Setup, drawn
from tests.simulation.shrink import replay_line, shrunk

SEEDS = 1000
JOBS = 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_simulation__a_thousand_worlds__no_invariant_breaks() -> None:
    seen = list(outcomes(range(SEEDS), jobs=JOBS))

    failed = [outcome for outcome in seen if outcome.invariant]
    assert not failed, "\n".join(report_of(outcome) for outcome in failed[:3])
    assert sum(outcome.admitted for outcome in seen) > 20 * SEEDS
    assert sum(outcome.refused for outcome in seen) > 20 * SEEDS


def test_run__the_same_seed__is_the_same_world() -> None:
    for seed in range(10):
        assert run(drawn(seed)) == run(drawn(seed))


def test_drawn__many_seeds__every_fault_is_on_in_some_and_off_in_others() -> None:
    setups = [drawn(seed) for seed in range(200)]

    for name in (
        "loss",
        "repeat",
        "kills",
        "forks",
        "suspends",
        "failovers",
        "unknown",
        "amounts",
        "hours",
        "overbilled",
    ):
        on = sum(getattr(setup, name) > 0 for setup in setups)
        assert 0 < on < len(setups), name


def broken_when_lossy(setup: Setup) -> Outcome:
    """Stand in for a world with a fault that shows with lost messages, two clients and ten calls."""
    broken = setup.loss > 0 and setup.clients >= 2 and setup.calls >= 10
    return Outcome(setup, "I4 liability" if broken else "", at=setup.horizon)


def test_shrunk__a_failure__keeps_only_what_it_needs() -> None:
    setup = next(setup for setup in map(drawn, range(1000)) if broken_when_lossy(setup).invariant)

    small = shrunk(broken_when_lossy(setup), again=broken_when_lossy).setup

    assert (small.clients, small.calls, small.tenants, small.budgets) == (2, 10, 1, 1)
    assert small.loss
    assert not small.kills
    assert not small.repeat


def test_replay_line__a_shrunk_world__is_run_again_by_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = drawn(3).changed(clients=1, calls=20, loss=0, horizon=5.25)
    line = replay_line(small)
    monkeypatch.setattr("sys.argv", shlex.split(line)[2:])

    code = main()

    assert code == 0
    assert f"after {run(small).events} events" in capsys.readouterr().out


def test_campaign__interrupted__goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = resumed(5, 8, tmp_path)
    for outcome in outcomes(whole.left, jobs=1):
        whole.count(outcome)

    part = resumed(5, 8, tmp_path)
    for outcome in outcomes(range(5, 8), jobs=1):
        part.count(outcome)
    part.keep(tmp_path)
    again = resumed(5, 8, tmp_path)

    assert again.left == range(8, 13)
    for outcome in outcomes(again.left, jobs=1):
        again.count(outcome)
    assert again == whole


def test_campaign__other_code_or_at_its_end__begins_anew(tmp_path: Path) -> None:
    old = replace(resumed(0, 5, tmp_path), code="other", done=3)
    old.keep(tmp_path)
    over = replace(resumed(0, 6, tmp_path), done=6)
    over.keep(tmp_path)

    assert resumed(0, 5, tmp_path).done == 0
    assert resumed(0, 6, tmp_path).done == 0


def test_main__a_failing_seed__is_printed_with_how_to_replay_it_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["simulation", "--seeds", "9", "--jobs", "1", "--failures", "1", "--folder", str(tmp_path)]
    )

    with broken(named("room_ignores_outstanding")):
        code = main()

    said = capsys.readouterr().out
    assert code == 1
    assert "smallest:  python -m tests.simulation --replay" in said
    assert resumed(0, 9, tmp_path).failed
