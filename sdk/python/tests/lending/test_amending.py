"""Usage of calls on credit that is said after they have ended: charged as if they had taken the lock."""

from __future__ import annotations

from typing import Any

import pytest

from sdk.python.tests.lending.lender import BOUND, COST, PRICED, Lender
from tidegate.core.budget import Lease

PLENTY = 100 * BOUND


@pytest.fixture
def rich(lender: Lender, plenty: None) -> Lender:
    lender.budget("all")
    lender.fund(PLENTY, **PRICED)
    return lender


def lease_of(lender: Lender) -> Lease:
    with lender.guard.lock:
        lender.guard.gather()
    (slip,) = lender.guard.leases.slips.values()
    return slip.lease


@pytest.mark.parametrize("said", [None, 100, 800], ids=["presumed", "said less", "said more"])
@pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted yet"])
def test_swift__recorded_after_its_end__charged_that_and_nothing_else(
    rich: Lender, said: int | None, counted: bool
) -> None:
    call = rich.swift(**PRICED)
    before = lease_of(rich)
    if said is not None:
        call.record(input_tokens=400, output_tokens=said)
    call.settle(None, last=True)
    if counted:
        lease_of(rich)

    call.record(input_tokens=400, output_tokens=100)
    call.record(input_tokens=400, output_tokens=100)

    after = lease_of(rich)
    assert after.settled - after.corrected == before.settled - before.corrected + COST
    assert after.held == before.held - BOUND
    assert after.corrected - before.corrected == (0 if said == 100 else BOUND - COST)
    assert rich.row().kinds.get("late", 0) == (0 if said == 100 else 1)


def test_swift__of_calls_that_are_all_alike__amended_from_what_each_is_charged(lender: Lender, plenty: None) -> None:
    lender.budget("all")
    options: dict[str, Any] = {"model": "gpt-4o-mini", "category": "support"}
    lender.fund(PLENTY, **options)
    with lender.call(**options) as first:
        first.record(cost_usd="0.0005")
    call = lender.swift(**options)
    before = lease_of(lender)
    call.settle(None, last=True)

    call.record(cost_usd="0.0007")

    after = lease_of(lender)
    assert after.settled - after.corrected == before.settled - before.corrected + 700_000
    assert after.corrected <= after.settled
    assert lender.row().calls == lender.row().call_cost_nusd.count


def test_swift__its_cell_belongs_to_another_incarnation__too_late(
    rich: Lender, caplog: pytest.LogCaptureFixture
) -> None:
    call = rich.swift(**PRICED)
    call.settle(None, last=True)
    rich.guard.reborn()

    call.record(input_tokens=400, output_tokens=800)

    assert "came too late" in caplog.text
    assert not rich.guard.leases.slips
