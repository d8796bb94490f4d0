from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controlplane.domain.periods import (
    CALENDAR_UNITS,
    PeriodError,
    PeriodRule,
    parse_period,
    period_of,
    periods_between,
    rolling_cutoff,
    slot_length,
    slot_of,
)

EARLIEST, LATEST = 0, 3_786_912_000  # 1970 to 2090
MOMENTS = st.integers(EARLIEST, LATEST).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ALL_ZONES = sorted(available_timezones() - {"localtime"})


@cache
def turns(zone: str) -> tuple[datetime, ...]:
    """Return the times at which clocks are moved in ``zone``."""
    found, step, local = [], timedelta(hours=6), ZoneInfo(zone)
    at, end = datetime.fromtimestamp(EARLIEST, UTC), datetime(2040, 1, 1, tzinfo=UTC)
    stood = at.astimezone(local).utcoffset()
    while at < end:
        after = at + step
        offset = after.astimezone(local).utcoffset()
        if offset != stood:
            found.append(after)
            stood = offset
        at = after
    return tuple(found)


@st.composite
def places(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone and a moment, often near one at which its clocks are moved."""
    zone = draw(st.sampled_from(ALL_ZONES))
    if draw(st.booleans()) and turns(zone):
        near = draw(st.sampled_from(turns(zone)))
        return zone, near + timedelta(seconds=draw(st.integers(-86_400 * 2, 86_400 * 2)))
    return zone, draw(MOMENTS)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(places(), st.sampled_from(CALENDAR_UNITS))
@example(("Australia/Lord_Howe", datetime(2026, 4, 4, 14, 50, tzinfo=UTC)), "hour")
@example(("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 10, tzinfo=UTC)), "hour")
@example(("Pacific/Apia", datetime(2011, 12, 30, 9, 0, tzinfo=UTC)), "day")
@example(("Pacific/Apia", datetime(2011, 12, 30, 11, 0, tzinfo=UTC)), "day")
@example(("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC)), "day")
@example(("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC)), "week")
@example(("America/Sao_Paulo", datetime(2018, 11, 4, 3, 0, tzinfo=UTC)), "day")
@example(("America/Havana", datetime(2026, 11, 1, 4, 30, tzinfo=UTC)), "day")
@example(("Africa/Monrovia", datetime(1972, 1, 7, 0, 50, tzinfo=UTC)), "hour")
def test_period_of__any_zone_and_moment__periods_part_time_without_gap_or_overlap(
    place: tuple[str, datetime], unit: str
) -> None:
    zone, now = place
    rule = PeriodRule("calendar", unit, zone)
    period = period_of(rule, now)
    row = [period]
    for _ in range(5):
        assert row[-1].ends_at is not None
        row.append(period_of(rule, row[-1].ends_at))

    assert period.starts_at is not None
    assert period.ends_at is not None
    assert period.starts_at <= now < period.ends_at
    for before, after in itertools.pairwise(row):
        assert before.ends_at == after.starts_at
        assert before.key < after.key
    for each in row:  # every moment of a period is in it, and has its key
        assert each.starts_at is not None
        assert each.ends_at is not None
        span = each.ends_at - each.starts_at
        inside = [each.starts_at + span * part / 16 for part in range(16)]
        assert {period_of(rule, at) for at in (*inside, each.ends_at - timedelta(microseconds=1))} == {each}
    assert periods_between(rule, period.starts_at, row[-1].starts_at or now) == 5


@given(MOMENTS, st.sampled_from(ALL_ZONES), st.sampled_from(CALENDAR_UNITS))
def test_period_of__any_moment__holds_it_and_meets_the_next(now: datetime, zone: str, unit: str) -> None:
    period = period_of(PeriodRule("calendar", unit, zone), now)
    assert period.starts_at is not None
    assert period.ends_at is not None

    following = period_of(PeriodRule("calendar", unit, zone), period.ends_at)

    assert period.starts_at <= now < period.ends_at
    assert following.starts_at == period.ends_at
    assert following.key != period.key


def test_period_of__the_hour_that_comes_twice__has_two_keys() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    rule = PeriodRule("calendar", "hour", "Europe/Berlin")

    assert period_of(rule, first).key != period_of(rule, first + timedelta(hours=1)).key


def test_period_of__clocks_turned_by_half_an_hour__half_an_hour_is_a_period_of_its_own() -> None:
    rule = PeriodRule("calendar", "hour", "Australia/Lord_Howe")
    at, keys = datetime(2026, 4, 4, 13, 45, tzinfo=UTC), []
    for _ in range(4):
        period = period_of(rule, at)
        keys.append(period.key)
        assert period.ends_at is not None
        at = period.ends_at

    assert keys == ["2026-04-04T13Z", "2026-04-04T14Z", "2026-04-04T15Z", "2026-04-04T15Z+30"]
    assert at == datetime(2026, 4, 4, 16, 30, tzinfo=UTC)


def test_period_of__a_day_that_was_skipped__does_not_exist() -> None:
    rule = PeriodRule("calendar", "day", "Pacific/Apia")
    last = period_of(rule, datetime(2011, 12, 30, 9, 59, tzinfo=UTC))

    assert last.key == "2011-12-29"
    assert last.ends_at is not None
    assert period_of(rule, last.ends_at).key == "2011-12-31"


def test_period_of__a_day_in_spring__has_23_hours() -> None:
    period = period_of(PeriodRule("calendar", "day", "Europe/Berlin"), datetime(2026, 3, 29, 12, tzinfo=UTC))

    assert period.key == "2026-03-29"
    assert period.ends_at is not None
    assert period.starts_at is not None
    assert period.ends_at - period.starts_at == timedelta(hours=23)


@given(MOMENTS, st.integers(1, 366))
def test_rolling__a_slot__counts_until_it_has_left_the_window_whole(now: datetime, days: int) -> None:
    slot = slot_of(days, now)
    leaves = slot + slot_length(days) + timedelta(days=days)

    assert slot <= now < slot + slot_length(days)
    assert slot > rolling_cutoff(days, leaves - timedelta(microseconds=1))
    assert not slot > rolling_cutoff(days, leaves)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, "period"),
        ({"kind": "lunar"}, "period.kind"),
        ({"kind": "calendar", "unit": "fortnight"}, "period.unit"),
        ({"kind": "calendar", "unit": "day", "timezone": "Mars/Olympus"}, "period.timezone"),
        ({"kind": "calendar", "unit": "day", "timezone": 3}, "period.timezone"),
        ({"kind": "rolling", "days": 0}, "period.days"),
        ({"kind": "rolling", "days": True}, "period.days"),
        ({"kind": "total", "days": 3}, "period.days"),
    ],
)
def test_parse_period__a_wrong_part__is_refused_by_name(document: object, field: str) -> None:
    with pytest.raises(PeriodError) as refused:
        parse_period(document)

    assert list(refused.value.errors) == [field]


@pytest.mark.parametrize(
    "document",
    [{"kind": "calendar", "unit": "month", "timezone": "UTC"}, {"kind": "rolling", "days": 30}, {"kind": "total"}],
)
def test_parse_period__a_period__comes_back_as_it_was(document: dict[str, object]) -> None:
    assert parse_period(document).as_json() == document
