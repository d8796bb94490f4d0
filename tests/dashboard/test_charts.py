from __future__ import annotations

from datetime import date, timedelta

import plotly.graph_objects as go

from controlplane.telemetry.queries import DayCost
from controlplane.telemetry.queries.lines import MOST_LINES
from dashboard.charts import OTHERS, TONES, daily_cost

TODAY = date(2026, 11, 25)


def test_daily_cost__some_days__is_a_figure_that_plotly_accepts() -> None:
    found = [DayCost(TODAY - timedelta(days=day), name, 9, day * 10**9) for day in range(3) for name in ("a", "")]

    figure = go.Figure(daily_cost(found, TODAY, 30))

    assert [trace.name for trace in figure.data] == ["(none)", "a"]
    assert figure.layout.barmode == "stack"


def test_daily_cost__days_without_calls__are_nothing_and_the_rest_is_last() -> None:
    found = [
        DayCost(TODAY, "small", 1, 10**9),
        DayCost(TODAY, OTHERS, 1, 9 * 10**9),
        DayCost(TODAY, "big", 1, 5 * 10**9),
    ]

    chart = daily_cost(found, TODAY, 3)

    assert [trace["name"] for trace in chart["data"]] == ["big", "small", OTHERS]
    assert chart["data"][0]["y"] == [0, 0, 5.0]
    assert chart["data"][0]["x"][-1] == "2026-11-25"


def test_daily_cost__as_many_names_as_are_asked_for__no_two_look_alike() -> None:
    found = [DayCost(TODAY, name, 1, 10**9) for name in [*"abcdefgh", OTHERS]]

    chart = daily_cost(found, TODAY, 3)

    assert len({trace["meta"]["tone"] for trace in chart["data"]}) == 9


def test_tones__lines_of_a_chart_of_metrics__no_two_look_alike() -> None:
    assert len(set(TONES)) >= MOST_LINES


def test_daily_cost__nothing__is_an_empty_figure() -> None:
    assert len(go.Figure(daily_cost([], TODAY, 30)).data) == 0
