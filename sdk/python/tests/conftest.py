"""Fixtures of the SDK's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sdk.python.tests.bench import Bench
from tidegate.testing import FakeControlPlane


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    """A control plane over real HTTP."""
    with FakeControlPlane() as running:
        yield running
