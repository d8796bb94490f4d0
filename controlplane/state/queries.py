"""What operators may know of state: nodes, rings, rules, traffic, usage. The values themselves are read by ``lookup``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max, Q, Sum

from controlplane.problems import Forbidden, NotFound
from controlplane.state.models import Node, Phase, Rebalancing, Ring, RingKind, Rule, Traffic, Usage
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import Asker, slugs_seen_by
from tidegate.core.partition import SLOTS, assign, moved

RULE_FIELDS = (
    "durable_sessions", "session_ttl_s", "max_keys", "max_bytes", "user_days", "shared_days", "encrypt",
)  # fmt: skip


def must_see_all(asker: Asker) -> None:
    """Nodes are the installation's: whoever is of one tenant neither sees nor moves them."""
    if asker.tenant is not None:
        raise Forbidden("Nodes and rings are the installation's own.")


def ring_of(kind: str) -> Ring:
    """Return a ring; ``NotFound`` before any edge has run."""
    ring = Ring.objects.filter(kind=kind).first()
    if ring is None:
        raise NotFound(f"There is no ring {kind!r} yet: the server has not been up.")
    return ring


def nodes_of(kind: str) -> list[Node]:
    return list(Node.objects.filter(kind=kind).order_by("id"))


@dataclass(frozen=True)
class NodeShare:
    """A node with what it serves. ``slots`` may be 0 for one that waits for a rebalancing."""

    node: Node
    slots: int
    keys: int
    bytes: int
    owners: int
    counted_at: datetime | None

    @property
    def status(self) -> str:
        if self.node.down_at is not None:
            return "away"
        if self.node.kind == RingKind.CACHE and self.node.began_at is None:
            return "starting"
        return "serving" if self.slots else "empty"


def shares(asker: Asker, kind: str) -> list[NodeShare]:
    """Return the nodes of a ring with their slots and what they hold."""
    must_see_all(asker)
    ring = Ring.objects.filter(kind=kind).first()
    slots = Counter(ring.owners if ring is not None else [])
    held: dict[int, dict[str, Any]] = {
        row["node"]: dict(row)
        for row in Usage.objects.values("node").annotate(
            k=Sum("keys"), b=Sum("bytes"), o=Sum("owners"), counted=Max("at")
        )
    }
    none: dict[str, Any] = {"k": 0, "b": 0, "o": 0, "counted": None}
    return [
        NodeShare(node, slots[node.pk], row["k"], row["b"], row["o"], row["counted"])
        for node in nodes_of(kind)
        for row in [held.get(node.pk, none)]
    ]


@dataclass(frozen=True)
class Plan:
    """What a rebalancing would do. ``before`` and ``after`` are slots by the name of the node."""

    kind: str
    targets: tuple[int, ...]
    slots_moving: int
    before: dict[str, int]
    after: dict[str, int]
    keys_moving: int

    @property
    def part(self) -> float:
        """The part of the slots that moves."""
        return self.slots_moving / SLOTS

    @property
    def lines(self) -> list[tuple[str, int, int]]:
        """Name, slots now and slots then of every node."""
        names = sorted({*self.before, *self.after})
        return [(name, self.before.get(name, 0), self.after.get(name, 0)) for name in names]


def plan(asker: Asker, kind: str, *, without: Sequence[str] = ()) -> Plan:
    """Return how slots would be dealt to the nodes there are, but for those named; nothing is changed."""
    must_see_all(asker)
    ring, nodes = ring_of(kind), nodes_of(kind)
    unknown = set(without) - {node.name for node in nodes}
    if unknown:
        raise NotFound(f"There is no {kind} node {min(unknown)!r}.")
    staying = {node.name: node for node in nodes if node.name not in without}
    if not staying:
        raise Forbidden("At least one node has to stay.")
    targets = tuple(staying[name].pk for name in assign({name: node.weight for name, node in staying.items()}))
    names = {node.pk: node.name for node in nodes}
    moving = moved(ring.owners, targets)
    by_node = {share.node.pk: share for share in shares(asker, kind)}
    leaving = Counter(ring.owners[slot] for slot in moving)
    keys = sum(
        round(by_node[pk].keys * count / by_node[pk].slots) for pk, count in leaving.items() if by_node[pk].slots
    )
    return Plan(
        kind=kind,
        targets=targets,
        slots_moving=len(moving),
        before={names[pk]: count for pk, count in sorted(Counter(ring.owners).items())},
        after={names[pk]: count for pk, count in sorted(Counter(targets).items())},
        keys_moving=keys,
    )


def rebalancings(asker: Asker) -> list[Rebalancing]:
    """Return those that are at work, and the newest that are not."""
    must_see_all(asker)
    return list(Rebalancing.objects.order_by("-id")[:10])


