"""The vectors of sdk/conformance that an SDK must reproduce, reproduced by this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdk.conformance.cases import cases
from sdk.conformance.subjects import CORE

FOLDER = Path(__file__).resolve().parents[3] / "conformance"
VECTORS = [
    pytest.param(name, case, id=f"{name}: {case['name']}")
    for name in CORE
    for case in json.loads((FOLDER / f"{name}.json").read_text())["cases"]
]


def close(value: Any) -> Any:
    """Return ``value`` with its floats as good as equal within 1e-9."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-9, abs=1e-12)
    if isinstance(value, dict):
        return {name: close(each) for name, each in value.items()}
    return [close(each) for each in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(("name", "case"), VECTORS)
def test_vectors__each_step__what_follows_does(name: str, case: dict[str, Any]) -> None:
    for step, said in zip(case["steps"], CORE[name](case), strict=True):
        assert json.loads(json.dumps(said)) == close(step["expect"]), step


def test_vectors__whole__are_of_the_cases_that_are_given() -> None:
    told = {name: [case["name"] for case in given] for name, given in cases().items() if name in CORE}

    kept = {name: [p.values[1]["name"] for p in VECTORS if p.values[0] == name] for name in CORE}  # type: ignore[index, call-overload]  # a case

    assert kept == told
