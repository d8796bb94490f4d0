"""What was measured in all steps of a time, by column: one object for thousands of steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from controlplane.telemetry.queries.measures import UNKNOWN, Latencies, Measured


class Steps(Sequence[Measured]):
    """What was measured of one group in each step, the oldest first. Steps without windows have nothing in ``known``, and zeros.

    A ``Measured`` is made of a step when it is asked for; who looks at all of them reads the columns.
    """

    __slots__ = ("counts", "known", "latency_ms", "queue_depth", "seconds", "sessions")

    def __init__(self, seconds: float, count: int, names: Sequence[str]) -> None:
        self.seconds = seconds
        self.known = bytearray(count)
        self.counts: dict[str, list[int]] = {name: [0] * count for name in names}
        self.latency_ms: list[Latencies] = [UNKNOWN] * count
        self.queue_depth: list[float | None] = [None] * count
        self.sessions = [0.0] * count

    def __len__(self) -> int:
        return len(self.known)

    @overload
    def __getitem__(self, place: int) -> Measured: ...

    @overload
    def __getitem__(self, place: slice) -> list[Measured]: ...

    def __getitem__(self, place: int | slice) -> Measured | list[Measured]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not self.known[place]:
            return Measured(self.seconds)
        counts = {name: column[place] for name, column in self.counts.items()}
        return Measured(self.seconds, counts, self.latency_ms[place], self.queue_depth[place], self.sessions[place])

    def __iter__(self) -> Iterator[Measured]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # they can be written to

    def put(self, place: int, measured: Measured) -> None:
        """Say what was measured in one step."""
        self.known[place] = 1
        for name, column in self.counts.items():
            column[place] = measured[name]
        self.latency_ms[place] = measured.latency_ms
        self.queue_depth[place] = measured.queue_depth
        self.sessions[place] = measured.sessions
