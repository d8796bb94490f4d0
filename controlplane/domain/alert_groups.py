"""Which alerts are told of in one message, and when: Alertmanager's grouping (dispatch/dispatch.go, notify/notify.go).

What is new of a group waits for ``wait_s``, so that what belongs together is together. After that the group says what is new at most
every ``interval_s``, with all of it that still fires. With nothing new it says the same again after ``repeat_s``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

KEYS = ("rule", "severity", "tenant", "label")


class Grouping(NamedTuple):
    """``by``: those of ``KEYS`` that alerts of one group have in common; without any, all are one group. ``repeat_s`` 0: never."""

    by: tuple[str, ...] = ("rule",)
    wait_s: int = 30
    interval_s: int = 300
    repeat_s: int = 14_400


class Said(NamedTuple):
    """What a message says: alerts that fire, those of them that are new, and those that are over."""

    firing: frozenset[int]
    fresh: frozenset[int] = frozenset()
    over: frozenset[int] = frozenset()

    @property
    def worth_it(self) -> bool:
        """Whether there is anything new in it."""
        return bool(self.fresh or self.over)


def key_of(by: Iterable[str], labels: Mapping[str, str]) -> dict[str, str]:
    """Return what names the group of an alert: its labels of ``by``."""
    return {name: labels.get(name, "") for name in KEYS if name in set(by)}


def due_at(grouping: Grouping, *, first_at: datetime | None, told_at: datetime | None) -> datetime | None:
    """Return when a group has to be looked at: ``first_at`` is when the oldest of its untold news came, ``told_at`` when it last spoke.

    ``None`` when there will be nothing to say.
    """
    if first_at is not None:
        waited = first_at + timedelta(seconds=grouping.wait_s)
        return waited if told_at is None else max(first_at, told_at + timedelta(seconds=grouping.interval_s))
    if told_at is not None and grouping.repeat_s:
        return told_at + timedelta(seconds=grouping.repeat_s)
    return None


def told_of(known: Collection[int], news: Iterable[tuple[int, bool]]) -> Said:
    """Return what to say of ``news`` (alert, whether it fires; in order of time) to somebody who was told that ``known`` fire.

    What began and ended since then is not told, as in Alertmanager; what ended and began again is told as new.
    """
    last: dict[int, bool] = {}
    begun: set[int] = set()
    for alert, on in news:
        last[alert] = on
        if on:
            begun.add(alert)
    over = {alert for alert, on in last.items() if not on}
    fresh = begun - over
    return Said(frozenset((set(known) - over) | fresh), frozenset(fresh), frozenset(over & set(known)))
