"""Until when a closed lease is kept, and what is known of those that are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from controlplane.domain.periods import leaves_window

NO_FLOOR = -1


class Span(NamedTuple):
    """How long an account on the path of a lease counts: to the end of its period, or over ``days`` that roll."""

    ends_at: datetime | None = None
    days: int | None = None
    finishes: bool = False  # its leases may be finished while the server is not heard of


class Named(Protocol):
    """What names a lease."""

    @property
    def incarnation(self) -> UUID: ...
    @property
    def number(self) -> int: ...


def kept_until(seen_at: datetime, path: Iterable[Span], keep: timedelta) -> datetime:
    """Return until when a lease is kept that was heard of last at ``seen_at``.

    So long after that, and never shorter than a period or a rolling window on its path in which it counts: what was charged by
    mistake in the present one can be taken back.
    """
    until = seen_at + keep
    for span in path:
        if span.ends_at is not None:
            until = max(until, span.ends_at)
        if span.days is not None:
            until = max(until, leaves_window(span.days, seen_at))
    return until


def may_still_spend(path: Iterable[Span]) -> bool:
    """Return whether the lease of a holder that is not heard of may be spent from, however long ago it was heard of.

    Where leases are finished without the server, only the end of a period ends them.
    """
    spans = list(path)
    return any(span.finishes for span in spans) and all(span.ends_at is None for span in spans)


def is_folded(report: Named, floors: Mapping[UUID, int]) -> bool:
    """Return whether a report of a lease that is not known speaks of one that was closed and has been folded.

    ``floors`` are the greatest numbers of folded leases. Numbers ascend in an incarnation: a new lease has a greater one.
    """
    return report.number <= floors.get(report.incarnation, NO_FLOOR)
