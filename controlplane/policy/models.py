"""What operators intend: policy documents per tenant and route, their revisions, and the snapshots that SDKs are served."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from controlplane.tenancy.models import Tenant


class BreakerMode(models.TextChoices):
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    AUTO = "auto"


class Revision(models.Model):
    """One change of intent, numbered for the whole installation. Restoring is a new revision with the old document."""

    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=150)
    kind = models.CharField(max_length=32)  # "policy", "budget", "breaker", "tenant", "price"
    subject = models.CharField(max_length=200)  # "acme/chat"; "/chat" for the installation's own
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    summary = models.CharField(max_length=300)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["kind", "subject", "-id"], name="revision_subject")]


class RoutePolicy(models.Model):
    """The policy document of a tenant (or of the installation, without one) for a route; ``*`` stands for every route."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="policies")
    route = models.CharField(max_length=64, default="*")
    document = models.JSONField(default=dict)
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, null=True, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "route"], name="route_policy_once", nulls_distinct=False),
        ]


class BreakerOverride(models.Model):
    """An operator's hand on the breakers of a route. Raising ``resets`` makes every client start afresh, closed."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    route = models.CharField(max_length=64)
    mode = models.CharField(max_length=16, choices=BreakerMode.choices, default=BreakerMode.AUTO)
    resets = models.PositiveIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "route"], name="breaker_override_once", nulls_distinct=False),
            models.CheckConstraint(condition=Q(mode__in=BreakerMode.values), name="breaker_override_mode_known"),
        ]


class Snapshot(models.Model):
    """What SDKs of one scope are served: compiled, immutable, named by the SHA-256 of its bytes."""

    scope = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, null=True, related_name="+")
    etag = models.CharField(max_length=64)
    body = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [models.Index(fields=["scope", "-id"], name="snapshot_newest")]
