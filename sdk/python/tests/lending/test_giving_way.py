"""Taking a lock without queueing for it: whoever holds it may finish first, and it is taken all the same."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tidegate.giving_way import Lock


class Stopped(BaseException):
    """What a signal's handler raises."""


def taken_by_others(lock: Lock) -> bool:
    """Return whether another thread finds the lock taken."""
    found: list[bool] = []

    def look() -> None:
        if lock.acquire(blocking=False):
            lock.release()
            found.append(False)
        else:
            found.append(True)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(10)
    return found[0]


def test_lock__free__held_until_the_end_of_with() -> None:
    lock = Lock()

    with lock:
        assert taken_by_others(lock)
        with lock:
            pass
        assert taken_by_others(lock)

    assert not taken_by_others(lock)


def test_lock__held_for_long__waits_until_it_is_let_go() -> None:
    lock, taken = Lock(), threading.Event()

    def take() -> None:
        with lock:
            taken.set()

    thread = threading.Thread(target=take)
    with lock:
        thread.start()
        assert not taken.wait(0.05)
    thread.join(10)

    assert taken.is_set()
    assert not taken_by_others(lock)


def test_lock__stopped_while_it_rests__not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock()
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            ready.set()
            done.wait(10)

    def stop(_: float) -> None:
        raise Stopped

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(10)
    monkeypatch.setattr(time, "sleep", stop)
    with pytest.raises(Stopped), lock:
        pass
    done.set()
    thread.join(10)

    assert not taken_by_others(lock)


def test_lock__stopped_when_it_was_taken_just_now__let_go() -> None:
    class Interrupted(Lock):
        def acquire(self, *args: Any, **options: Any) -> bool:
            super().acquire(*args, **options)
            raise Stopped

    lock = Interrupted()
    with pytest.raises(Stopped), lock:
        pass

    assert not lock._is_owned()
