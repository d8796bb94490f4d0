"""What time it is: one clock for waits, one that counts suspend for leases, and the wall's for which second a count belongs to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


class Clock(Protocol):
    """Seconds, except ``wall_ms``. ``tidegate.testing.FrozenClock`` is one that tests move by hand."""

    def now(self) -> float:
        """Monotonic seconds: buckets, breakers, queues, deadlines of calls."""

    def boot(self) -> float:
        """Monotonic seconds that go on while the machine is suspended: deadlines of leases."""

    def wall_ms(self) -> int:
        """Unix milliseconds. Never decides anything but which window a count belongs to."""

    def patience(self, until: float) -> float | None:
        """Real seconds that a thread may block for something due at ``until``; ``None``: until it is woken."""

    def subscribe(self, moved: Callable[[], None]) -> None:
        """Have ``moved`` called when somebody moves the clock by hand."""


class SystemClock:
    __slots__ = ()

    now = staticmethod(time.monotonic)

    def boot(self) -> float:
        return time.clock_gettime(_BOOT) if _BOOT is not None else time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def patience(self, until: float) -> float | None:
        return max(0.0, until - time.monotonic())

    def subscribe(self, moved: Callable[[], None]) -> None:
        """Nobody moves this clock."""
