"""Who there is: tenants in a tree, operators and their tokens, SDK keys, and the audit trail of every write."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Role(models.TextChoices):
    """What an operator may do: look; adjust budgets, policies and breakers; manage tenants, keys and operators."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Tenant(models.Model):
    """A customer, team or service whose calls are governed together. ``lineage`` holds the ids from the root to itself."""

    slug = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=120)
    parent = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="children")
    lineage = ArrayField(models.BigIntegerField(), default=list)
    is_demo = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["slug"]
        indexes: ClassVar = [GinIndex(fields=["lineage"], name="tenant_lineage")]
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(parent=models.F("id")), name="tenant_not_its_own_parent"),
        ]

    def __str__(self) -> str:
        return self.name


class Operator(AbstractUser):
    """A person who signs in. With a tenant, they see and touch that tenant's subtree alone."""

    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="operators")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(role__in=Role.values), name="operator_role_known"),
        ]


class OperatorToken(models.Model):
    """A bearer token for operators' programs. Only a SHA-256 digest of it is kept."""

    name = models.CharField(max_length=120)
    selector = models.CharField(max_length=16, unique=True)
    digest = models.BinaryField(max_length=32)
    role = models.CharField(max_length=16, choices=Role.choices)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="tokens")
    created_by = models.CharField(max_length=150, default="")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(role__in=Role.values), name="operator_token_role_known"),
        ]


class SdkKey(models.Model):
    """A key that SDKs present: ``tg_`` + selector + ``_`` + secret. Scoped to a tenant's subtree, or to all without one.

    Two live keys of one name in one scope allow a rotation without a gap; ``actions.keys`` refuses a third.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="keys")
    name = models.CharField(max_length=120)
    selector = models.CharField(max_length=16, unique=True)
    digest = models.BinaryField(max_length=32, unique=True)
    created_by = models.CharField(max_length=150, default="")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)


class AuditEntry(models.Model):
    """One write: who did what to which thing, what it was before and after, and why."""

    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=150)  # "anna", "token:deploy-bot", "system"
    action = models.CharField(max_length=64)  # "budget.amount_changed"
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    target_kind = models.CharField(max_length=32)
    target = models.CharField(max_length=200)
    summary = models.CharField(max_length=300)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    reason = models.CharField(max_length=500, default="", blank=True)
    request_id = models.CharField(max_length=64, default="", blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["-at", "-id"], name="audit_newest"),
            models.Index(fields=["target_kind", "target"], name="audit_target"),
        ]


class IdempotentReply(models.Model):
    """What a request with an ``Idempotency-Key`` was answered, so that a retry gets the same answer."""

    caller = models.CharField(max_length=64)  # the selector of the token
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64)  # SHA-256 over method, path and body
    status = models.PositiveSmallIntegerField(null=True)
    body = models.BinaryField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["caller", "key"], name="idempotent_reply_once"),
        ]
