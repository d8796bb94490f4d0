from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard import figures
from dashboard.courses import nice_top
from dashboard.pages.settings import fold_words

NOW = datetime(2026, 11, 25, 14, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("nusd", "text"),
    [
        (0, "$0.00"),
        (1_234_500_000_000, "$1,234.50"),
        (4_200_000, "$0.0042"),
        (120_000_000, "$0.12"),
        (20_000, "<$0.0001"),
        (-5_000_000_000, "−$5.00"),
    ],
)
def test_usd__amounts_of_all_sizes__reads_as_money(nusd: int, text: str) -> None:
    assert figures.usd(nusd) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (3.5, "3.5"), (318, "318"), (12_400, "12.4k"), (871_500, "872k"), (2_100_000, "2.1M")]
)
def test_count__numbers_of_all_sizes__has_three_digits_at_most(value: float, text: str) -> None:
    assert figures.count(value) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 values"), (1, "1 value"), (1_234, "1,234 values")])
def test_some__one_or_many__says_as_many(number: int, text: str) -> None:
    assert figures.some(number, "value") == text


@pytest.mark.parametrize(
    ("us", "text"), [(412, "412 µs"), (4_200, "4.2 ms"), (820_000, "820 ms"), (4_200_000, "4.20 s"), (75e6, "75.0 s")]
)
def test_duration__microseconds__reads_in_the_fitting_unit(us: float, text: str) -> None:
    assert str(figures.duration(us)) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "just now"), (48, "48 s ago"), (720, "12 min ago"), (-260_000, "in 3 d")]
)
def test_ago__before_and_after__says_which(seconds: float, text: str) -> None:
    assert figures.ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_when__today_this_year_and_another__is_as_near_as_it_has_to_be() -> None:
    said = [figures.when(NOW + timedelta(hours=hours), NOW) for hours in (5, 30, 24 * 100)]

    assert said == ["today 19:00", "26 Nov", "5 Mar 2027"]


def test_percent__nothing_to_tell__is_a_dash() -> None:
    assert [figures.percent(0.0194), figures.percent(None)] == ["1.9 %", "–"]


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.3, 0.5), (17, 20), (21, 25), (260, 500), (1000, 1000)])
def test_nice_top__any_value__is_round_and_not_below_it(value: float, top: float) -> None:
    assert nice_top(value) == pytest.approx(top)


@pytest.mark.parametrize(("share", "text"), [(None, "–"), (0.019, "1.9 %"), (-0.083, "−8.3 %")])
def test_percent__share__is_written_with_a_true_minus(share: float | None, text: str) -> None:
    assert figures.percent(share) == text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("points", "metrics"),
        ("total_10s", "calls of all tenants, per 10 s"),
        ("all_5m", "calls of the installation, per 5 min"),
        ("tenant_1d", "calls of tenants as a whole, per 1 d"),
        ("later", "later"),
    ],
)
def test_fold_words__kind_of_fold__says_what_is_added_up(kind: str, words: str) -> None:
    assert fold_words(kind) == words
