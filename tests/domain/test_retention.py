"""Until when closed leases are kept, and what is known of those that are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.periods import leaves_window, slot_of
from controlplane.domain.retention import Span, is_folded, kept_until, may_still_spend

SEEN = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEEP = timedelta(days=35)
moments = st.timedeltas(timedelta(days=-2000), timedelta(days=2000)).map(lambda after: SEEN + after)
spans = st.builds(Span, ends_at=st.none() | moments, days=st.none() | st.integers(1, 366))


class Said(NamedTuple):
    incarnation: UUID
    number: int


def test_kept_until__nothing_that_lasts_longer__so_long_after_it_was_heard_of() -> None:
    path = [Span(), Span(ends_at=SEEN + timedelta(days=5)), Span(days=30)]

    assert kept_until(SEEN, path, KEEP) == SEEN + KEEP


def test_kept_until__a_year_on_the_path__to_its_end() -> None:
    ends_at = datetime(2027, 1, 1, tzinfo=UTC)

    assert kept_until(SEEN, [Span(), Span(ends_at=ends_at)], timedelta(days=7)) == ends_at


@given(moments, st.lists(spans, max_size=4), st.timedeltas(timedelta(days=1), timedelta(days=400)))
def test_kept_until__any_path__outlasts_every_period_and_window(
    seen: datetime, path: list[Span], keep: timedelta
) -> None:
    until = kept_until(seen, path, keep)

    assert until >= seen + keep
    assert all(span.ends_at is None or until >= span.ends_at for span in path)
    assert all(span.days is None or until >= leaves_window(span.days, slot_of(span.days, seen)) for span in path)


def test_may_still_spend__leases_are_finished_and_no_period_ends__is_so_for_ever() -> None:
    finishes = Span(finishes=True)

    assert may_still_spend([Span(), finishes])
    assert not may_still_spend([finishes, Span(ends_at=SEEN)])
    assert not may_still_spend([Span(), Span(days=1)])


def test_is_folded__up_to_the_floor_of_its_own_incarnation__is_so() -> None:
    me, other = UUID(int=1), UUID(int=2)

    assert [is_folded(Said(me, number), {me: 4}) for number in (0, 4, 5)] == [True, True, False]
    assert not is_folded(Said(other, 0), {me: 4})
