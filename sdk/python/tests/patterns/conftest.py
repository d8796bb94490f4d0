"""Two processes' gates to a control plane."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tidegate
from tidegate.testing import FakeControlPlane


@pytest.fixture
def gate(plane: FakeControlPlane) -> Iterator[tidegate.Gate]:
    with plane.connect(app="here") as made:
        yield made


@pytest.fixture
def other(plane: FakeControlPlane) -> Iterator[tidegate.Gate]:
    """The gate of another process."""
    with plane.connect(app="there") as made:
        yield made
