"""What a rule measures over time: samples of one thing, and when it fires by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from controlplane.domain.alerts import Episode, Timing, backtest

STEP_S = 300
MOST_TRACKS = 8


class Sample(NamedTuple):
    """One evaluation. ``holds`` is ``None`` when there was nothing to measure."""

    at: datetime
    value: float | None
    holds: bool | None


Held = dict[str, list[Sample]]  # by label


@dataclass(frozen=True)
class Track:
    """One thing that a rule watches."""

    label: str
    samples: Sequence[Sample]
    episodes: Sequence[Episode]


@dataclass(frozen=True)
class Tried:
    """When a rule would have fired. ``unit`` names what the values are of; ``limit`` is what they are held against, if one.

    ``note`` says what of it is not as the rule itself would have seen it.
    """

    tracks: Sequence[Track]
    limit: float | None
    unit: str
    note: str = ""

    @property
    def episodes(self) -> list[Episode]:
        return sorted((each for track in self.tracks for each in track.episodes), key=lambda each: each.begins)

    @property
    def steps(self) -> int:
        return max((len(track.samples) for track in self.tracks), default=0)

    @property
    def measured(self) -> int:
        """How many evaluations had something to measure, of the track that had most."""
        return max((sum(each.holds is not None for each in track.samples) for track in self.tracks), default=0)


def track_of(label: str, samples: Sequence[Sample], timing: Timing) -> Track:
    """Return a track with the times in which it would have fired."""
    return Track(label, samples, backtest(((each.at, each.holds) for each in samples), timing))
