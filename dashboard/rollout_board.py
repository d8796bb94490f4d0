"""The board of rollouts: a column per ring, a card per rollout, and what is said and may be done on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.domain.rollout import ENDED, OPEN, WAITING, RingPlan, in_shadow, ring_of
from controlplane.rollouts import findings, queries
from controlplane.rollouts.actions.rollouts import DEFAULTS
from controlplane.rollouts.convergence import convergence_of
from controlplane.rollouts.findings import Figures
from controlplane.rollouts.models import Freeze, Rollout
from dashboard import figures
from dashboard.rollout_acts import Acts, acts_of, named, share_words
from dashboard.rollout_words import Converged, Line, Meter, changes_of, converged_of, lines_of, meter_of, outcome_of
from tidegate.core.bucketing import PARTS

ENDED_SHOWN = timedelta(days=7)
MOST_ENDED = 5
_PILLS = {
    "draft": ("mute", "Draft"),
    "approval": ("half watch", "Asks approval"),
    "scheduled": ("half info", "Scheduled"),
    "running": ("half can", "Baking"),
    "paused": ("half watch", "Paused"),
    "held": ("half watch", "Held"),
    "promoting": ("half can", "Promoting"),
    "complete": ("ok", "Complete"),
    "rolled_back": ("sq trouble", "Rolled back"),
    "aborted": ("mute", "Aborted"),
}
Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Card:
    rollout: Rollout
    tone: str
    pill: str
    changes: str
    lines: Sequence[Line]
    meter: Meter | None
    says: str
    converged: Converged | None
    due: str
    frozen: str
    acts: Acts
    hot: bool


@dataclass(frozen=True)
class Glance:
    """A rollout in one row."""

    rollout: Rollout
    tone: str
    pill: str
    meter: Meter | None
    says: str


@dataclass(frozen=True)
class Column:
    name: str
    says: str
    cards: Sequence[Card]


def columns_of(rollouts: Iterable[Rollout], *, now: datetime, chosen: int | None, may_operate: bool) -> list[Column]:
    """Return the columns: what is not running yet, the rings by share, and what has ended lately."""
    shown = [each for each in rollouts if each.phase in OPEN or _ended_lately(each, now)]
    found = findings.figures_of(shown)
    freezes = queries.freezes_on(now=now)
    cards = [
        card_of(each, found[each.pk], now=now, freezes=freezes, chosen=chosen, may_operate=may_operate)
        for each in shown
    ]
    live = [card for card in cards if card.rollout.phase in OPEN]
    columns = [
        Column(name, says, [card for card in live if _place(card.rollout) == name])
        for name, says in _rings_of([card.rollout for card in live])
    ]
    waiting = [card for card in live if _place(card.rollout) == ""]
    if waiting:
        columns.insert(0, Column("Waiting", "not begun", waiting))
    ended = [card for card in cards if card.rollout.phase in ENDED][:MOST_ENDED]
    return [*columns, Column("Ended", "last 7 days", ended)]


def _ended_lately(rollout: Rollout, now: datetime) -> bool:
    return rollout.ended_at is not None and now - rollout.ended_at < ENDED_SHOWN


def _rings_of(rollouts: Iterable[Rollout]) -> list[tuple[str, str]]:
    """Return the rings of all rollouts by name with what they hold, from left to right; the usual ones when there are none."""
    found: dict[str, set[tuple[int, str]]] = {}
    for rollout in rollouts:
        for name, share, says in _rings_in(rollout):
            found.setdefault(name, set()).add((share, says))
    if not found:
        found = {ring.name: {(_order(ring), share_words(ring))} for ring in DEFAULTS["rings"]}
    ordered = sorted((min(holds)[0], name, sorted(holds)) for name, holds in found.items())
    return [(name, " or ".join(says for _, says in holds)) for _, name, holds in ordered]


def _rings_in(rollout: Rollout) -> list[tuple[str, int, str]]:
    if rollout.strategy == "blue_green":
        return [("Everyone", 2 * PARTS, "100 %")]
    return [(ring.name, _order(ring), share_words(ring)) for ring in rollout.plan.rings]


def _order(ring: RingPlan) -> int:
    """From left to right: the shadow, rings that name somebody, shares of everybody."""
    return ring.share + (-PARTS if ring.shadow else 0 if named(ring) else PARTS)


def _place(rollout: Rollout) -> str:
    if rollout.phase in WAITING:
        return ""
    if rollout.strategy == "blue_green":
        return "Everyone"
    return rollout.plan.rings[-1].name if rollout.phase == "promoting" else ring_of(rollout.state, rollout.plan).name


def card_of(
    rollout: Rollout,
    arms: Figures,
    *,
    now: datetime,
    freezes: Sequence[Freeze] = (),
    chosen: int | None = None,
    may_operate: bool = False,
) -> Card:
    """Return the card of one rollout."""
    tone, pill = _pill(rollout)
    live = _live(rollout)
    convergence = convergence_of(rollout, now=now) if live else None
    return Card(
        rollout=rollout,
        tone=tone,
        pill=pill,
        changes=changes_of(rollout.previous.config, rollout.release.config),
        lines=lines_of(arms) if live and (arms.stable.calls or arms.candidate.calls) else (),
        meter=_evidence(rollout, now),
        says=outcome_of(rollout, arms),
        converged=converged_of(rollout, convergence) if convergence is not None else None,
        due=_due(rollout, now),
        frozen=queries.frozen_by(freezes, rollout.deployment) if rollout.phase in OPEN else "",
        acts=acts_of(rollout) if may_operate else Acts(),
        hot=rollout.pk == chosen,
    )


def glance_of(rollout: Rollout, *, now: datetime) -> Glance:
    """Return the row of one rollout that is under way."""
    tone, pill = _pill(rollout)
    meter = _evidence(rollout, now)
    said = (meter.says if meter is not None else "") or rollout.reason
    return Glance(rollout, tone, pill, meter, said or changes_of(rollout.previous.config, rollout.release.config))


def _live(rollout: Rollout) -> bool:
    return rollout.phase in OPEN - WAITING


def _evidence(rollout: Rollout, now: datetime) -> Meter | None:
    if not _live(rollout) or rollout.strategy == "blue_green":
        return None
    return meter_of(rollout, findings.findings_of(rollout), now)


def _due(rollout: Rollout, now: datetime) -> str:
    """Count down to what happens by itself."""
    if rollout.phase == "scheduled" and rollout.starts_at is not None:
        left_s = max(0.0, (rollout.starts_at - now).total_seconds())
        return f"Starts in {figures.span(left_s)}, on {rollout.starts_at:%Y-%m-%d %H:%M} UTC"
    if rollout.phase in WAITING and rollout.starts_at is not None:
        return f"To start on {rollout.starts_at:%Y-%m-%d %H:%M} UTC"
    due = queries.decides_by(rollout)
    if due is None or rollout.phase != "running" or rollout.asks:
        return ""
    left_s = (due - now).total_seconds()
    ring = ring_of(rollout.state, rollout.plan)
    if left_s <= 0:
        return "Decides now"
    return f"{'Goes on' if ring.gate == 'time' else 'Decides'} within {figures.span(left_s)}"


def _pill(rollout: Rollout) -> tuple[str, str]:
    if rollout.phase == "running" and rollout.asks:
        return "half watch", "Asks approval"
    if rollout.phase == "running" and rollout.strategy == "blue_green":
        return ("ok", "Green live") if rollout.flipped else ("info", "Blue live")
    if rollout.phase == "running" and in_shadow(rollout.state, rollout.plan):
        return "half info", "In the shadow"
    return _PILLS[rollout.phase]
