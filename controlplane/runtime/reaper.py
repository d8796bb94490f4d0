"""The process that outlives a supervisor which was killed: it ends those of its children who would not stop.

A child is told by the kernel when its parent dies, and may still wait for a database or a broker that died as well. The
supervisor writes here which process groups it has (``+1234``) and has no longer (``-1234``). The end of that pipe is the end of
the supervisor; groups that are left have ``GRACE_S`` to stop by themselves.

Run as a file of its own, with nothing but the standard library, so that it costs little and starts at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

GRACE_S = 15.0
_LOOK_S = 0.1


def groups_left(lines: Iterable[str]) -> set[int]:
    """Return the process groups that ``lines``, up to their end, added and did not take away."""
    groups: set[int] = set()
    for line in lines:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    return groups


def is_alive(group: int) -> bool:
    """Whether any process is in ``group``."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def reap(groups: set[int], *, grace_s: float = GRACE_S) -> None:
    """Kill those of ``groups`` that are still there after ``grace_s``.

    They are looked at all the time, so that one which ended is never confused with a later one of the same number.
    """
    deadline = time.monotonic() + grace_s
    while groups := {group for group in groups if is_alive(group)}:
        if time.monotonic() >= deadline:
            for group in groups:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
            return
        time.sleep(_LOOK_S)


if __name__ == "__main__":
    reap(groups_left(sys.stdin))