def at_work(asker: Asker, kind: str) -> Rebalancing | None:
    must_see_all(asker)
    return Rebalancing.objects.filter(kind=kind).exclude(phase=Phase.DONE).first()


def rule_of(tenant: Tenant | None) -> tuple[Rule, Tenant | None]:
    """Return the rule that a tenant's state is kept by, and whose it is: its own, an ancestor's, the installation's."""
    lineage = tenant.lineage if tenant is not None else []
    rules = {rule.tenant_id: rule for rule in Rule.objects.filter(tenant_id__in=lineage).select_related("tenant")}
    for pk in reversed(lineage):
        if pk in rules:
            return rules[pk], rules[pk].tenant
    return Rule.objects.filter(tenant=None).first() or Rule(), None


def rules_by_slug(slugs: Sequence[str]) -> dict[str, Rule]:
    """Return the rules that some tenants' state is kept by; the installation's for slugs that nobody has registered."""
    rules = {rule.tenant_id: rule for rule in Rule.objects.all()}
    default = rules.get(None) or Rule()
    found = dict.fromkeys(slugs, default)
    for slug, lineage in Tenant.objects.filter(slug__in=slugs).values_list("slug", "lineage"):
        found[slug] = next((rules[pk] for pk in reversed(lineage) if pk in rules), default)
    return found


@dataclass(frozen=True)
class Kept:
    """What a tenant keeps. ``sessions`` are alive now."""

    tenant: str
    sessions: int
    session_keys: int
    user_keys: int
    shared_keys: int
    bytes: int


def kept_by_tenant(asker: Asker) -> list[Kept]:
    """Return what tenants in the asker's scope keep, who keeps most first. A shadow counts as a session's keys only once."""
    usage = Usage.objects.all()
    seen = slugs_seen_by(asker)
    if seen is not None:
        usage = usage.filter(tenant__in=seen)
    found: dict[str, Counter[str]] = {}
    rows = usage.values("tenant", "kind", "node__kind").annotate(k=Sum("keys"), b=Sum("bytes"), o=Sum("owners"))
    for row in rows:
        counts = found.setdefault(row["tenant"], Counter())
        counts["bytes"] += row["b"]
        if row["kind"] == "session" and row["node__kind"] == RingKind.DATABASE:
            counts["shadow"] += row["k"]
        else:
            counts[row["kind"]] += row["k"]
            counts["sessions"] += row["o"]
    kept = [
        Kept(
            tenant,
            counts["sessions"],
            counts["session"] or counts["shadow"],
            counts["user"],
            counts["shared"],
            counts["bytes"],
        )
        for tenant, counts in found.items()
    ]
    return sorted(kept, key=lambda each: (-each.bytes, each.tenant))


@dataclass(frozen=True)
class Hits:
    """Reads in a span of time, by the tier that answered. ``sessions_*``: those of sessions that L1 did not answer."""

    l1: int = 0
    l2: int = 0
    database: int = 0
    missing: int = 0
    writes: int = 0
    sessions_database: int = 0
    sessions_missing: int = 0

    @property
    def reads(self) -> int:
        return self.l1 + self.l2 + self.database + self.missing

    def rate(self, tier: str) -> float | None:
        """Return the part of the reads that came to a tier and were answered there, ``None`` when none came.

        Only sessions come to L2; of the database it is that of users and topics, as misses of sessions may not have come to it.
        """
        owned = self.database - self.sessions_database
        answered, came = {
            "l1": (self.l1, self.reads),
            "l2": (self.l2, self.l2 + self.sessions_database + self.sessions_missing),
            "database": (owned, owned + self.missing - self.sessions_missing),
        }[tier]
        return answered / came if came else None


def hits(asker: Asker, now: datetime, *, minutes: int = 15, kind: str | None = None) -> Hits:
    """Return the reads and writes of the last minutes in the asker's scope."""
    traffic = Traffic.objects.filter(minute__gt=now - timedelta(minutes=minutes))
    seen = slugs_seen_by(asker)
    if seen is not None:
        traffic = traffic.filter(tenant__in=seen)
    if kind is not None:
        traffic = traffic.filter(kind=kind)
    sums = traffic.aggregate(
        l1=Sum("l1_hits"),
        l2=Sum("l2_hits"),
        database=Sum("database_hits"),
        missing=Sum("misses"),
        writes=Sum("writes"),
        sessions_database=Sum("database_hits", filter=Q(kind="session")),
        sessions_missing=Sum("misses", filter=Q(kind="session")),
    )
    return Hits(**{name: value or 0 for name, value in sums.items()})
