"""A gate and a control plane over real HTTP: what is spent, held and reported adds up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tidegate
from tidegate.testing import FakeControlPlane

CALL = {"model": "gpt-4o-mini", "input_tokens": 400, "max_output_tokens": 800}
BOUND_NUSD = 540_000
COST_NUSD = 120_000


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as running:
        yield running


@pytest.fixture
def gate(plane: FakeControlPlane) -> Iterator[tidegate.Gate]:
    connected = plane.connect()
    yield connected
    connected.close()


def spend(gate: tidegate.Gate) -> None:
    with gate.call("chat", **CALL) as call:
        call.record(input_tokens=400, output_tokens=100)


def test_calls__with_a_budget__windows_and_leases_say_the_same_to_the_last_nano_dollar(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()

    for _ in range(100):
        spend(gate)
    gate.close()

    assert plane.total("calls") == 100
    assert plane.total("cost_nusd") == plane.settled_nusd("all") == 100 * COST_NUSD
    assert all(lease.closed for lease in plane.leases.values())


def test_calls__budget_used_up__refused_and_never_overspent(plane: FakeControlPlane) -> None:
    plane.put_budget("small", "0.001")
    gate = plane.connect()

    def spend_all() -> None:
        while True:
            spend(gate)

    with pytest.raises(tidegate.BudgetExhausted) as refused:
        spend_all()
    gate.close()

    assert refused.value.blocked_by == "acme/small"
    assert 1_000_000 - BOUND_NUSD < plane.settled_nusd("small") <= 1_000_000
    assert plane.kinds()["refused.budget_exhausted"] == 1


async def test_call__async__the_same_object(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()

    async with gate.call("chat", **CALL) as call:
        call.record(input_tokens=400, output_tokens=100)
    gate.close()

    assert plane.settled_nusd("all") == COST_NUSD


def test_call__outcome_unknown__settles_at_the_bound(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()

    with pytest.raises(RuntimeError, match="lost"), gate.call("chat", **CALL):
        raise RuntimeError("lost")
    gate.close()

    assert plane.settled_nusd("all") == plane.total("cost_nusd") == BOUND_NUSD
    assert plane.total("errors") == 1
