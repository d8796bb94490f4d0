"""What tests of lending share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from sdk.python.tests.lending.lender import PLENTY, Lender
from tidegate import cells, lending
from tidegate.leasing import Leases


@pytest.fixture
def lender() -> Lender:
    return Lender()


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that ask for more than anybody needs: what is granted depends on the test alone."""
    monkeypatch.setattr(Leases, "want", lambda *_, **__: PLENTY)


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loans of which little gets credit at a time, and few calls are many."""
    monkeypatch.setattr(lending, "STEP", 40)
    monkeypatch.setattr(cells, "MANY_TIMES", 16)
    monkeypatch.setattr(cells, "MANY_CALLS", 8)


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads that change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
