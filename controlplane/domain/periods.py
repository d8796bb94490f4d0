"""The periods of budgets: calendar units in a time zone, rolling windows, and all of time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

CALENDAR_UNITS = ("hour", "day", "week", "month", "year")
MAX_ROLLING_DAYS = 366
# A rolling window is kept in this many slots; a slot counts until it has left the window whole.
ROLLING_SLOTS = 360


class PeriodError(ValueError):
    """A document is not a period; ``errors`` maps the path of a field to what is wrong with it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = dict(errors)


class PeriodRule(NamedTuple):
    """How a budget renews: ``kind`` is "calendar" (with ``unit`` and ``timezone``), "rolling" (with ``days``) or "total"."""

    kind: str
    unit: str = ""
    timezone: str = "UTC"
    days: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the document that ``parse_period`` reads."""
        if self.kind == "calendar":
            return {"kind": "calendar", "unit": self.unit, "timezone": self.timezone}
        if self.kind == "rolling":
            return {"kind": "rolling", "days": self.days}
        return {"kind": self.kind}


class Period(NamedTuple):
    """One span of a budget. ``key`` names it among the budget's; ``ends_at`` is exclusive; ``None`` for no bound."""

    key: str
    starts_at: datetime | None
    ends_at: datetime | None


def parse_period(document: Any) -> PeriodRule:
    """Return the rule of a document; ``PeriodError`` names every field that is wrong."""
    if not isinstance(document, Mapping):
        raise PeriodError({"period": 'must be an object like {"kind": "calendar", "unit": "month", "timezone": "UTC"}'})
    kind = document.get("kind")
    fields = {"calendar": {"kind", "unit", "timezone"}, "rolling": {"kind", "days"}, "total": {"kind"}}.get(str(kind))
    if fields is None:
        raise PeriodError({"period.kind": "must be one of calendar, rolling, total"})
    errors = {f"period.{name}": f"does not belong to a period of kind {kind}" for name in set(document) - fields}
    rule = PeriodRule(str(kind))
    if kind == "calendar":
        rule = PeriodRule("calendar", document.get("unit", ""), document.get("timezone", "UTC"))
        errors |= _calendar_faults(rule)
    if kind == "rolling":
        rule = PeriodRule("rolling", days=document.get("days"))
        days = rule.days
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MAX_ROLLING_DAYS:
            errors["period.days"] = f"must be a whole number from 1 to {MAX_ROLLING_DAYS}"
    if errors:
        raise PeriodError(errors)
    return rule


def _calendar_faults(rule: PeriodRule) -> dict[str, str]:
    faults = {}
    if rule.unit not in CALENDAR_UNITS:
        faults["period.unit"] = f"must be one of {', '.join(CALENDAR_UNITS)}"
    try:
        ZoneInfo(rule.timezone)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        faults["period.timezone"] = 'must be the name of a time zone, like "Europe/Berlin"'
    return faults


def period_of(rule: PeriodRule, now: datetime) -> Period:
    """Return the period of a budget with ``rule`` that holds ``now``. Bounds are in UTC."""
    if rule.kind != "calendar":
        return Period(rule.kind, None, None)
    zone = ZoneInfo(rule.timezone)
    local = now.astimezone(zone)
    if rule.unit == "hour":
        starts = local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
        return Period(f"{starts:%Y-%m-%dT%H}Z", starts, starts + timedelta(hours=1))
    first, after, key = _days(rule.unit, local.date())
    return Period(key, _midnight(first, zone), _midnight(after, zone))


def _days(unit: str, today: date) -> tuple[date, date, str]:
    if unit == "day":
        return today, today + timedelta(days=1), today.isoformat()
    if unit == "week":
        monday = today - timedelta(days=today.weekday())
        year, week, _ = monday.isocalendar()
        return monday, monday + timedelta(days=7), f"{year}-W{week:02d}"
    if unit == "month":
        first = today.replace(day=1)
        return first, (first + timedelta(days=32)).replace(day=1), f"{first:%Y-%m}"
    first = today.replace(month=1, day=1)
    return first, first.replace(year=first.year + 1), f"{first.year}"


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def slot_length(days: int) -> timedelta:
    """Return how much time one slot of a rolling window covers."""
    return timedelta(days=days) / ROLLING_SLOTS


def slot_of(days: int, now: datetime) -> datetime:
    """Return the start of the slot that holds ``now``."""
    length = slot_length(days)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + ((now - epoch) // length) * length


def leaves_window(days: int, starts_at: datetime) -> datetime:
    """Return when the slot that starts then stops counting."""
    return starts_at + timedelta(days=days) + slot_length(days)


def rolling_cutoff(days: int, now: datetime) -> datetime:
    """Return the time after which a slot must start to count: what it holds may be younger than the window."""
    return now - timedelta(days=days) - slot_length(days)
