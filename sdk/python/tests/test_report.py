"""Windows: numbered when sent, the same until confirmed, merged only while nobody can have seen them, exact in sum."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.report import MAX_ROWS, MAX_USERS, MAX_WINDOWS, OTHERS, WINDOWS_PER_SYNC, Report, RowKey, Spent

KEY = RowKey("acme", "chat", "m", "")
START_MS = 1_790_000_000_000


def happen(report: Report, second: int, cost: int = 1) -> None:
    row = report.window(START_MS + second * 1000 + 500).row(KEY)
    row.calls += 1
    row.cost_nusd += cost
    row.latency_us.add(cost)


class Server:
    """Folds windows as docs/protocol.md says."""

    def __init__(self) -> None:
        self.acked = 0
        self.cost = 0
        self.latencies = 0

    def take(self, windows: list[dict[str, Any]]) -> int:
        for window in windows:
            if window["number"] > self.acked:
                self.acked = window["number"]
                self.cost += sum(row["cost_nusd"] for row in window["rows"])
                self.latencies += sum(row["latency_us"][0] for row in window["rows"])
        return self.acked


@settings(max_examples=150)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("call"), st.integers(1, 10**6)),
            st.tuples(st.sampled_from(["sync", "request lost", "answer lost", "413", "late answer"]), st.just(0)),
        ),
        max_size=150,
    )
)
def test_report__requests_and_answers_lost__everything_counted_exactly_once(steps: list[tuple[str, int]]) -> None:
    report, server, total, calls, late = Report(), Server(), 0, 0, 0

    for second, (step, cost) in enumerate(steps):
        if step == "call":
            happen(report, second, cost)
            total, calls = total + cost, calls + 1
            continue
        windows, _ = report.to_send()
        if step == "413":
            report.too_large() if len(windows) > 1 else None
        elif step != "request lost":
            acked = server.take(json.loads(json.dumps(windows)))
            if step == "sync":
                report.acked(acked)
            elif step == "late answer":
                report.acked(late)
            late = acked
    while report.unconfirmed:
        report.acked(server.take(report.to_send()[0]))

    assert (server.cost, server.latencies) == (total, calls)


def test_report__server_away_for_an_hour__bounded_and_exact() -> None:
    report, server = Report(), Server()
    happen(report, 0)
    report.to_send()

    for second in range(1, 3600):
        happen(report, second)
    assert report.unconfirmed <= MAX_WINDOWS + 1
    while report.unconfirmed:
        report.acked(server.take(report.to_send()[0]))

    assert server.cost == server.latencies == 3600


def test_to_send__backlog__in_batches_that_are_sent_again_as_they_were() -> None:
    report = Report()
    for second in range(100):
        happen(report, second)

    first, _ = report.to_send()
    happen(report, 100)
    again, _ = report.to_send()

    assert [window["number"] for window in first] == list(range(1, WINDOWS_PER_SYNC + 1))
    assert first == again


def test_acked__number_never_sent__not_believed() -> None:
    report = Report()
    happen(report, 0)
    report.to_send()
    happen(report, 1)

    report.acked(10**9)

    assert report.unconfirmed == 1
    assert report.to_send()[0][0]["number"] == 2


def test_too_large__batch__halved_under_the_same_numbers_and_one_alone_dropped() -> None:
    report = Report()
    for second in range(4):
        happen(report, second)
    report.to_send()

    report.too_large()
    halved, _ = report.to_send()
    report.too_large()
    single, _ = report.to_send()
    report.too_large()

    assert [[window["number"] for window in windows] for windows in (halved, single)] == [[1, 2], [1]]
    assert report.dropped_windows == 1


def test_window__same_second__one_window_and_skew_moves_it() -> None:
    report = Report()

    assert report.window(START_MS + 100) is report.window(START_MS + 999)
    report.see_server_clock(server_ms=START_MS + 5000, sent_ms=START_MS, received_ms=START_MS + 100)

    assert report.window(START_MS + 100).starts_ms == START_MS + 5000


def test_server_clock__off_by_less_than_the_trip__not_followed() -> None:
    report = Report()

    report.see_server_clock(server_ms=START_MS + 300, sent_ms=START_MS, received_ms=START_MS + 400)

    assert report.skew_ms == 0


def test_users__more_than_fit__the_dearest_stay_and_the_sum_is_exact() -> None:
    report = Report()
    window = report.window(START_MS)
    window.row(KEY).calls = 500

    for number in range(500):
        window.add_user("acme", f"u-{number}", Spent(1, 10, number))
    users = report.to_send()[0][0]["users"]

    assert len(users) == MAX_USERS + 1
    assert sum(user["cost_nusd"] for user in users) == sum(range(500))
    assert {user["user"] for user in users} >= {OTHERS, "u-499", "u-300"}


def test_rows__host_makes_up_models__folded_beyond_the_most() -> None:
    report = Report()
    window = report.window(START_MS)

    for number in range(MAX_ROWS + 500):
        window.row(RowKey("acme", "chat", f"m-{number}", "")).cost_nusd += 1

    assert len(window.rows) == MAX_ROWS + 1
    assert window.rows[RowKey("acme", "chat", OTHERS, OTHERS)].cost_nusd == 500
