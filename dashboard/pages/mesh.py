"""The mesh: which services, agents, tools and models call each other, from spans, now."""

from __future__ import annotations

from datetime import timedelta

from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.patience import TooDear
from dashboard.asking import Asking
from dashboard.graph import graph_of
from dashboard.page import Context, Page, Params

SINCE = {"5m": ("last 5 min", 300), "1h": ("last hour", 3600), "24h": ("last 24 h", 86400)}
CHOICES = {"5m": "5 min", "1h": "1 h", "24h": "24 h"}
MOST_DRAWN = 60


def build(asking: Asking, params: Params) -> Context:
    name = params.value("since") if params.value("since") in SINCE else "1h"
    words, seconds = SINCE[name]
    edges, dear = list[telemetry.Edge](), ""
    try:
        edges = telemetry.mesh(
            asking.asker, asking.now - timedelta(seconds=seconds), asking.now, params.value("tenant") or None
        )
    except TooDear as problem:
        dear = problem.detail
    return {
        "title": "Mesh",
        "graph": graph_of(edges[:MOST_DRAWN]),
        "edges": edges,
        "more": max(0, len(edges) - MOST_DRAWN),
        "calls": sum(edge.calls for edge in edges),
        "errors": sum(edge.errors for edge in edges),
        "words": words,
        "since": name,
        "traces_since": {"5m": "15m"}.get(name, name),
        "since_choices": CHOICES.items(),
        "dear": dear,
    }


PAGE = Page(
    name="mesh",
    section="mesh",
    template="pages/mesh.html",
    parts={"mesh_summary": "mesh/summary.html", "mesh_graph": "mesh/graph.html", "mesh_edges": "mesh/edges.html"},
    build=build,
    params=frozenset({"tenant", "since"}),
)
