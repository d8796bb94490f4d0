"""What the garbage collector passes over, in processes that live for long."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from celery.signals import worker_ready

import controlplane.celery  # noqa: F401 - what it says to do when a worker is ready


@pytest.fixture
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_worker__ready__has_what_it_loaded_passed_over(collector: None) -> None:
    assert gc.get_freeze_count() == 0

    worker_ready.send(sender=None)

    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold()[0] > 10_000
