"""Costs on which two public price lists agree (``shared/suites/tables/cost_oracle.json``), to the last nano-USD."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from controlplane.budgets import price_list
from tidegate.core.price import PriceBook, compile_price_book


@pytest.fixture(scope="module")
def oracle(shared: Path) -> dict[str, Any]:
    table = shared / "suites" / "tables" / "cost_oracle.json"
    return dict(json.loads(table.read_text()))


@pytest.fixture(scope="module")
def book() -> PriceBook:
    catalog = price_list.compiled(datetime.now(UTC))
    made = compile_price_book({"format": 1, "models": price_list.listed(catalog), "catalog": catalog})
    made.turn(9 * 3600)  # the oracle has the prices of working hours
    return made


def test_cost__every_case_of_the_oracle__the_cost_rounded_half_up(oracle: dict[str, Any], book: PriceBook) -> None:
    differing = []
    for case in oracle["cases"]:
        counts = {name: case[name] for name in ("input_tokens", "cached_input_tokens", "output_tokens")}
        exact = Fraction(case["usd"]) * 10**9
        cost = book.cost_nusd(case["model"], **counts)
        if cost != int(exact + Fraction(1, 2)):
            differing.append((case, cost))

    assert differing == []


def test_cost__all_cases_of_the_oracle_together__their_total(oracle: dict[str, Any], book: PriceBook) -> None:
    total = sum(
        book.cost_nusd(
            case["model"],
            input_tokens=case["input_tokens"],
            cached_input_tokens=case["cached_input_tokens"],
            output_tokens=case["output_tokens"],
        )
        or 0
        for case in oracle["cases"]
    )

    assert abs(total - Fraction(oracle["total_usd"]) * 10**9) < len(oracle["cases"])
