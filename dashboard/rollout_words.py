"""What is said of a rollout: its two releases side by side, how far the evidence and the clients are, what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.domain.rollout import ENDED, ring_of
from controlplane.rollouts.convergence import Convergence
from controlplane.rollouts.findings import ArmFigures, Figures, Findings
from controlplane.rollouts.models import Rollout
from dashboard import figures

MOST_CHANGES = 3
LEAST_SHOWN_NUSD = 1_000_000  # a tenth of a cent
WORSE = 1.25


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
    """Return the meter of what the evidence is nearer to; both ways that it may go are said."""
    verdict = found.verdict
    if rollout.phase == "promoting":
        return None
    says = _both_ways(rollout, found, now)
    if verdict.harm >= verdict.promotion and verdict.harm > 0:
        return Meter("Evidence of harm", round(100 * verdict.harm), "trouble", f"{says} Most harm in {verdict.worst}.")
    return Meter("Evidence of no harm", round(100 * verdict.promotion), "ok", says)


def _both_ways(rollout: Rollout, found: Findings, now: datetime) -> str:
    """``11 more errors roll it back, 840 more sessions promote it, about 9 min.``"""
    if not found.compared:
        return "Nothing was compared in this ring yet."
    errors = _counted(found.errors_left, "error", "roll", "it back") if found.errors_left else ""
    on = _going_on(rollout, found, now)
    return f"{errors}, {on}" if errors else f"{on[0].upper()}{on[1:]}"


def _going_on(rollout: Rollout, found: Findings, now: datetime) -> str:
    if ring_of(rollout.state, rollout.plan).gate == "time":
        return "else it goes on by time."
    if found.units_left is None:
        return f"at these rates it is never promoted: {found.verdict.slowest} are in the way."
    if found.units_left == 0:
        return "enough is seen to promote it once it has baked."
    took_s = (now - rollout.entered_at).total_seconds() if rollout.entered_at else 0.0
    about = f", about {figures.span(found.units_left / found.compared * took_s)}" if took_s > 10 else ""
    return f"{_counted(found.units_left, rollout.deployment.unit, 'promote', 'it')}{about}."


def _counted(number: int, what: str, does: str, whom: str) -> str:
    one = number == 1
    return f"{number:,} more {what}{'' if one else 's'} {does}{'s' if one else ''} {whom}"


def outcome_of(rollout: Rollout, arms: Figures) -> str:
    """Say what came of a rollout that has ended, and why; of one that has not, its reason."""
    if rollout.phase not in ENDED or rollout.started_at is None or rollout.ended_at is None:
        return rollout.reason
    took = figures.span((rollout.ended_at - rollout.started_at).total_seconds())
    parts = [f"After {took} and {arms.candidate.calls:,} requests{_compared(arms)}.", rollout.reason]
    within = applied_ms(rollout)
    if within is not None:
        parts.append(f"{_clients(rollout)} took the last change within {figures.duration(within * 1000)}.")
    return " ".join(part for part in parts if part)


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
