"""Management API: nodes, rings and rebalancings; how tenants keep state."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Body, Field, Router, Schema, Status

from controlplane.state import lookup, queries
from controlplane.state.actions import nodes, owners, rules, sessions
from controlplane.state.models import Rebalancing
from controlplane.tenancy.bearer import asker
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import tenant_seen_by

router = Router(tags=["state"])


class NodeIn(Schema):
    kind: str
    name: str
    url: str
    weight: int = 1


class NodeOut(Schema):
    """A node and what it serves."""

    kind: str
    name: str
    weight: int
    status: str
    slots: int
    keys: int
    bytes: int
    sessions: int


class NodeList(Schema):
    items: list[NodeOut]
    next: str | None = None


class PlanOut(Schema):
    """What a rebalancing would do, in slots by node."""

    kind: str
    slots_moving: int
    part: float
    keys_moving: int
    before: dict[str, int]
    after: dict[str, int]


class RebalancingIn(Schema):
    kind: str
    without: list[str] = Field(default_factory=list)
    slots_per_s: float = 50.0


class SteerIn(Schema):
    phase: str | None = None
    slots_per_s: float | None = None


class RebalancingOut(Schema):
    id: int
    kind: str
    phase: str
    slots_total: int
    slots_done: int
    keys_moved: int
    slots_per_s: float
    started_by: str
    started_at: datetime
    ended_at: datetime | None
    problem: str


class RebalancingList(Schema):
    items: list[RebalancingOut]
    next: str | None = None


class RuleOut(Schema):
    """How a tenant's state is kept, and by whose rule (``null``: the installation's)."""

    of: str | None
    durable_sessions: bool
    session_ttl_s: int
    max_keys: int | None
    max_bytes: int | None
    user_days: int | None
    shared_days: int | None
    encrypt: bool


class OverviewOut(Schema):
    """Reads by the tier that answered them in the last minutes, and what tenants keep."""

    minutes: int
    l1_hits: int
    l2_hits: int
    database_hits: int
    misses: int
    writes: int
    tenants: list[dict[str, Any]]


def _nodes(share: queries.NodeShare) -> dict[str, Any]:
    return {
        "kind": share.node.kind,
        "name": share.node.name,
        "weight": share.node.weight,
        "status": share.status,
        "slots": share.slots,
        "keys": share.keys,
        "bytes": share.bytes,
        "sessions": share.owners,
    }


class ValueOut(Schema):
    """A value and what it was before: version, time and value of each."""

    key: str
    value: Any
    version: int
    size: int
    left_ms: int | None
    history: list[tuple[int, datetime, Any]]


class OwnerOut(Schema):
    """All that a session, a user or a topic has: its export."""

    tenant: str
    kind: str
    owner: str
    slot: int
    nodes: dict[str, str]
    values: list[ValueOut]


class ErasedOut(Schema):
    values: int


class SessionOut(Schema):
    tenant: str
    session: str
    started_at: datetime
    seen_at: datetime
    ends_at: datetime
    keys: int
    bytes: int


class EndIn(Schema):
    tenant: str
    session: str
    reason: str = ""


class SessionList(Schema):
    items: list[SessionOut]
    next: str | None = None


@router.get("/state/", response=OverviewOut)
def overview(request: HttpRequest, minutes: int = 15) -> Any:
    """Reads by tier and what tenants keep, in the caller's scope."""
    who = asker(request)
    found = queries.hits(who, timezone.now(), minutes=min(max(minutes, 1), 24 * 60))
    return {
        "minutes": minutes,
        "l1_hits": found.l1,
        "l2_hits": found.l2,
        "database_hits": found.database,
        "misses": found.missing,
        "writes": found.writes,
        "tenants": [vars(kept) for kept in queries.kept_by_tenant(who)[:200]],
    }


@router.get("/state/nodes/", response=NodeList)
def list_nodes(request: HttpRequest) -> Any:
    """All nodes of both rings."""
    who = asker(request)
    return {"items": [_nodes(share) for kind in ("database", "cache") for share in queries.shares(who, kind)]}


@router.post("/state/nodes/", response={201: NodeOut})
def add_node(request: HttpRequest, body: NodeIn) -> Any:
    """Add a server to a ring: it is prepared, and serves once a rebalancing has moved slots to it."""
    node = nodes.add_node(by=asker(request), **body.dict())
    return Status(201, _nodes(queries.NodeShare(node, 0, 0, 0, 0, None)))


