"""The mesh as a drawing: parties in columns from who calls to who is called, edges between them. Edges in, coordinates out.

A wire over several columns keeps a place of its own in each of those between, so that it runs past the parties and under none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from controlplane.telemetry.queries import Edge

WIDTH, ROW, BOX_W, BOX_H, MARGIN = 1080.0, 64.0, 176.0, 40.0, 12.0
PASS = 16.0  # the height that a wire takes which only passes a column
MOST_DEEP = 6
SWEEPS = 4
KINDS = ("service", "agent", "tool", "model")
# Which filter of the traces finds a party's.
FILTERS = {"service": "service", "agent": "agent", "tool": "tool", "model": "model"}

Party = tuple[str, str]
# A place in a column: a party, or where the wire of that number passes.
Stop = Party | int


@dataclass(frozen=True)
class Node:
    kind: str
    name: str
    x: float
    y: float
    calls: int
    errors: int
    tokens: int
    cost_nusd: int

    @property
    def filter(self) -> str:
        return FILTERS[self.kind]

    @property
    def tone(self) -> str:
        return _tone(self.errors, self.calls)


@dataclass(frozen=True)
class Wire:
    """An edge as drawn. ``width`` grows with the calls, ``tone`` tells the share of errors."""

    edge: Edge
    path: str
    width: float
    tone: str
    percent: int  # of the calls of the busiest wire

    @property
    def filter(self) -> str:
        return FILTERS[self.edge.to_kind]


@dataclass(frozen=True)
class Caller:
    """A party and the wires that leave it, the most calls first: what a narrow screen shows as a list."""

    kind: str
    name: str
    wires: Sequence[Wire]


@dataclass(frozen=True)
class Graph:
    nodes: Sequence[Node]
    wires: Sequence[Wire]
    height: float

    @property
    def callers(self) -> Sequence[Caller]:
        """Return who calls, in the order of the columns, each with what it calls."""
        leaving: dict[Party, list[Wire]] = {(node.kind, node.name): [] for node in self.nodes}
        for wire in self.wires:
            leaving[wire.edge.from_kind, wire.edge.from_name].append(wire)
        return [
            Caller(*party, sorted(wires, key=lambda wire: -wire.edge.calls))
            for party, wires in leaving.items()
            if wires
        ]


def _tone(errors: int, calls: int) -> str:
    share = errors / calls if calls else 0.0
    return "trouble" if share >= 0.1 else "watch" if share >= 0.02 else "ok"


def graph_of(edges: Sequence[Edge]) -> Graph:
    """Return the drawing: services left, tools and models right, agents between them by how far they are from a service."""
    where = _columns(edges)
    used = sorted(set(where.values()))
    where = {party: used.index(column) for party, column in where.items()}
    columns, chains = _stops(edges, where, len(used))
    _untangle(columns, chains)
    height = max((sum(map(_size, column)) for column in columns), default=ROW) + 2 * MARGIN
    xs = [MARGIN + at * (WIDTH - BOX_W - 2 * MARGIN) / max(1, len(used) - 1) for at in range(len(used))]
    middles = [_middles(column, height) for column in columns]
    placed = {
        stop: (round(x, 1), round(middle[stop] - BOX_H / 2, 1))
        for x, middle, column in zip(xs, middles, columns, strict=True)
        for stop in column
        if not isinstance(stop, int)
    }
    most = max((edge.calls for edge in edges), default=1)
    wires = [
        _wire(edge, placed, [(xs[at], middles[at][number]) for at in _between(edge, where)], most)
        for number, edge in enumerate(edges)
    ]
    return Graph([_node(party, at, edges) for party, at in placed.items()], wires, height)


def _columns(edges: Sequence[Edge]) -> dict[Party, int]:
    """Return the column of every party: the least number of calls from where nobody calls; tools and models last."""
    callers: dict[Party, set[Party]] = {}
    for edge in edges:
        callers.setdefault((edge.from_kind, edge.from_name), set())
        callers.setdefault((edge.to_kind, edge.to_name), set()).add((edge.from_kind, edge.from_name))
    columns = {party: 0 for party, above in callers.items() if not above or party[0] == "service"}
    if not columns and callers:
        columns[min(callers)] = 0
    for _ in range(len(callers)):
        reached = {
            party: min(MOST_DEEP, 1 + min(columns[each] for each in above if each in columns))
            for party, above in callers.items()
            if party not in columns and any(each in columns for each in above)
        }
        if not reached:
            break
        columns |= reached
    for party in callers:
        columns.setdefault(party, 1)
    last = 1 + max((column for (kind, _), column in columns.items() if kind in ("service", "agent")), default=0)
    return {party: last if party[0] in ("tool", "model") else column for party, column in columns.items()}


def _ends(edge: Edge) -> tuple[Party, Party]:
    return (edge.from_kind, edge.from_name), (edge.to_kind, edge.to_name)


def _between(edge: Edge, where: Mapping[Party, int]) -> range:
    """Return the columns that the wire of an edge passes; none of one that goes back or stays in its column."""
    a, b = _ends(edge)
    return range(where[a] + 1, where[b])


def _stops(
    edges: Sequence[Edge], where: Mapping[Party, int], many: int
) -> tuple[list[list[Stop]], list[list[tuple[int, Stop]]]]:
    """Return what stands in each column, and of each wire that goes on to the right its stops with their columns."""
    columns: list[list[Stop]] = [[] for _ in range(many)]
    for party in sorted(where, key=lambda party: (KINDS.index(party[0]), party[1])):
        columns[where[party]].append(party)
    chains: list[list[tuple[int, Stop]]] = []
    for number, edge in enumerate(edges):
        a, b = _ends(edge)
        for at in _between(edge, where):
            columns[at].append(number)
        if where[a] < where[b]:
            chains.append([(where[a], a), *((at, number) for at in _between(edge, where)), (where[b], b)])
    return columns, chains


def _untangle(columns: list[list[Stop]], chains: Iterable[list[tuple[int, Stop]]]) -> None:
    """Order each column by where its neighbours stand, to and fro, so that few wires cross."""
    lefts: dict[tuple[int, Stop], list[Stop]] = {}
    rights: dict[tuple[int, Stop], list[Stop]] = {}
    for chain in chains:
        for (at, stop), (next_at, following) in pairwise(chain):
            lefts.setdefault((next_at, following), []).append(stop)
            rights.setdefault((at, stop), []).append(following)
    for sweep in range(SWEEPS):
        back = sweep % 2 == 1
        order = range(len(columns) - 2, -1, -1) if back else range(1, len(columns))
        for at in order:
            beside = _shares(columns[at + 1 if back else at - 1])
            own, near = _shares(columns[at]), rights if back else lefts
            columns[at].sort(key=lambda stop: _pull([beside[each] for each in near.get((at, stop), ())], own[stop]))


def _pull(places: Sequence[float], own: float) -> float:
    return sum(places) / len(places) if places else own


def _size(stop: Stop) -> float:
    return PASS if isinstance(stop, int) else ROW


def _shares(column: Sequence[Stop]) -> dict[Stop, float]:
    """Return where each stop of a column stands, 0 to 1."""
    whole = sum(map(_size, column)) or 1.0
    return {stop: middle / whole for stop, middle in _middles(column, whole).items()}


def _middles(column: Sequence[Stop], height: float) -> dict[Stop, float]:
    """Return the middle of each stop of a column, which itself stands in the middle of ``height``."""
    top = (height - sum(map(_size, column))) / 2
    middles: dict[Stop, float] = {}
    for stop in column:
        middles[stop] = round(top + _size(stop) / 2, 1)
        top += _size(stop)
    return middles


def _node(party: Party, at: tuple[float, float], edges: Sequence[Edge]) -> Node:
    into = [edge for edge in edges if (edge.to_kind, edge.to_name) == party]
    out = [edge for edge in edges if (edge.from_kind, edge.from_name) == party]
    counted = into or out
    return Node(
        *party,
        *at,
        calls=sum(edge.calls for edge in counted),
        errors=sum(edge.errors for edge in counted),
        tokens=sum(edge.tokens for edge in counted),
        cost_nusd=sum(edge.cost_nusd for edge in counted),
    )


def _wire(
    edge: Edge, placed: Mapping[Party, tuple[float, float]], passes: Sequence[tuple[float, float]], most: int
) -> Wire:
    a, b = _ends(edge)
    (ax, ay), (bx, by) = placed[a], placed[b]
    x1, y1, x2, y2 = ax + BOX_W, ay + BOX_H / 2, bx, by + BOX_H / 2
    if x2 <= x1:  # back, or within a column: around below
        x1, x2 = ax + BOX_W / 2, bx + BOX_W / 2
        y1, y2 = ay + BOX_H, by + BOX_H
        bend = max(y1, y2) + 26
        path = f"M{x1:.1f},{y1:.1f} C{x1:.1f},{bend:.1f} {x2:.1f},{bend:.1f} {x2:.1f},{y2:.1f}"
    else:
        path = f"M{x1:.1f},{y1:.1f}"
        for x, y in passes:
            path += f" {_curve(x1, y1, x, y)} H{x + BOX_W:.1f}"
            x1, y1 = x + BOX_W, y
        path += f" {_curve(x1, y1, x2, y2)}"
    width = 1 + 7 * math.log1p(edge.calls) / math.log1p(most)
    return Wire(edge, path, round(width, 2), _tone(edge.errors, edge.calls), round(100 * edge.calls / most))


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    middle = (x1 + x2) / 2
    return f"C{middle:.1f},{y1:.1f} {middle:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
