"""Analysis charts as plain plotly dictionaries: ``{"data", "layout"}``. Colours are named by token in ``meta``.

A test validates every one with plotly's own classes. The page draws them with its theme (static/js/charts.js).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from controlplane.telemetry.queries import DayCost

NANO = 10**9
OTHERS = "(others)"
TONES = ("s1", "s2", "s3", "s4", "s5", "s6", "canary", "s7")  # as many as a chart has names
THE_REST = "stable"


def daily_cost(found: Sequence[DayCost], today: date, days: int) -> dict[str, Any]:
    """Return cost per day, stacked by name: the dearest at the bottom, what is left over on top. In dollars."""
    axis = [today - timedelta(days=days - 1 - number) for number in range(days)]
    totals: dict[str, int] = {}
    costs: dict[tuple[str, date], int] = {}
    for each in found:
        totals[each.name] = totals.get(each.name, 0) + each.cost_nusd
        costs[each.name, each.day] = each.cost_nusd
    names = sorted(totals, key=lambda name: (name == OTHERS, -totals[name], name))
    data = [
        {
            "type": "bar",
            "name": name or "(none)",
            "x": [day.isoformat() for day in axis],
            "y": [costs.get((name, day), 0) / NANO for day in axis],
            "hovertemplate": "%{y:$,.2f}",
            "meta": {"tone": THE_REST if name == OTHERS else TONES[number % len(TONES)]},
        }
        for number, name in enumerate(names)
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0.25,
        "hovermode": "x unified",
        "showlegend": len(names) > 1,
        "legend": {"orientation": "h", "y": -0.14, "x": 0, "traceorder": "normal"},
        "margin": {"l": 56, "r": 8, "t": 8, "b": 32},
        "xaxis": {"type": "date", "tickformat": "%-d %b", "fixedrange": True, "hoverformat": "%A, %-d %B"},
        "yaxis": {"tickprefix": "$", "rangemode": "tozero", "fixedrange": True, "nticks": 5},
    }
    return {"data": data, "layout": layout}
