"""Taking a lock without queueing for it: whoever holds it may finish first, and it is taken all the same."""

from __future__ import annotations

import threading

from tidegate.lending import take_giving_way


def test_take_giving_way__free__has_the_lock() -> None:
    lock = threading.Lock()

    take_giving_way(lock)

    assert lock.locked()


def test_take_giving_way__held_for_long__waits_until_it_is_let_go() -> None:
    lock, taken = threading.Lock(), threading.Event()
    lock.acquire()

    def take() -> None:
        take_giving_way(lock)
        taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.wait(0.05)
    lock.release()
    thread.join(10)

    assert taken.is_set()
    assert lock.locked()
