"""Where state lives and by which rules. The state itself is in tables of the nodes (``schema.py``), not in models."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from controlplane.tenancy.models import Tenant


class RingKind(models.TextChoices):
    """What a ring is made of: PostgreSQL for users and shared state, Valkey for sessions."""

    DATABASE = "database"
    CACHE = "cache"


class Node(models.Model):
    """A server that holds state. Without a sealed address it is the installation's own (DATABASE_URL, VALKEY_URL).

    ``generation`` grows when a cache has lost its memory; while ``down_at`` is set, its sessions are served by PostgreSQL, and
    ``spilled`` is the last generation in which sessions that are not durable were kept there instead. ``began_at``: when it
    first served.
    """

    kind = models.CharField(max_length=8, choices=RingKind.choices)
    name = models.SlugField(max_length=40)
    sealed_url = models.BinaryField(null=True)
    weight = models.PositiveSmallIntegerField(default=1)
    generation = models.IntegerField(default=1)
    generation_at = models.DateTimeField(db_default=Now())
    down_at = models.DateTimeField(null=True)
    began_at = models.DateTimeField(null=True)
    spilled = models.IntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind", "name"], name="state_node_once"),
            models.CheckConstraint(condition=Q(weight__gte=1, weight__lte=16), name="state_node_weight"),
        ]

    def __str__(self) -> str:
        return self.name


class Ring(models.Model):
    """The map of one kind: ``owners`` has the id of the node of every slot; ``version`` grows with each change."""

    kind = models.CharField(max_length=8, choices=RingKind.choices, unique=True)
    version = models.BigIntegerField(default=1)
    owners = ArrayField(models.IntegerField())


class Phase(models.TextChoices):
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"


class Rebalancing(models.Model):
    """Slots on their way to the nodes in ``targets``, one after the other, at most ``slots_per_s``."""

    kind = models.CharField(max_length=8, choices=RingKind.choices)
    phase = models.CharField(max_length=8, choices=Phase.choices, default=Phase.RUNNING)
    targets = ArrayField(models.IntegerField())
    slots_total = models.IntegerField()
    slots_done = models.IntegerField(default=0)
    keys_moved = models.BigIntegerField(default=0)
    slots_per_s = models.FloatField(default=50.0)
    started_by = models.CharField(max_length=150)
    started_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=500, default="", blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["kind"], condition=~Q(phase="done"), name="state_one_rebalancing_at_a_time"
            ),
        ]

    @property
    def percent(self) -> int:
        return round(100 * self.slots_done / max(1, self.slots_total))

    @property
    def least_s(self) -> float:
        """How long what is left takes at least, in seconds."""
        return (self.slots_total - self.slots_done) / self.slots_per_s


class Rule(models.Model):
    """What a tenant and those below it may keep, and how; without a tenant, the installation's. ``None``: no limit."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, null=True, related_name="state_rule")
    durable_sessions = models.BooleanField(default=False)
    session_ttl_s = models.PositiveIntegerField(default=3600)
    max_keys = models.BigIntegerField(null=True)
    max_bytes = models.BigIntegerField(null=True)
    user_days = models.PositiveIntegerField(null=True)
    shared_days = models.PositiveIntegerField(null=True)
    encrypt = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant"], nulls_distinct=False, name="state_one_rule_for_the_installation"
            ),
            models.CheckConstraint(
                condition=Q(session_ttl_s__gte=60, session_ttl_s__lte=30 * 86400), name="state_session_ttl"
            ),
        ]


class EndedSession(models.Model):
    """A session that an operator has ended: whoever uses it until ``until`` is told that it starts afresh."""

    tenant = models.CharField(max_length=64)
    session = models.CharField(max_length=200)
    ended_at = models.DateTimeField()
    until = models.DateTimeField(db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "session"], name="state_session_ends_once"),
        ]


class Usage(models.Model):
    """How much a tenant keeps on one node, as an edge last counted it. ``owners`` is known for sessions only."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE)
    tenant = models.CharField(max_length=64)
    kind = models.CharField(max_length=8)
    owners = models.BigIntegerField(default=0)
    keys = models.BigIntegerField()
    bytes = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["node", "tenant", "kind"], name="state_usage_once"),
        ]


class Traffic(models.Model):
    """Reads and writes of a tenant in one minute, by the tier that answered. L1 hits are as SDKs report them."""

    minute = models.DateTimeField()
    tenant = models.CharField(max_length=64)
    kind = models.CharField(max_length=8)
    l1_hits = models.BigIntegerField(default=0)
    l2_hits = models.BigIntegerField(default=0)
    database_hits = models.BigIntegerField(default=0)
    misses = models.BigIntegerField(default=0)
    writes = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["minute", "tenant", "kind"], name="state_traffic_once"),
        ]
