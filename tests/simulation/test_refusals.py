"""How many of the calls that are refused at exhaustion could have had money."""

from __future__ import annotations

import pytest

from tests.simulation.refusals import measured


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_refusals__budgets_that_run_out__few_are_refused_what_others_give_back() -> None:
    tally = measured(range(10))

    assert tally.refused > 500
    assert tally.free + tally.idle < 0.06 * tally.refused  # 0.1 while all kept what is too little for a call
    assert tally.free < 0.02 * tally.refused
    assert tally.waited < 0.4 * tally.refused
