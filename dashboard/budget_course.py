"""The course of one budget in its period, drawn: what was settled, the even pace, where it is heading."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from django.db.models import Q

from controlplane.budgets.queries import Standing
from controlplane.telemetry import queries as telemetry
from dashboard import figures
from dashboard.asking import Asking
from dashboard.changes import changes_since
from dashboard.courses import FIRST_ROW, Mark, events_of, nice_top

WIDTH, FLOOR, HEAD = 560.0, 172.0, 30.0
MOST_DAYS = 92


@dataclass(frozen=True)
class BudgetCourse:
    """Coordinates. ``line`` are SVG points; ``ahead`` ends the dashed projection; ``amount_y`` is the amount's height."""

    line: str
    now_x: float
    now_y: float
    ahead_x: float
    ahead_y: float
    ahead_label: str
    ahead_anchor: str
    tone: str
    amount_y: float
    pace: bool
    grid: Sequence[Mark]
    times: Sequence[Mark]
    events: Sequence[Mark]


def period_days(standing: Standing, now: datetime) -> int:
    """Return how many UTC days of usage belong to the present period, today included."""
    if standing.budget.period_kind == "rolling":
        return min(MOST_DAYS, standing.budget.period_days or 1)
    if standing.period.starts_at is None:
        return min(MOST_DAYS, (now - standing.budget.created_at).days + 1)
    return min(366, (now.date() - standing.period.starts_at.date()).days + 1)


def _span(standing: Standing, now: datetime) -> tuple[datetime, datetime]:
    """Return the time that the drawing covers."""
    starts, ends = standing.period.starts_at, standing.period.ends_at
    if starts is not None and ends is not None:
        return starts, ends
    past = timedelta(days=period_days(standing, now))
    return now - past, now + past / 3


def _steps(asking: Asking, standing: Standing, starts: datetime) -> list[tuple[datetime, int]]:
    """Return what matching calls did cost, step by step; in short periods by windows, in others by day."""
    budget, now = standing.budget, asking.now
    owner = budget.tenant.slug if budget.tenant else None
    if now - starts <= timedelta(hours=24):
        step_s = 60 if now - starts <= timedelta(hours=2) else 900
        names = {name: budget.match[name] for name in ("route", "model", "category") if name in budget.match}
        points = telemetry.series(asking.asker, starts, now, step_s, owner, **names)
        return [(point.at + timedelta(seconds=step_s), point.cost_nusd) for point in points]
    found: dict[datetime, int] = {}
    days = period_days(standing, now)
    for each in telemetry.daily_costs(asking.asker, "tenant", now.date(), days, owner, budget.match):
        at = datetime.combine(each.day, time(), UTC) + timedelta(days=1)
        found[at] = found.get(at, 0) + each.cost_nusd
    return sorted(found.items())


def course_of(asking: Asking, standing: Standing) -> BudgetCourse | None:
    """Return the drawing of a budget; ``None`` when it has no amount."""
    if not standing.amount_nusd:
        return None
    budget, now = standing.budget, asking.now
    starts, ends = _span(standing, now)
    changes = changes_since(asking, budget.tenant, starts, Q(kind="budget", subject=budget.name))
    steps = [(min(at, now), cost) for at, cost in _steps(asking, standing, starts) if at > starts]
    top = max(standing.amount_nusd, standing.spent_nusd) * 1.04

    def x(at: datetime) -> float:
        return round(WIDTH * min(1.0, max(0.0, (at - starts) / (ends - starts))), 1)

    def y(nusd: float) -> float:
        return round(FLOOR - max(0.0, min(nusd, top)) / top * (FLOOR - HEAD + 6), 1)

    # Telemetry tells the course, the account the truth: the line ends at what is settled.
    total = standing.spent_nusd - sum(cost for _, cost in steps)
    points = [(x(starts), y(total if standing.budget.period_kind == "total" else 0))]
    for at, cost in steps:
        total += cost
        points.append((x(at), y(total)))
    points.append((x(now), y(standing.spent_nusd)))
    end = standing.exhausted_at or ends
    hours = (end - now).total_seconds() / 3600
    reached = standing.amount_nusd if standing.exhausted_at else standing.spent_nusd + standing.burn_nusd_per_h * hours
    out = standing.exhausted_at is not None and not standing.exhausted
    return BudgetCourse(
        line=" ".join(f"{a},{b}" for a, b in points),
        now_x=x(now),
        now_y=y(standing.spent_nusd),
        ahead_x=x(end),
        ahead_y=y(min(reached, standing.amount_nusd)),
        ahead_label=figures.when(end, now) if out else "",
        ahead_anchor="end" if x(end) > WIDTH - 60 else "start",
        tone=standing.tone or "ok",
        amount_y=y(standing.amount_nusd),
        pace=standing.pace is not None,
        grid=_grid(standing, y),
        times=_times(starts, ends, now, x),
        events=events_of(changes, starts, ends, WIDTH, (FIRST_ROW,)),
    )


def _grid(standing: Standing, y: Callable[[float], float]) -> list[Mark]:
    step = nice_top(standing.amount_nusd / 3.2)
    marks = []
    value = step
    while value < standing.amount_nusd * 0.93:
        marks.append(Mark(2, y(value), figures.usd_short(round(value)), "start"))
        value += step
    return marks


def _times(starts: datetime, ends: datetime, now: datetime, x: Callable[[datetime], float]) -> list[Mark]:
    short = ends - starts <= timedelta(hours=26)

    def words(at: datetime) -> str:
        return f"{at:%H:%M}" if short else f"{at.day} {at:%b}"

    marks = [Mark(0, 186, words(starts), "start"), Mark(WIDTH, 186, words(ends), "end")]
    if 60 < x(now) < WIDTH - 60:
        marks.append(Mark(x(now), 186, "now", "middle"))
    return marks
