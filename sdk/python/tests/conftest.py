"""Fixtures of the SDK's tests."""

from __future__ import annotations

import pytest

from sdk.python.tests.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
