"""The SDK instances: what they run, what they acknowledged, and the state of their breakers."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from controlplane.tenancy.models import SdkKey, Tenant


class BreakerPhase(models.TextChoices):
    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Instance(models.Model):
    """One run of one SDK client: an incarnation, minted at start, never reused, dropped by a forked child.

    ``windows_acked`` is the number of the last call window folded: what makes folding exactly once. ``windows_before`` is the one
    before the last sync: what that sync had to fold is above it.
    """

    incarnation = models.UUIDField(primary_key=True)
    key = models.ForeignKey(SdkKey, on_delete=models.PROTECT, related_name="instances")
    scope = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    app = models.CharField(max_length=120)
    host = models.CharField(max_length=255)
    pid = models.BigIntegerField()
    sdk = models.CharField(max_length=64)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True)
    seq = models.BigIntegerField(default=0)
    windows_acked = models.BigIntegerField(default=0)
    windows_before = models.BigIntegerField(db_default=0)
    config_etag = models.CharField(max_length=64, default="")
    config_at = models.DateTimeField(null=True)  # it took that config, as far as it said
    refused_etag = models.CharField(max_length=64, default="")
    refused_reason = models.CharField(max_length=500, default="")
    clock_skew_ms = models.BigIntegerField(default=0)
    active_sessions = models.IntegerField(default=0)
    queue_depth = models.IntegerField(default=0)
    dropped_windows = models.BigIntegerField(default=0)
    dropped_spans = models.BigIntegerField(default=0)

    class Meta:
        # Every sync changes ``seen_at``: another kind of index would be written anew each time.
        indexes: ClassVar = [
            BrinIndex(fields=["seen_at"], name="instance_seen", pages_per_range=16, autosummarize=True)
        ]


class EndedInstance(models.Model):
    """A client that was silent for so long that nothing is known of it any more but its name: it is never heard again."""

    incarnation = models.UUIDField(primary_key=True)


class BreakerState(models.Model):
    """The last reported state of one breaker of one instance, with the evidence for it."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="breakers")
    route = models.CharField(max_length=64)
    model = models.CharField(max_length=120, default="")
    # Of the breaker of one credential, which others are not shut by.
    credential = models.CharField(max_length=64, default="")
    phase = models.CharField(max_length=16, choices=BreakerPhase.choices)
    mode = models.CharField(max_length=16, default="auto")
    since = models.DateTimeField()
    calls = models.BigIntegerField(default=0)  # in the breaker's window
    failures = models.BigIntegerField(default=0)
    slow = models.BigIntegerField(default=0)
    hung = models.BigIntegerField(default=0)  # of the slow ones: still in flight
    refused = models.BigIntegerField(default=0)  # since the phase began
    cause = models.CharField(max_length=300, default="")
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["instance", "route", "model", "credential"], name="breaker_state_once"),
            models.CheckConstraint(condition=Q(phase__in=BreakerPhase.values), name="breaker_state_phase_known"),
        ]


class LimitDemand(models.Model):
    """What an instance lately asked of a fleet-wide limit, and the part of it that it was promised.

    ``in_force`` is the most that it may be using: until it has acknowledged a smaller part, or was silent for too long.
    """

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="demands")
    tenant = models.CharField(max_length=64)
    route = models.CharField(max_length=64)
    unit = models.CharField(max_length=16)
    capacity = models.FloatField(default=0.0)
    per_s = models.FloatField(default=0.0)
    promised = models.FloatField(default=0.0)
    in_force = models.FloatField(default=0.0)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["instance", "tenant", "route", "unit"], name="limit_demand_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["tenant", "route", "unit"], name="limit_demand_subject")]
