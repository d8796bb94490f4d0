"""The board of rollouts: a column per ring, a card per rollout, and what is said and may be done on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controlplane.domain.rollout import ENDED, OPEN, WAITING, RingPlan, in_shadow
from controlplane.rollouts import findings, queries
from controlplane.rollouts.actions.rollouts import DEFAULTS
from controlplane.rollouts.convergence import Convergence, convergence_of
from controlplane.rollouts.findings import ArmFigures, Figures, Findings
from controlplane.rollouts.models import Freeze, Rollout
from dashboard import figures
from dashboard.rollout_acts import Acts, acts_of, named, share_words
from tidegate.core.bucketing import PARTS

ENDED_SHOWN = timedelta(days=7)
MOST_ENDED = 5
MOST_CHANGES = 3
LEAST_SHOWN_NUSD = 1_000_000  # a tenth of a cent
WORSE = 1.25
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
class Line:
    """One figure of both arms. ``tone`` judges the candidate's."""

    name: str
    stable: str
    candidate: str
    tone: str


@dataclass(frozen=True)
class Meter:
    """Evidence on its way from 0 to 100."""

    name: str
    value: int
    tone: str
    says: str


@dataclass(frozen=True)
class Converged:
    """How many clients run the last change, in percent and in words."""

    part: int
    tone: str
    says: str


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
    rings: dict[str, tuple[int, str]] = {}
    for card in live:
        for name, share, says in _rings_of(card.rollout):
            rings.setdefault(name, (share, says))
    if not rings:
        rings = {ring.name: (ring.share, share_words(ring)) for ring in DEFAULTS["rings"]}
    ordered = sorted(rings.items(), key=lambda item: item[1][0])
    columns = [
        Column(name, says, [card for card in live if _place(card.rollout) == name]) for name, (_, says) in ordered
    ]
    waiting = [card for card in live if _place(card.rollout) == ""]
    if waiting:
        columns.insert(0, Column("Waiting", "not begun", waiting))
    ended = [card for card in cards if card.rollout.phase in ENDED][:MOST_ENDED]
    return [*columns, Column("Ended", "last 7 days", ended)]


def _ended_lately(rollout: Rollout, now: datetime) -> bool:
    return rollout.ended_at is not None and now - rollout.ended_at < ENDED_SHOWN


def _rings_of(rollout: Rollout) -> list[tuple[str, int, str]]:
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
    rings = rollout.plan.rings
    return rings[-1].name if rollout.phase == "promoting" else rings[min(rollout.ring, len(rings) - 1)].name


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
        lines=lines_of(arms) if live or rollout.phase in ENDED else (),
        meter=_evidence(rollout, now),
        says=_says(rollout, arms),
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


def converged_of(rollout: Rollout, found: Convergence) -> Converged:
    """Say how far the last change has come, how fast, and who does not have it."""
    if not found.clients:
        return Converged(0, "mute", f"No client is connected{f', {found.silent} fell silent' if found.silent else ''}.")
    took_ms = found.p99_ms if found.took_ms else applied_ms(rollout)
    lag = found.clients - found.on_it
    parts = [
        f"{found.on_it} of {found.clients} clients run it",
        f"99 % within {figures.duration(took_ms * 1000)}" if took_ms is not None else "",
        f"{lag} lag{'s' if lag == 1 else ''}" if lag else "",
        f"{found.silent} silent" if found.silent else "",
        f"{len(found.refused)} refused it" if found.refused else "",
    ]
    tone = "trouble" if found.refused else "watch" if lag else "ok"
    return Converged(round(100 * found.on_it / found.clients), tone, " · ".join(part for part in parts if part))


def applied_ms(rollout: Rollout) -> int | None:
    """Return how long 99 % of the clients took for the last change, as far as that was seen."""
    known: int | None = rollout.applied.get("p99_ms") if rollout.applied.get("step") == rollout.step else None
    return known


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
    ring = rollout.plan.rings[min(rollout.ring, len(rollout.plan.rings) - 1)]
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


