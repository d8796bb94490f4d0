"""How many calls may run at once when nobody knows what the other side can bear.

``gradient`` compares how long things take lately with how long they take at best, and lets a little more run while there is
no difference. Calls to models last as long as their answers are long, so what is compared is the time to the first token,
else the seconds per token, else, when nothing better was told, the whole. Each is held against its own past: what comes out
are ratios, which mix. What is slow because many run must not pass for normal, and what has become slow for reasons of its own
must not hold the limit down for ever: so while the limit is held down, now and then a few calls alone show what is best now.

``aimd`` knows only calls that went wrong: one more for each good call, a tenth less for a bad one. With either, a call that was
turned down, failed at the other side or timed out takes a tenth off, once per round: calls that were under way already when
that happened say nothing new.
"""

from __future__ import annotations

import math
from typing import Literal

Signal = Literal["first", "token", "whole"]

BACKOFF = 0.9
TOLERANCE = 2.0  # times as long as at best is still no sign of a queue
STEEPEST = 0.5
SMOOTHING = 0.2
RECENT = 0.1
WARM = 20  # samples before the best is held against what comes
PROBE_ROUNDS = 20  # of as many calls as the limit, held down, before a probe
PROBE_PART = 0.1
PROBE_SAMPLES = 10


class _Course:
    """One signal: how long it takes at best, and lately."""

    __slots__ = ("best", "count", "lately", "probed")

    def __init__(self) -> None:
        self.best = self.lately = 0.0
        self.count = 0
        self.probed: list[float] = []

    def add(self, seconds: float) -> None:
        self.count += 1
        self.lately += (seconds - self.lately) * max(RECENT, 1 / self.count)
        if self.count <= WARM or self.lately < self.best:
            self.best = self.lately

    @property
    def slope(self) -> float:
        """Return by how much less may run: 1.0 while nothing takes notably longer than at best."""
        return max(STEEPEST, min(1.0, TOLERANCE * self.best / self.lately)) if self.lately > 0 else 1.0


class Adaptive:
    """The limit of one line. ``bounded`` is what holds now."""

    __slots__ = ("_alone_since", "_courses", "_cut_at", "_held_down", "_least", "_most", "_probing", "limit")

    def __init__(self, limit: float) -> None:
        self.limit = float(limit)
        self._least, self._most = 1, int(limit)
        self._courses: dict[Signal, _Course] = {}
        self._cut_at = -math.inf
        self._held_down = 0  # calls since the limit was found too high, or was probed
        self._probing = False
        self._alone_since: float | None = None  # few enough run since then

    @property
    def whole(self) -> int:
        return int(self.limit + 1e-9)

    def best(self, signal: Signal) -> float | None:
        """Return the seconds that ``signal`` takes at best, ``None`` while nobody has told."""
        course = self._courses.get(signal)
        return course.best if course is not None else None

    def bounded(self, least: int, most: int) -> int:
        """Keep the limit within bounds, so that it does not wander off while it does not bind; return what holds now."""
        self._least, self._most = least, most
        self.limit = min(float(most), max(float(least), self.limit))
        return self._few() if self._probing else self.whole

    def _few(self) -> int:
        return max(self._least, min(self.whole, math.ceil(self.limit * PROBE_PART)))

    def dropped(self, *, started: float, now: float) -> None:
        """A call that began at ``started`` was turned down, failed at the other side or took too long."""
        if started >= self._cut_at:
            self.limit *= BACKOFF
            self._cut_at = now

    def aimd(self, *, running: int) -> None:
        """A call went well while ``running`` ran, itself included."""
        if running * 2 >= self.whole:
            self.limit = math.floor(self.limit + 1e-9) + 1.0

    def gradient(self, signal: Signal, seconds: float, *, running: int, started: float, now: float) -> None:
        """A call that began at ``started`` went well and took ``seconds`` by ``signal`` while ``running`` ran, itself included."""
        course = self._courses.setdefault(signal, _Course())
        if self._probing:
            self._probe(course, seconds, running=running, started=started, now=now)
            return
        course.add(seconds)
        if running * 2 < self.limit:
            return  # the limit did not bind: this says nothing about it
        slope = course.slope
        self._held_down = self._held_down + 1 if slope < 1 else 0 if self.limit >= self._most else self._held_down
        if self._held_down > PROBE_ROUNDS * self.limit:
            self._probing, self._held_down, self._alone_since = True, 0, None
        aim = self.limit * slope + math.sqrt(self.limit)
        self.limit += SMOOTHING * (aim - self.limit)

    def _probe(self, course: _Course, seconds: float, *, running: int, started: float, now: float) -> None:
        if self._alone_since is None:
            if running <= self._few():
                self._alone_since = now
            return
        if started < self._alone_since:
            return
        course.probed.append(seconds)
        if len(course.probed) >= PROBE_SAMPLES:
            course.best = course.lately = sum(course.probed) / len(course.probed)
            for each in self._courses.values():
                each.probed.clear()
            self._probing = False
