"""Calls that are priced, and how they end."""

from __future__ import annotations

from typing import Any

import pytest

from sdk.python.tests.bench import Bench

PRICED = {"model": "gpt-4o-mini", "input_tokens": 400, "max_output_tokens": 800}
BOUND, COST = 540_000, 120_000


class Turned(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


def spend(bench: Bench, **options: Any) -> None:
    with bench.call(**{**PRICED, **options}) as call:
        call.record(input_tokens=400, output_tokens=100)


def fail(bench: Bench, error: BaseException, **options: Any) -> None:
    with pytest.raises(type(error)), bench.call(**options):
        raise error
