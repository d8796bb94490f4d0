from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.forecast import forecast, rolling_forecast
from controlplane.domain.presence import presence_of

NOW = datetime(2026, 11, 16, tzinfo=UTC)
STARTS, ENDS = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
USD = 10**9
money = st.integers(0, 10**15)


def test_forecast__half_a_month_at_double_pace__runs_out_before_its_end() -> None:
    told = forecast(
        amount_nusd=300 * USD, settled_nusd=240 * USD, burn_nusd_per_h=USD, starts_at=STARTS, ends_at=ENDS, now=NOW
    )

    assert told.pace == 0.5
    assert told.ahead == pytest.approx(1.6)
    assert told.exhausted_at == NOW + timedelta(hours=60)


def test_forecast__what_lasts_beyond_the_end__does_not_run_out() -> None:
    told = forecast(
        amount_nusd=300 * USD, settled_nusd=0, burn_nusd_per_h=USD / 2, starts_at=STARTS, ends_at=ENDS, now=NOW
    )

    assert told.exhausted_at is None


@given(money, money, st.floats(0, 1e15))
def test_forecast__any_amounts__runs_out_now_exactly_when_used_up(amount: int, settled: int, burn: float) -> None:
    told = forecast(
        amount_nusd=amount, settled_nusd=settled, burn_nusd_per_h=burn, starts_at=STARTS, ends_at=ENDS, now=NOW
    )

    assert (told.exhausted_at == NOW) >= (settled >= amount)
    assert told.exhausted_at is None or NOW <= told.exhausted_at < ENDS


@given(money, st.integers(1, 10**15), st.floats(0, 1e12))
def test_forecast__more_amount__never_runs_out_earlier(settled: int, more: int, burn: float) -> None:
    last = datetime.max.replace(tzinfo=UTC)

    before, after = (
        forecast(
            amount_nusd=amount, settled_nusd=settled, burn_nusd_per_h=burn, starts_at=None, ends_at=None, now=NOW
        ).exhausted_at
        or last
        for amount in (settled, settled + more)
    )

    assert after >= before


@pytest.mark.parametrize(("burn_usd", "runs_out"), [(0.1, False), (2, True)])
def test_rolling_forecast__a_whole_window_at_this_burn__decides(burn_usd: float, runs_out: bool) -> None:
    told = rolling_forecast(
        amount_nusd=300 * USD, settled_nusd=100 * USD, burn_nusd_per_h=burn_usd * USD, days=30, now=NOW
    )

    assert (told.exhausted_at is not None) is runs_out


@pytest.mark.parametrize(
    ("silent_s", "closed", "presence"),
    [(0, False, "healthy"), (29, False, "healthy"), (30, False, "stale"), (60, False, "lost"), (0, True, "closed")],
)
def test_presence__by_silence__is_healthy_stale_lost_or_closed(silent_s: int, closed: bool, presence: str) -> None:
    seen = NOW - timedelta(seconds=silent_s)

    assert presence_of(seen_at=seen, closed_at=seen if closed else None, now=NOW) == presence
