"""Deployments, their immutable releases, the rollouts that bring one to everybody, and what the arms came to."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from controlplane.domain.rollout import ENDED, OPEN, STRATEGIES, Plan, RingPlan, State
from controlplane.domain.verdict import Rules
from controlplane.tenancy.models import Tenant
from tidegate.core.bucketing import METHODS
from tidegate.core.release import UNITS


class Deployment(models.Model):
    """What has releases: the configuration of calls on ``routes`` of a tenant and its subtree, or of the installation.

    ``step`` numbers the rules by which units got their release: every change has its own, and counts name it.
    """

    slug = models.SlugField(max_length=64, unique=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="deployments")
    routes = ArrayField(models.CharField(max_length=64), default=list, blank=True)
    unit = models.CharField(max_length=16, default="session")
    method = models.CharField(max_length=16, default="tidegate")  # the hash that places units
    salt = models.CharField(max_length=128)
    window_s = models.PositiveIntegerField(default=30)  # how long a unit's calls make up its outcome
    schema = models.JSONField(null=True, blank=True)  # that every config must fit
    needs_approval = models.BooleanField(default=False)
    notify = ArrayField(models.CharField(max_length=64), default=list, blank=True)  # names of channels that are told
    stable = models.ForeignKey("Release", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    step = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["slug"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(unit__in=UNITS), name="deployment_unit_known"),
            models.CheckConstraint(condition=Q(method__in=list(METHODS)), name="deployment_method_known"),
        ]


class Release(models.Model):
    """A configuration that never changes (a trigger refuses it), named by the SHA-256 of its canonical JSON."""

    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="releases")
    version = models.CharField(max_length=40)
    digest = models.CharField(max_length=64)
    config = models.JSONField()
    notes = models.CharField(max_length=2000, default="", blank=True)
    author = models.CharField(max_length=150)
    created_at = models.DateTimeField(db_default=Now())
    bad_at = models.DateTimeField(null=True, blank=True)  # rolled back: it is never returned to
    bad_reason = models.CharField(max_length=500, default="", blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "version"], name="release_version_once"),
            models.UniqueConstraint(fields=["deployment", "digest"], name="release_content_once"),
        ]

    @property
    def name(self) -> str:
        """How snapshots and counts name it."""
        return self.digest[:16]


class Rollout(models.Model):
    """One release on its way to everybody. ``controlplane.domain.rollout`` decides; this is what it remembers."""

    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="rollouts")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="rollouts")
    previous = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="+")
    strategy = models.CharField(max_length=16)
    baseline = models.BooleanField(default=False)  # compare time and cost with an arm of the same size
    rings = models.JSONField()  # [RingPlan as an object, …]
    alpha = models.FloatField(default=0.01)
    beta = models.FloatField(default=0.05)
    max_error_rate = models.FloatField(null=True, blank=True)
    phase = models.CharField(max_length=16, default="draft")
    ring = models.SmallIntegerField(default=-1)
    step = models.BigIntegerField(default=0)
    first_step = models.BigIntegerField(default=0)  # of this attempt
    revision = models.BigIntegerField(default=0)  # that last changed who gets what
    entered_at = models.DateTimeField(null=True, blank=True)
    extended_s = models.IntegerField(default=0)
    skipped = models.BooleanField(default=False)
    asks = models.BooleanField(default=False)
    flipped = models.BooleanField(default=False)
    starts_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=500, default="", blank=True)
    bad = models.BooleanField(default=False)
    attempt = models.PositiveSmallIntegerField(default=1)
    version = models.PositiveIntegerField(default=1)
    evidence = models.JSONField(default=dict)  # controlplane.domain.arms
    applied = models.JSONField(default=dict)  # {"step", "clients", "p99_ms"}: how fast clients took its last change
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["deployment"], condition=Q(phase__in=sorted(OPEN)), name="rollout_one_at_a_time"
            ),
            models.CheckConstraint(condition=Q(phase__in=sorted(OPEN | ENDED)), name="rollout_phase_known"),
            models.CheckConstraint(condition=Q(strategy__in=STRATEGIES), name="rollout_strategy_known"),
            models.CheckConstraint(
                condition=Q(alpha__gt=0, alpha__lt=1, beta__gt=0, beta__lt=1), name="rollout_errors_are_chances"
            ),
        ]

    @property
    def plan(self) -> Plan:
        rings = [
            RingPlan(**{**ring, **{part: tuple(ring.get(part, ())) for part in ("tenants", "users", "regions")}})
            for ring in self.rings
        ]
        return Plan(self.strategy, tuple(rings), self.deployment.needs_approval)

    @property
    def rules(self) -> Rules:
        return Rules(self.alpha, self.beta, self.max_error_rate)

    @property
    def state(self) -> State:
        return State(**{name: getattr(self, name) for name in State._fields})

    def follow(self, state: State) -> None:
        """Take over ``state``; the caller saves."""
        for name, value in state._asdict().items():
            setattr(self, name, value[:500] if name == "reason" else value)


class RolloutEvent(models.Model):
    """One line of a rollout's history. ``version`` is the rollout's afterwards."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    verb = models.CharField(max_length=20)
    phase = models.CharField(max_length=16)
    ring = models.SmallIntegerField()
    version = models.PositiveIntegerField()
    reason = models.CharField(max_length=500, default="")
    told = models.BooleanField(default=True)  # the deployment's channels know, or need not

    class Meta:
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [models.Index(fields=["id"], condition=Q(told=False), name="rollout_event_untold")]


class Freeze(models.Model):
    """A span in which no rollout goes on. Rolling back always may."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=300, default="", blank=True)
    created_by = models.CharField(max_length=150)

    class Meta:
        ordering: ClassVar = ["starts_at"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(ends_at__gt=models.F("starts_at")), name="freeze_lasts"),
        ]


def _distribution() -> ArrayField[list[int], list[int]]:
    return ArrayField(models.BigIntegerField(), default=list)


class _ArmCount(models.Model):
    deployment_id = models.BigIntegerField()
    step = models.BigIntegerField()
    release = models.CharField(max_length=16)
    arm = models.CharField(max_length=8)
    ring = models.SmallIntegerField()
    calls = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0)
    cost_nusd = models.BigIntegerField(default=0)
    tokens = models.BigIntegerField(default=0)
    exposed = models.BigIntegerField(default=0)  # units seen for the first time
    asked = models.BigIntegerField(default=0)  # units with an outcome, refused ones too
    units = models.BigIntegerField(default=0)  # of them, those let through
    bad = models.BigIntegerField(default=0)  # of them, those with a call that failed
    refusing = models.BigIntegerField(default=0)  # of those asked, those with a call refused
    scored = models.BigIntegerField(default=0)
    loss_ppm = models.BigIntegerField(default=0)
    latency_us = _distribution()  # per call
    unit_latency_us = _distribution()  # the worst of each unit
    unit_ttft_us = _distribution()  # until the first of the answer, of units that said when that came
    unit_cost_nusd = _distribution()
    unit_tokens = _distribution()

    class Meta:
        abstract = True


class ArmTotal(_ArmCount):
    """What an arm came to in a step: what verdicts read."""

    pk = models.CompositePrimaryKey("deployment_id", "step", "release", "arm", "ring")

    class Meta:
        db_table = "rollouts_arm_total"


class ArmWindow(_ArmCount):
    """The same in 10 seconds: what charts read."""

    pk = models.CompositePrimaryKey("deployment_id", "starts_at", "step", "release", "arm", "ring")
    starts_at = models.DateTimeField()

    class Meta:
        db_table = "rollouts_arm_10s"
