"""Grouping as Alertmanager does it: what is said of a group, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.alert_groups import Grouping, due_at, key_of, told_of

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
GROUPING = Grouping(("rule",), 30, 300, 14_400)
LABELS = {"rule": "acme/errors", "severity": "page", "tenant": "acme", "label": "chat"}


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ((), {}),
        (("rule",), {"rule": "acme/errors"}),
        (("label", "tenant"), {"tenant": "acme", "label": "chat"}),
        (("unknown",), {}),
    ],
)
def test_key__by_some_labels__is_those(by: tuple[str, ...], key: dict[str, str]) -> None:
    assert key_of(by, LABELS) == key


@pytest.mark.parametrize(
    ("first_s", "told_s", "due_s"),
    [
        (0, None, 30),  # a new group waits
        (0, -400, 0),  # a known one that was quiet for its interval speaks at once
        (0, -100, 200),  # else when the interval is over
        (None, -100, 14_300),  # nothing new: when it is time to repeat
        (None, None, None),
    ],
)
def test_due__news_or_none__is_by_wait_interval_or_repeat(
    first_s: int | None, told_s: int | None, due_s: int | None
) -> None:
    def at(seconds: int | None) -> datetime | None:
        return None if seconds is None else NOW + timedelta(seconds=seconds)

    assert due_at(GROUPING, first_at=at(first_s), told_at=at(told_s)) == at(due_s)


def test_due__never_repeated__is_not() -> None:
    assert due_at(GROUPING._replace(repeat_s=0), first_at=None, told_at=NOW) is None


def test_told__begun_and_over_before_it_was_told__is_nothing() -> None:
    said = told_of((), [(1, True), (1, False)])

    assert not said.worth_it
    assert not said.firing


def test_told__over_and_begun_again__is_new() -> None:
    said = told_of({1, 2}, [(1, False), (1, True)])

    assert (said.firing, said.fresh, said.over) == (frozenset({1, 2}), frozenset({1}), frozenset())


def test_told__some_over__names_the_rest_too() -> None:
    said = told_of({1, 2}, [(1, False), (3, True)])

    assert (said.firing, said.fresh, said.over) == (frozenset({2, 3}), frozenset({3}), frozenset({1}))


ALERTS = st.integers(0, 5)


@given(known=st.frozensets(ALERTS), news=st.lists(st.tuples(ALERTS, st.booleans()), max_size=20))
def test_told__any_news__firing_is_what_the_last_ones_say(known: frozenset[int], news: list[tuple[int, bool]]) -> None:
    said = told_of(known, news)

    now = {alert: alert in known for alert in range(6)} | dict(news)
    assert said.firing == {alert for alert, on in now.items() if on}
    assert said.fresh <= said.firing
    assert said.over <= known - said.firing
    assert said.worth_it or said.firing == known
