from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.periods import (
    CALENDAR_UNITS,
    PeriodError,
    PeriodRule,
    parse_period,
    period_of,
    rolling_cutoff,
    slot_length,
    slot_of,
)

MOMENTS = st.integers(946_684_800, 3_786_912_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia"]
)


@given(MOMENTS, ZONES, st.sampled_from(CALENDAR_UNITS))
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
