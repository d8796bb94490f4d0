"""A provider, and a gate to a control plane that keeps what was reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sdk.python.tests.integrations.provider import Provider
from tidegate import Gate
from tidegate.testing import FakeControlPlane

# Nano-USD per token: input, cached input, output.
PRICES = {
    name: {"input": each * 10**6, "cached_input": each * 10**5, "output": 4 * each * 10**6}
    for name, each in (("gpt-4o-mini", 1_000), ("claude-sonnet-5", 3_000), ("embed", 100), ("gemini-2.5-pro", 2_000))
}
Told = Callable[[], dict[str, Any]]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture
def plane(plane: FakeControlPlane) -> FakeControlPlane:
    plane.put_prices(PRICES)
    return plane


@pytest.fixture
def gate(plane: FakeControlPlane) -> Iterator[Gate]:
    gate = plane.connect()
    yield gate
    gate.close()


@pytest.fixture
def told(gate: Gate, plane: FakeControlPlane) -> Told:
    """Close the gate; return the sums of what it reported."""

    def sums() -> dict[str, Any]:
        gate.close()
        total: dict[str, Any] = {"kinds": {}, "usage": {}, "models": set(), "routes": set(), "tenants": set()}
        for window in plane.windows.values():
            for row in window["rows"]:
                for name in ("calls", "errors", "refused", "retries", "fallbacks", "input_tokens", "cached_input_tokens",
                             "output_tokens", "cost_nusd"):  # fmt: skip
                    total[name] = total.get(name, 0) + row[name]
                for name in ("kinds", "usage"):
                    for key, count in row.get(name, {}).items():
                        total[name][key] = total[name].get(key, 0) + count
                for name in ("model", "route", "tenant"):
                    total[f"{name}s"].add(row[name])
        return total

    return sums
