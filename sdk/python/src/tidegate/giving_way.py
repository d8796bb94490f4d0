"""A lock that threads take without queueing for it, as long as that may be helped.

Whoever queues is handed the lock, still needs the interpreter, and meanwhile all others queue, too: threads that need the lock ten
thousand times a second would pass the interpreter on each time, and once they do they go on doing it. Who rests instead needs
neither, so that who holds the lock gets the interpreter and lets go. A rest of no time at all is none: who asks for the
interpreter again at once has it before anybody else has woken.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

# In all a little more than a thread may keep the interpreter.
PAUSES_S = (0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032)

if TYPE_CHECKING:

    class _RLock:
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
        def release(self) -> None: ...
        def _is_owned(self) -> bool: ...
        def __exit__(self, *_: object) -> None: ...

else:
    _RLock = type(threading.RLock())  # CPython's own, whose ``__exit__`` nothing interrupts


class Lock(_RLock):
    """As ``threading.RLock``; ``with`` gives way for some milliseconds before it queues."""

    __slots__ = ()

    def __enter__(self) -> bool:
        if self._is_owned():
            return self.acquire()
        try:
            for pause_s in PAUSES_S:
                if self.acquire(blocking=False):
                    return True
                time.sleep(pause_s)
            return self.acquire()
        except BaseException:  # out of a signal's handler, perhaps when the lock was taken just now
            if self._is_owned():
                self.release()
            raise
