"""Points: the published vectors, and that they are even, sticky, monotone and independent."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.bucketing import METHODS, PARTS, growthbook_1, growthbook_2, launchdarkly, murmur3, point, unleash

VECTORS = json.loads((Path(__file__).parents[3] / "conformance" / "bucketing.json").read_text())["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: f"{each['method']}:{each['salt'][:8]}:{each['unit'][:8]}")
def test_point__published_vector__is_reproduced(vector: dict[str, Any]) -> None:
    assert METHODS[vector["method"]](vector["salt"], vector["unit"]) == vector["point"]


# From the test suites of growthbook-python (MIT), launchdarkly's python-server-sdk (Apache-2.0), and MurmurHash3's own.
@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (growthbook_1("", "a"), 0.22),
        (growthbook_1("", "b"), 0.077),
        (growthbook_2("seed", "a"), 0.0505),
        (growthbook_2("seed", "b"), 0.2696),
        (launchdarkly("hashKey.saltyA", "userKeyA"), 0.42157587),
        (launchdarkly("hashKey.saltyA", "userKeyB"), 0.6708485),
        (launchdarkly("61", "userKeyA"), 0.09801207),
        (unleash("gr1", "123"), 0.72),
    ],
)
def test_point__other_vendors_published_value__is_the_same(got: int, expected: float) -> None:
    assert got / PARTS == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [(b"", 1, 0x514E28B7), (b"test", 0, 0xBA6BD213), (b"Hello, world!", 0x9747B28C, 0x24884CBA)],
)
def test_murmur3__reference_input__gives_the_reference_value(data: bytes, seed: int, expected: int) -> None:
    assert murmur3(data, seed) == expected


@given(st.sampled_from(sorted(METHODS)), st.text(max_size=100), st.text(max_size=100))
def test_point__any_text__lies_on_the_line(method: str, salt: str, unit: str) -> None:
    assert 0 <= METHODS[method](salt, unit) < PARTS


def test_point__lone_surrogate__passes() -> None:
    assert 0 <= point("\ud800", "\udfff") < PARTS


@pytest.mark.slow
def test_point__a_million_units__are_even_and_independent_of_other_deployments() -> None:
    n = 1_000_000
    first = bytearray(n)
    counts = [0] * 100
    for i in range(n):
        at = point("one", f"user-{i}")
        counts[at * 100 // PARTS] += 1
        first[i] = at < 50_000
    both = sum(first[i] and point("two", f"user-{i}") < 50_000 for i in range(n))

    chi_square = sum((count - n / 100) ** 2 / (n / 100) for count in counts)
    assert chi_square < 99 + 5 * math.sqrt(2 * 99)
    assert abs(sum(first) - 50_000) < 5 * math.sqrt(n * 0.05 * 0.95)
    assert abs(both - 2_500) < 5 * math.sqrt(n * 0.0025)
