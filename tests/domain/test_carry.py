"""What is carried over periods that nobody used, against a model that goes through every one of them."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import example, given, settings
from hypothesis import strategies as st

from controlplane.domain.carry import MOST_DEBT_NUSD, Before, CarryRule, Past, brought, carried
from controlplane.domain.periods import CALENDAR_UNITS, PeriodRule, period_of

ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo"])
MOMENTS = st.integers(1_300_000_000, 1_800_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


class Line:
    """The naive one: an account for every period, whoever draws on it."""

    def __init__(self, carry: CarryRule) -> None:
        self.carry = carry
        self.has = 0

    def period(self, amount: int, spent: int) -> None:
        self.has = carried(self.carry, Before(amount + self.has, spent))


@settings(deadline=None)
@given(
    carry=st.builds(CarryRule, st.integers(0, 4000), st.booleans()),
    unit=st.sampled_from(CALENDAR_UNITS),
    zone=ZONES,
    created_at=MOMENTS,
    spent=st.lists(st.none() | st.integers(0, 9000), min_size=1, max_size=30),
    amounts=st.lists(st.integers(0, 2000), min_size=30, max_size=30),
)
@example(
    CarryRule(0, debt=True), "day", "UTC", datetime(2026, 11, 25, tzinfo=UTC), [5000, None, None, None, 10], [1000] * 30
)
@example(
    CarryRule(900),
    "day",
    "Pacific/Apia",
    datetime(2011, 12, 28, 12, tzinfo=UTC),
    [0, None, None, None, None],
    [100] * 30,
)
def test_brought__any_row_of_used_and_idle_periods__is_what_going_through_all_of_them_gives(
    carry: CarryRule, unit: str, zone: str, created_at: datetime, spent: list[int | None], amounts: list[int]
) -> None:
    rule = PeriodRule("calendar", unit, zone)
    naive, past, amount = Line(carry), None, amounts[0]
    period = period_of(rule, created_at)
    for use, changed in zip(spent, amounts, strict=False):
        has = brought(carry, rule, period.starts_at, past, amount=amount, created_at=created_at)
        assert has == naive.has
        if use is not None:  # who draws on it opens its account; so does who changes the amount
            amount = changed
            assert period.ends_at is not None
            past = Past(period.ends_at, amount, has, use)
        naive.period(amount, use or 0)
        assert period.ends_at is not None
        period = period_of(rule, period.ends_at)


def test_brought__years_of_idle_hours__is_reckoned_without_going_through_them() -> None:
    rule = PeriodRule("calendar", "hour", "Europe/Berlin")
    past = Past(datetime(1990, 1, 1, tzinfo=UTC), 10, 0, 3_000_010)

    has = brought(
        CarryRule(debt=True),
        rule,
        datetime(2020, 1, 1, tzinfo=UTC),
        past,
        amount=10,
        created_at=datetime(1990, 1, 1, tzinfo=UTC),
    )

    assert has == 10 * 24 * 10_957 - 3_000_000


def test_carried__a_debt_beyond_all_bounds__is_carried_up_to_what_a_column_holds() -> None:
    assert carried(CarryRule(debt=True), Before(0, 9 * MOST_DEBT_NUSD)) == -MOST_DEBT_NUSD