@router.delete("/state/nodes/{kind}/{name}/", response={204: None})
def remove_node(request: HttpRequest, kind: str, name: str) -> Any:
    """Forget a node that serves nothing any more."""
    nodes.remove_node(by=asker(request), kind=kind, name=name)
    return Status(204, None)


@router.get("/state/rings/{kind}/plan", response=PlanOut)
def preview(request: HttpRequest, kind: str, without: str = "") -> Any:
    """What a rebalancing would do; ``without`` names nodes to empty, separated by commas. Nothing is changed."""
    leaving = [name for name in without.split(",") if name]
    return queries.plan(asker(request), kind, without=leaving)


@router.get("/state/rebalancings/", response=RebalancingList)
def list_rebalancings(request: HttpRequest) -> Any:
    """The newest rebalancings."""
    return {"items": queries.rebalancings(asker(request))}


@router.post("/state/rebalancings/", response={201: RebalancingOut})
def start(request: HttpRequest, body: RebalancingIn) -> Any:
    """Move slots to where they belong; the worker begins within seconds."""
    return Status(201, nodes.start_rebalancing(by=asker(request), **body.dict()))


@router.patch("/state/rebalancings/{job}/", response=RebalancingOut)
def steer(request: HttpRequest, job: int, body: SteerIn) -> Rebalancing:
    """Pause a rebalancing, let it go on, or change its pace."""
    return nodes.steer_rebalancing(by=asker(request), job=job, **body.dict())


def _rule(tenant: Tenant | None) -> dict[str, Any]:
    rule, owner = queries.rule_of(tenant)
    return {"of": owner.slug if owner is not None else None, **rules.document_of(rule)}


@router.get("/tenants/{slug}/state/rule", response=RuleOut)
def get_rule(request: HttpRequest, slug: str) -> Any:
    """How a tenant's state is kept."""
    return _rule(tenant_seen_by(asker(request), slug))


@router.put("/tenants/{slug}/state/rule", response=RuleOut)
def put_rule(request: HttpRequest, slug: str, body: Body[dict[str, Any]]) -> Any:
    """Set how the state of a tenant and of those below it is kept."""
    who = asker(request)
    tenant = tenant_seen_by(who, slug)
    rules.put_rule(by=who, tenant=tenant, document=body)
    return _rule(tenant)


@router.delete("/tenants/{slug}/state/rule", response={204: None})
def drop_rule(request: HttpRequest, slug: str) -> Any:
    """Let the rule of those above count again."""
    who = asker(request)
    rules.drop_rule(by=who, tenant=tenant_seen_by(who, slug))
    return Status(204, None)


@router.get("/state/rule", response=RuleOut)
def get_own_rule(request: HttpRequest) -> Any:
    """The installation's rule."""
    asker(request)
    return _rule(None)


@router.put("/state/rule", response=RuleOut)
def put_own_rule(request: HttpRequest, body: Body[dict[str, Any]]) -> Any:
    """Set the rule for all tenants that have none of their own."""
    rules.put_rule(by=asker(request), tenant=None, document=body)
    return _rule(None)


@router.get("/state/sessions/", response=SessionList)
def list_sessions(request: HttpRequest, tenant: str | None = None, limit: int = 100) -> Any:
    """The sessions that are kept now, the last seen first."""
    return {"items": lookup.alive_sessions(asker(request), tenant=tenant, most=min(max(limit, 1), 500))}


@router.post("/state/sessions/end", response=ErasedOut)
def end(request: HttpRequest, body: EndIn) -> Any:
    """End a session: what it has is erased, and whoever uses it next is told that it starts afresh."""
    return {"values": sessions.end_session(by=asker(request), now=timezone.now(), **body.dict())}


@router.get("/tenants/{slug}/state/{kind}/{path:owner}", response=OwnerOut)
def export(request: HttpRequest, slug: str, kind: str, owner: str) -> Any:
    """Everything that a session, a user or a topic has, with earlier versions."""
    found = lookup.everything(asker(request), slug, kind, owner)
    return {
        "tenant": slug,
        "kind": kind,
        "owner": owner,
        "slot": found.space.slot,
        "nodes": found.nodes,
        "values": [vars(value) for value in found.values],
    }


@router.delete("/tenants/{slug}/state/{kind}/{path:owner}", response=ErasedOut)
def erase(request: HttpRequest, slug: str, kind: str, owner: str, reason: str = "") -> Any:
    """Erase everything that a session, a user or a topic has, earlier versions too."""
    erased = owners.erase_owner(by=asker(request), tenant=slug, kind=kind, owner=owner, reason=reason)
    return {"values": erased}
