"""What gobreaker, resilience4j, Polly, pybreaker, x/time/rate, doorman and concurrency-limits agree on, decided here.

The tables and their runner lie beside a developer's checkout; where they are absent, these tests are skipped.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.peers.adapters import ADAPTERS

SUITES = Path(__file__).resolve().parents[3] / "shared" / "suites"
# How many cases of each table must be there and pass: a table that is empty, or left out as a whole, proves nothing.
LEAST = {"circuit_breaker": 31, "token_bucket": 22, "backoff": 11, "concurrency_limit": 3, "lease_share": 6}


def _tables() -> list[Any]:
    cases = []
    for name in ADAPTERS:
        path = SUITES / "tables" / f"{name}.json"
        found = json.loads(path.read_text())["cases"] if path.is_file() else []
        cases += [pytest.param(name, case, id=f"{name}-{case['id']}") for case in found]
    return cases


@pytest.fixture(scope="module")
def runner(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("replay", shared / "suites" / "replay" / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("table", "case"), _tables())
def test_table__case__what_must_follow_does(runner: ModuleType, table: str, case: dict[str, Any]) -> None:
    adapter = ADAPTERS[table]()
    excluded = adapter.unsupported(case)
    if excluded:
        pytest.skip(f"Not in our dialect: {excluded}")
    subject = json.loads((SUITES / "tables" / f"{table}.json").read_text())["subject"]

    runner.RUN[subject](adapter, case)


def test_tables__whole__what_is_left_out_is_the_exception(shared: Path) -> None:
    run = Counter(each.values[0] for each in _tables() if not ADAPTERS[each.values[0]]().unsupported(each.values[1]))

    assert {name: run[name] >= least for name, least in LEAST.items()} == dict.fromkeys(LEAST, True)


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=list(ADAPTERS))
def test_dialect__whatever_is_left_out__is_declared_to_people(adapter: Any) -> None:
    told = (Path(__file__).resolve().parents[2] / "docs" / "resilience.md").read_text()

    assert [name for name in adapter.excluded if f"`{name}`" not in told] == []