def changes_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Say in short how a config differs: ``temperature 0.4 → 0.2, prompt v18 → v19``."""
    differing = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    said = [f"{name} {_short(before.get(name))} → {_short(after.get(name))}" for name in differing[:MOST_CHANGES]]
    more = len(differing) - MOST_CHANGES
    return ", ".join(said) + (f" and {more} more" if more > 0 else "")


def _short(value: Any) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 24 else f"{text[:23]}…"


def lines_of(arms: Figures) -> list[Line]:
    """Return the figures of both arms side by side."""
    stable, candidate = arms

    def line(name: str, a: float, b: float, words: Callable[[float], str]) -> Line:
        return Line(
            name,
            words(a) if stable.calls else "–",
            words(b) if candidate.calls else "–",
            _tone(stable, candidate, a, b),
        )

    return [
        line("Errors", stable.error_rate, candidate.error_rate, figures.percent),
        line("p50", stable.p50_us, candidate.p50_us, lambda value: str(figures.duration(value))),
        *(
            [
                line(
                    "First token p50",
                    stable.ttft_p50_us,
                    candidate.ttft_p50_us,
                    lambda value: str(figures.duration(value)),
                )
            ]
            if stable.ttft_p50_us and candidate.ttft_p50_us
            else []
        ),
        line("p99", stable.p99_us, candidate.p99_us, lambda value: str(figures.duration(value))),
        _cost_line(arms, line),
        line("Tokens / call", stable.tokens_per_call, candidate.tokens_per_call, figures.count),
        Line("Requests", f"{stable.calls:,}", f"{candidate.calls:,}", "dim"),
    ]


def _cost_line(arms: Figures, line: Callable[[str, float, float, Callable[[float], str]], Line]) -> Line:
    """Return what a call costs; what a thousand cost where one is worth less than can be shown."""
    a, b = (side.cost_nusd / side.calls if side.calls else 0.0 for side in arms)
    if 0 < min(a or b, b or a) < LEAST_SHOWN_NUSD:
        return line("Cost / 1,000 calls", a, b, lambda value: figures.usd(round(value * 1000)))
    return line("Cost / call", a, b, lambda value: figures.usd(round(value)))


def _tone(stable: ArmFigures, candidate: ArmFigures, a: float, b: float) -> str:
    if min(stable.calls, candidate.calls) < 100 or max(a, b) <= 0:
        return "dim"
    if b > a * WORSE:
        return "trouble"
    return "ok" if b * WORSE < a else "dim"


def meter_of(rollout: Rollout, found: Findings, now: datetime) -> Meter | None:
    """Return the meter of what the evidence is nearer to."""
    verdict = found.verdict
    if rollout.phase == "promoting":
        return None
    if verdict.harm >= verdict.promotion and verdict.harm > 0:
        says = (
            f"{found.errors_left:,} more error{'s' if found.errors_left != 1 else ''} roll it back."
            if found.errors_left
            else ""
        )
        return Meter(
            "Evidence of harm", round(100 * verdict.harm), "trouble", f"{says} Most in {verdict.worst}.".strip()
        )
    return Meter("Evidence of no harm", round(100 * verdict.promotion), "ok", _to_go(rollout, found, now))


def _to_go(rollout: Rollout, found: Findings, now: datetime) -> str:
    errors = f"{found.errors_left:,} more errors roll it back. " if found.errors_left else ""
    if not found.compared:
        return "Nothing was compared in this ring yet."
    if found.units_left is None:
        return f"{errors}At these rates it is never promoted: {found.verdict.slowest} are in the way."
    if found.units_left == 0:
        return f"{errors}Enough to promote once it has baked."
    took_s = (now - rollout.entered_at).total_seconds() if rollout.entered_at else 0.0
    about = f", about {figures.span(found.units_left / found.compared * took_s)}" if took_s > 10 else ""
    return f"{errors}{found.units_left:,} more requests promote it{about}."


def _says(rollout: Rollout, arms: Figures) -> str:
    if rollout.phase in ENDED and rollout.started_at is not None and rollout.ended_at is not None:
        took = figures.span((rollout.ended_at - rollout.started_at).total_seconds())
        within = applied_ms(rollout)
        back = (
            ""
            if within is None
            else f" {_clients(rollout)} took the last change within {figures.duration(within * 1000)}."
        )
        came_to = f"After {took} and {arms.candidate.calls:,} requests{_compared(arms)}."
        return f"{came_to} {rollout.reason}".strip() + back
    return rollout.reason


def _compared(arms: Figures) -> str:
    """``: errors 0.8 % → 0.7 %, cost −11 %``; empty when one of the releases had no calls."""
    stable, candidate = arms
    if not stable.calls or not candidate.calls:
        return ""
    errors = f": errors {figures.percent(stable.error_rate)} → {figures.percent(candidate.error_rate)}"
    before, after = stable.cost_nusd / stable.calls, candidate.cost_nusd / candidate.calls
    change = round(100 * (after / before - 1)) if before else 0
    return f"{errors}, cost {'+' if change > 0 else '−'}{abs(change)} %" if change else errors


def _clients(rollout: Rollout) -> str:
    number = rollout.applied.get("clients", 0)
    return f"{number} client{'s' if number != 1 else ''}"
