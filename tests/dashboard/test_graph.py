"""The mesh as a drawing: every party once, callers left of the called, any shape of edges."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from controlplane.telemetry.queries import Edge
from dashboard.graph import BOX_H, BOX_W, WIDTH, graph_of

kinds = st.sampled_from(["service", "agent", "tool", "model"])
parties = st.tuples(kinds, st.sampled_from("abcdef"))


def edge(a: tuple[str, str], b: tuple[str, str], calls: int = 1, errors: int = 0) -> Edge:
    return Edge(*a, *b, calls=calls, errors=errors, tokens=1, cost_nusd=1, duration_us=1)


def test_graph__a_coordinator_and_its_agents__stand_in_columns() -> None:
    chain = [("service", "app"), ("agent", "coordinator"), ("agent", "builder"), ("tool", "search")]

    graph = graph_of([edge(a, b, calls=10 - n) for n, (a, b) in enumerate(pairwise(chain))])

    xs = {node.name: node.x for node in graph.nodes}
    assert xs["app"] < xs["coordinator"] < xs["builder"] < xs["search"]
    assert graph.wires[0].width > graph.wires[2].width


def test_graph__share_of_errors__is_the_tone() -> None:
    a, b = ("agent", "a"), ("tool", "b")

    assert [graph_of([edge(a, b, 100, errors)]).wires[0].tone for errors in (0, 2, 10)] == ["ok", "watch", "trouble"]


def test_graph__wire_over_several_columns__runs_past_the_parties_between() -> None:
    a, b, c, d = ("service", "a"), ("agent", "b"), ("agent", "c"), ("tool", "d")

    graph = graph_of([edge(a, b), edge(b, c), edge(c, d), edge(a, d), edge(b, d)])

    between = [node for node in graph.nodes if node.name in "bc"]
    for wire in graph.wires[3:]:
        level = [float(y) for y in re.findall(r",([\d.]+) H", wire.path)]
        assert len(level) == (2 if wire.edge.from_name == "a" else 1)
        passed = between[-len(level) :]
        assert all(not node.y < y < node.y + BOX_H for node, y in zip(passed, level, strict=True))


def test_graph__callers__are_listed_with_what_they_call_the_most_first() -> None:
    graph = graph_of([edge(("agent", "a"), ("tool", "b"), 3), edge(("agent", "a"), ("tool", "c"), 8)])

    assert [(each.name, [wire.edge.to_name for wire in each.wires]) for each in graph.callers] == [("a", ["c", "b"])]
    assert [wire.percent for wire in graph.callers[0].wires] == [100, 38]


@given(st.lists(st.tuples(parties, parties), max_size=20))
def test_graph__any_edges__places_every_party_once_and_inside(
    pairs: list[tuple[tuple[str, str], tuple[str, str]]],
) -> None:
    edges = [edge(a, b) for a, b in dict.fromkeys(pairs) if a != b]

    graph = graph_of(edges)

    named = [(node.kind, node.name) for node in graph.nodes]
    assert sorted(named) == sorted({party for a, b in dict.fromkeys(pairs) if a != b for party in (a, b)})
    assert len({(node.x, node.y) for node in graph.nodes}) == len(named)
    assert all(0 <= node.x <= WIDTH - BOX_W and 0 <= node.y <= graph.height - BOX_H for node in graph.nodes)
    assert len(graph.wires) == len(edges)
