"""A control plane over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tidegate.testing import FakeControlPlane


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as running:
        yield running
