"""Nodes come and go, and slots are moved to where they belong."""

from __future__ import annotations

import re
from collections.abc import Sequence

import psycopg
import redis
from asgiref.sync import async_to_sync
from django.db import IntegrityError, transaction
from psycopg import AsyncConnection

from controlplane import live
from controlplane.problems import Conflict, Invalid, NotFound
from controlplane.state import queries, sameness, schema
from controlplane.state.models import Node, Phase, Rebalancing, Ring, RingKind
from controlplane.state.sealing import seal
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker
from tidegate.core.partition import MAX_NODES, MAX_WEIGHT

MAIN = "main"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_SCHEMES = {RingKind.DATABASE: ("postgresql://", "postgres://"), RingKind.CACHE: ("redis://", "rediss://", "valkey://")}
_UNREACHABLE = (psycopg.Error, redis.RedisError, OSError, ValueError)


def add_node(*, by: Asker, kind: str, name: str, url: str, weight: int = 1) -> Node:
    """Add a server to a ring. It is reached and prepared first; it serves nothing before a rebalancing."""
    by.must(Role.ADMIN)
    queries.must_see_all(by)
    errors = _faults(kind, name, url, weight)
    if errors:
        raise Invalid("The node can't be added like this.", errors=errors)
    _prepare(kind, url)
    _must_be_new(kind, url)
    with transaction.atomic():
        queries.ring_of(kind)
        if Node.objects.filter(kind=kind).count() >= MAX_NODES:
            raise Conflict(f"A ring has at most {MAX_NODES} nodes.")
        try:
            with transaction.atomic():
                node = Node.objects.create(
                    kind=kind, name=name, sealed_url=seal(url.encode(), "", "node", name), weight=weight
                )
        except IntegrityError:
            raise Conflict(f"There is already a {kind} node {name}.", errors={"name": "is taken"}) from None
        _tell(by, "state.node_added", node.name, f"Added {kind} node {name} of weight {weight}")
    return node


def _faults(kind: str, name: str, url: str, weight: int) -> dict[str, str]:
    errors = {}
    if kind not in RingKind.values:
        errors["kind"] = f"must be one of {', '.join(RingKind.values)}"
    elif not url.startswith(_SCHEMES[RingKind(kind)]):
        errors["url"] = f"must begin with {' or '.join(_SCHEMES[RingKind(kind)])}"
    if not _NAME.fullmatch(name):
        errors["name"] = "must have 1 to 40 of a-z, 0-9 and -, not starting with -"
    if not 1 <= weight <= MAX_WEIGHT:
        errors["weight"] = f"must be from 1 to {MAX_WEIGHT}"
    return errors


def _prepare(kind: str, url: str) -> None:
    """Reach the server and make its tables; ``Invalid`` says why that was not possible."""
    try:
        if kind == RingKind.DATABASE:
            async_to_sync(_make_tables)(url)
        else:
            with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as valkey:
                valkey.ping()
    except _UNREACHABLE as error:
        raise Invalid("The node can't be reached.", errors={"url": _first_line(error)}) from None


def _must_be_new(kind: str, url: str) -> None:
    """``Conflict`` when the server is a node already, under whatever name and address."""
    try:
        known = sameness.node_at(kind, url)
    except _UNREACHABLE as error:
        text = f"A node can't be reached, so nobody can say whether it is the same server: {_first_line(error)}"
        raise Conflict(text) from None
    if known is not None:
        raise Conflict(f"That server is the node {known} already.", errors={"url": f"leads to the node {known}"})


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


async def _make_tables(url: str) -> None:
    async with await AsyncConnection.connect(url, connect_timeout=3) as connection:
        await schema.prepare(connection)


@transaction.atomic
def remove_node(*, by: Asker, kind: str, name: str) -> None:
    """Forget a node that serves nothing any more."""
    by.must(Role.ADMIN)
    queries.must_see_all(by)
    node = Node.objects.select_for_update().filter(kind=kind, name=name).first()
    if node is None:
        raise NotFound(f"There is no {kind} node {name!r}.")
    ring = Ring.objects.select_for_update().get(kind=kind)
    slots = ring.owners.count(node.pk)
    job = queries.at_work(by, kind)
    if slots or (job is not None and node.pk in job.targets):
        raise Conflict(f"{name} serves {slots} slots, or is about to: rebalance without it first.")
    node.delete()
    _tell(by, "state.node_removed", name, f"Removed {kind} node {name}")


@transaction.atomic
def start_rebalancing(*, by: Asker, kind: str, without: Sequence[str] = (), slots_per_s: float = 50.0) -> Rebalancing:
    """Begin to move slots to where they belong with the nodes there are, but for those named ``without``."""
    by.must(Role.ADMIN)
    _check_pace(slots_per_s)
    Ring.objects.select_for_update().filter(kind=kind).first()
    plan = queries.plan(by, kind, without=without)
    if queries.at_work(by, kind) is not None:
        raise Conflict("A rebalancing of this ring is at work: let it end, or pause it and change its pace.")
    if not plan.slots_moving:
        raise Conflict("Every slot is where it belongs.")
    job = Rebalancing.objects.create(
        kind=kind,
        targets=list(plan.targets),
        slots_total=plan.slots_moving,
        slots_per_s=slots_per_s,
        started_by=by.name,
    )
    gone = f" without {', '.join(without)}" if without else ""
    _tell(by, "state.rebalancing_started", kind, f"Moves {plan.slots_moving} slots of the {kind} ring{gone}")
    return job


@transaction.atomic
def steer_rebalancing(
    *, by: Asker, job: int, phase: str | None = None, slots_per_s: float | None = None
) -> Rebalancing:
    """Pause a rebalancing, let it go on, or change its pace."""
    by.must(Role.ADMIN)
    queries.must_see_all(by)
    found = Rebalancing.objects.select_for_update().filter(pk=job).first()
    if found is None:
        raise NotFound("There is no such rebalancing.")
    if found.phase == Phase.DONE:
        raise Conflict("The rebalancing is done.")
    if phase is not None:
        if phase not in (Phase.RUNNING, Phase.PAUSED):
            raise Invalid("The phase is not one.", errors={"phase": "must be running or paused"})
        found.phase = Phase(phase)
    if slots_per_s is not None:
        _check_pace(slots_per_s)
        found.slots_per_s = slots_per_s
    found.save(update_fields=["phase", "slots_per_s"])
    _tell(
        by,
        "state.rebalancing_steered",
        found.kind,
        f"The rebalancing of the {found.kind} ring is {found.phase}, at most {found.slots_per_s:g} slots a second",
    )
    return found


def _check_pace(slots_per_s: float) -> None:
    if not 0.1 <= slots_per_s <= 10_000:
        raise Invalid("The pace is not one.", errors={"slots_per_s": "must be from 0.1 to 10,000"})


def _tell(by: Asker, action: str, target: str, summary: str) -> None:
    record(by=by, action=action, target_kind="state", target=target, summary=summary)
    live.changed("state")
