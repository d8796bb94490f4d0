from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.alert_mutes import Span, escalates, in_force, inhibitor, occurrence
from controlplane.domain.alerts import State, Told
from controlplane.domain.slo import BURNS, closeness

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = Span(NOW, NOW + HOUR)


@pytest.mark.parametrize(
    ("repeats", "at", "on"),
    [
        ("", -HOUR, False),
        ("", timedelta(0), True),
        ("", HOUR, False),
        ("day", HOUR, False),
        ("day", DAY + HOUR / 2, True),
        ("day", 9 * DAY, True),
        ("week", DAY, False),
        ("week", 14 * DAY + HOUR / 2, True),
    ],
)
def test_in_force__a_time__is_within_one_of_the_spans(repeats: str, at: timedelta, on: bool) -> None:
    assert in_force(FIRST, repeats, None, NOW + at) is on


def test_occurrence__until_it_repeats_no_more__is_none_after_the_last() -> None:
    until = NOW + 2 * DAY

    assert occurrence(FIRST, "day", until, NOW + DAY + 2 * HOUR) == Span(NOW + 2 * DAY, NOW + 2 * DAY + HOUR)
    assert occurrence(FIRST, "day", until, NOW + 2 * DAY + HOUR) is None
    assert occurrence(FIRST, "", None, NOW + HOUR) is None


@given(st.integers(-(10**6), 10**7), st.sampled_from(["day", "week"]))
def test_occurrence__any_time__ends_after_it_and_within_one_repetition(seconds: int, repeats: str) -> None:
    now = NOW + timedelta(seconds=seconds)
    found = occurrence(FIRST, repeats, None, now)

    assert found is not None
    assert found.ends_at > now
    assert found == FIRST or found.starts_at - now < (DAY if repeats == "day" else 7 * DAY)
    assert (found.starts_at - NOW) % DAY == timedelta(0)


@pytest.mark.parametrize(
    ("label", "sources", "by"),
    [
        ("chat", [("router", "embed")], None),
        ("chat", [("router", "embed"), ("all", "")], "all"),
        ("chat", [("router", "chat")], "router"),
        ("", [("router", "chat")], "router"),
        ("chat", [], None),
    ],
)
def test_inhibitor__firing_rules__silence_what_is_of_the_same(
    label: str, sources: list[tuple[str, str]], by: str | None
) -> None:
    assert inhibitor(label, sources) == by


@pytest.mark.parametrize(
    ("change", "louder"),
    [
        ({}, True),
        ({"state": State.KEEP_FIRING}, True),
        ({"state": State.PENDING}, False),
        ({"told": Told.NOTHING}, False),
        ({"told_at": None}, False),
        ({"told_at": NOW - timedelta(seconds=59)}, False),
        ({"after_s": 0}, False),
        ({"taken": True}, False),
        ({"done": True}, False),
    ],
)
def test_escalates__an_alert__once_when_nobody_took_it_for_long_enough(change: dict[str, object], louder: bool) -> None:
    usual = {
        "state": State.FIRING,
        "told": Told.FIRING,
        "told_at": NOW - timedelta(seconds=60),
        "after_s": 60,
        "taken": False,
    }
    said = {**usual, "done": False, **change}
    assert escalates(now=NOW, **said) is louder  # type: ignore[arg-type]  # by name


def test_closeness__rates__are_above_one_where_a_pair_burns() -> None:
    calm: dict[int, float | None] = {length: 0.5 for burn in BURNS for length in (burn.long_s, burn.short_s)}

    assert closeness(calm, 0.99) == 0.5
    assert closeness({**calm, 3600: 29.0, 300: 28.8}, 0.99) == pytest.approx(2.0)
    assert closeness({**calm, 3600: 29.0, 300: 28.8}, 0.9) == 0.5  # 14.4 can't be reached with so low an objective
    assert closeness({}, 0.99) is None
