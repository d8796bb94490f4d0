"""The vectors of sdk/conformance that a server must reproduce, and that none of all of them is out of date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdk.conformance.make import FOLDER, SUBJECTS, document, written
from sdk.conformance.server import SERVER


def _kept(name: str) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return kept


VECTORS = [pytest.param(name, case, id=f"{name}: {case['name']}") for name in SERVER for case in _kept(name)["cases"]]


@pytest.mark.parametrize(("name", "case"), VECTORS)
def test_vectors__each_step_of_a_servers__what_follows_does(name: str, case: dict[str, Any]) -> None:
    for step, said in zip(case["steps"], SERVER[name](case), strict=True):
        for field, value in step["expect"].items():
            assert said[field] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), (step, field)


@pytest.mark.parametrize("name", SUBJECTS)
def test_vectors__made_anew__say_what_the_files_say(name: str) -> None:
    made, kept = json.loads(written(document(name))), _kept(name)

    assert [case["name"] for case in made["cases"]] == [case["name"] for case in kept["cases"]]
    for new, old in zip(made["cases"], kept["cases"], strict=True):
        assert [{**step, "expect": 0} for step in new["steps"]] == [{**step, "expect": 0} for step in old["steps"]]


def test_vectors__every_file__is_in_the_readme() -> None:
    told = (FOLDER / "README.md").read_text()

    assert [path.name for path in Path(FOLDER).glob("*.json") if f"`{path.name}`" not in told] == []
