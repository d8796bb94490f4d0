"""State: which tier answers how much, the rings of nodes, rebalancings, what tenants keep; and what one owner has."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import cos, pi, sin
from typing import Any

from controlplane.domain.state import KINDS
from controlplane.problems import NotFound, Problem
from controlplane.state import lookup, queries
from controlplane.state.models import Rebalancing, Ring
from controlplane.tenancy.models import Role
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params
from tidegate.core.partition import SLOTS

MINUTES = 15
MOST_TENANTS = 50
RINGS = (("cache", "Sessions", "Valkey"), ("database", "Users and topics", "PostgreSQL"))
INNER, OUTER = 58.0, 78.0  # of the slots, each where it is
SHARES = 89.0  # of the arcs around them, which add up each node's
GAP = 0.012  # between arcs, in radians


@dataclass(frozen=True)
class Tier:
    """One tier as shown. ``share`` is its part of all reads, ``rate`` of those that came as far as to it."""

    name: str
    title: str
    where: str
    life: str
    answered: int
    share: float
    rate: float | None
    series: int


@dataclass(frozen=True)
class Node:
    """A node with the path of its slots on the ring, one line each, and the arc of its share."""

    share: queries.NodeShare
    series: int
    part: float
    path: str
    arc: str


@dataclass(frozen=True)
class RingView:
    kind: str
    title: str
    engine: str
    version: int
    nodes: list[Node]
    job: Rebalancing | None
    plan: queries.Plan | None  # what a rebalancing would do now, when it would do anything


def _tick(slot: int) -> str:
    angle = 2 * pi * (slot + 0.5) / SLOTS - pi / 2
    x, y = cos(angle), sin(angle)
    return f"M{100 + INNER * x:.1f} {100 + INNER * y:.1f}L{100 + OUTER * x:.1f} {100 + OUTER * y:.1f}"


def _arc(begin: int, end: int) -> str:
    """Return the arc from one slot's beginning to another's; nothing for no slots, a circle for all of them."""
    if begin == end:
        return ""
    gap = 0.0 if end - begin == SLOTS else GAP
    angles = [2 * pi * at / SLOTS - pi / 2 for at in (begin, (begin + end) / 2, end)]
    points = [
        f"{100 + SHARES * cos(angle):.2f} {100 + SHARES * sin(angle):.2f}"
        for angle in (angles[0] + gap, angles[1], max(angles[1], angles[2] - gap))
    ]
    step = f"A{SHARES:g} {SHARES:g} 0 0 1 "
    return f"M{points[0]}{step}{points[1]}{step}{points[2]}"


def _nodes(shares: list[queries.NodeShare], owners: list[int]) -> list[Node]:
    ticks: dict[int, list[str]] = {}
    for slot, owner in enumerate(owners):
        ticks.setdefault(owner, []).append(_tick(slot))
    ends = [*accumulate((share.slots for share in shares), initial=0)]
    return [
        Node(
            share,
            number % 5 + 1,
            share.slots / SLOTS,
            "".join(ticks.get(share.node.pk, ())),
            _arc(*ends[number : number + 2]),
        )
        for number, share in enumerate(shares)
    ]


def _ring(asking: Asking, kind: str, title: str, engine: str) -> RingView | None:
    ring = Ring.objects.filter(kind=kind).first()
    if ring is None:
        return None
    job = queries.at_work(asking.asker, kind)
    plan = queries.plan(asking.asker, kind) if job is None else None
    return RingView(
        kind=kind,
        title=title,
        engine=engine,
        version=ring.version,
        nodes=_nodes(queries.shares(asking.asker, kind), ring.owners),
        job=job,
        plan=plan if plan is not None and plan.slots_moving else None,
    )


def _tiers(hits: queries.Hits) -> list[Tier]:
    reads = hits.reads

    def tier(name: str, title: str, where: str, life: str, answered: int, rate: float | None, series: int) -> Tier:
        return Tier(name, title, where, life, answered, answered / reads if reads else 0.0, rate, series)

    return [
        tier("L1", "Callers’ memory", "in every process", "10 s, told of changes", hits.l1, hits.rate("l1"), 1),
        tier("L2", "Sessions", "Valkey", "an hour after the last use", hits.l2, hits.rate("l2"), 2),
        tier(
            "L3, L4", "Users, topics, shadows", "PostgreSQL", "until deleted", hits.database, hits.rate("database"), 3
        ),
        tier("", "Nothing there", "", "", hits.missing, None, 4),
    ]


def build(asking: Asking, params: Params) -> Context:
    who = asking.asker
    hits = queries.hits(who, asking.now, minutes=MINUTES)
    kept = queries.kept_by_tenant(who)
    rules = queries.rules_by_slug([each.tenant for each in kept[:MOST_TENANTS]])
    sees_nodes = who.tenant is None
    rings = [ring for each in RINGS if sees_nodes and (ring := _ring(asking, *each)) is not None]
    away = [node for ring in rings for node in ring.nodes if node.share.status == "away"]
    return {
        "title": "State",
        "minutes": MINUTES,
        "hits": hits,
        "tiers": _tiers(hits),
        "reads_per_s": hits.reads / (MINUTES * 60),
        "writes_per_s": hits.writes / (MINUTES * 60),
        "kept": [(each, rules[each.tenant]) for each in kept[:MOST_TENANTS]],
        "more": max(0, len(kept) - MOST_TENANTS),
        "keys": sum(each.session_keys + each.user_keys + each.shared_keys for each in kept),
        "bytes": sum(each.bytes for each in kept),
        "sessions": sum(each.sessions for each in kept),
        "rings": rings,
        "away": away,
        "past": [job for job in queries.rebalancings(who) if job.phase == "done"][:5] if sees_nodes else [],
        "may_move": sees_nodes and who.may(Role.ADMIN),
        "kinds": KINDS,
        "kind": params.value("kind") or "session",
        "tenant": params.value("tenant"),
    }


PAGE = Page(
    name="state",
    section="state",
    template="pages/state.html",
    parts={
        "state_summary": "state/summary.html",
        "state_tiers": "state/tiers.html",
        "state_rings": "state/rings.html",
        "state_work": "state/work.html",
        "state_tenants": "state/tenants.html",
    },
    build=build,
    params=frozenset({"kind", "tenant"}),
)


def build_owner(asking: Asking, params: Params) -> Context:
    asking.asker.must(Role.OPERATOR)
    tenant, kind, owner = params.value("tenant"), params.value("kind"), params.value("owner")
    found: Any = None
    problem = ""
    try:
        found = lookup.everything(asking.asker, tenant, kind, owner) if owner else None
    except NotFound:
        raise
    except Problem as error:
        problem = error.detail
    return {
        "title": owner or "Look up",
        "tenant": tenant,
        "kind": kind,
        "kinds": KINDS,
        "owner": owner,
        "found": found,
        "problem": problem,
        "rule": queries.rules_by_slug([tenant])[tenant],
    }


OWNER = Page(
    name="state-owner",
    section="state",
    template="pages/state_owner.html",
    parts={},
    build=build_owner,
    params=frozenset({"tenant", "kind", "owner"}),
)
