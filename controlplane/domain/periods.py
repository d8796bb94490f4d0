"""The periods of budgets: calendar units in a time zone, rolling windows, and all of time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

CALENDAR_UNITS = ("hour", "day", "week", "month", "year")
MAX_ROLLING_DAYS = 366
MOST_COUNTED = 20_000  # of periods between two times: two years of hours
_HOUR = timedelta(hours=1)
_INSTANT = timedelta(microseconds=1)
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
    """Return the period of a budget with ``rule`` that holds ``now``. Bounds are in UTC.

    The periods of a rule follow each other without a gap, whatever clocks do: one that clocks skip whole does not exist.
    """
    if rule.kind != "calendar":
        return Period(rule.kind, None, None)
    zone = ZoneInfo(rule.timezone)
    if rule.unit == "hour":
        return _hour(now.astimezone(UTC), zone)
    first, after, key = _days(rule.unit, now.astimezone(zone).date())
    starts_at, ends_at = _midnight(first, zone), _midnight(after, zone)
    # Where clocks are turned back over midnight, dates come twice: what counts is when they come first.
    while now < starts_at:
        first, after, key = _days(rule.unit, first - timedelta(days=1))
        starts_at, ends_at = _midnight(first, zone), starts_at
    while now >= ends_at:
        first, after, key = _days(rule.unit, after)
        starts_at, ends_at = ends_at, _midnight(after, zone)
    return Period(key, starts_at, ends_at)


def periods_between(rule: PeriodRule, since: datetime, until: datetime) -> int:
    """Return how many periods of a calendar ``rule`` lie between two bounds of periods."""
    return _periods_between(rule, since, until) if since < until else 0


@lru_cache(4096)
def _periods_between(rule: PeriodRule, since: datetime, until: datetime) -> int:
    count, at, length = 0, since, _HOUR
    while at < until and count < MOST_COUNTED:
        period = period_of(rule, at)
        assert period.ends_at is not None  # noqa: S101  calendar periods end
        length, at = period.ends_at - at, period.ends_at
        count += 1
    return count if at >= until else count + (until - at) // length  # so many that one more or less is nothing


def _hour(now: datetime, zone: ZoneInfo) -> Period:
    """Return the hour on the clocks of ``zone``. It is cut where they are moved by less than a whole hour."""
    minutes = _minutes(now, zone)
    starts_at = (now + minutes).replace(minute=0, second=0, microsecond=0) - minutes
    ends_at = starts_at + _HOUR
    if _minutes(starts_at, zone) != minutes:
        starts_at = _turn(starts_at, now, lambda at: _minutes(at, zone) != minutes)
    if _minutes(ends_at, zone) != minutes:
        ends_at = _turn(now, ends_at, lambda at: _minutes(at, zone) == minutes)
    key = f"{starts_at:%Y-%m-%dT%H}Z"
    if _minutes(starts_at - _HOUR, zone) != minutes and _hour(starts_at - _INSTANT, zone).key == key:
        key = f"{key}+{starts_at:%M}"  # the second that begins in that hour of UTC
    return Period(key, starts_at, ends_at)


def _minutes(at: datetime, zone: ZoneInfo) -> timedelta:
    """Return by how much clocks differ from those of UTC, but for whole hours."""
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101  a zone has one
    return offset % _HOUR


def _turn(early: datetime, late: datetime, is_before: Callable[[datetime], bool]) -> datetime:
    """Return the whole second in (early, late] in which clocks are moved: ``is_before`` holds at ``early`` and not at ``late``."""
    low, high = math.floor(early.timestamp()), math.ceil(late.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if is_before(datetime.fromtimestamp(middle, UTC)):
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


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


@lru_cache(4096)
def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when ``day`` begins: where clocks skip midnight, when they are moved."""
    local = datetime.combine(day, time(), zone)
    starts_at = local.astimezone(UTC)
    if starts_at.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return starts_at
    early = local.replace(fold=1).astimezone(UTC)
    stood = early.astimezone(zone).utcoffset()
    return _turn(early, starts_at, lambda at: at.astimezone(zone).utcoffset() == stood)


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
