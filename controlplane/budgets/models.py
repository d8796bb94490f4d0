"""Money: budgets, their accounts per period, the leases drawn on them, and the prices of models.

All amounts are integer nano-USD. The words and the invariants are those of docs/protocol.md, "Leases".
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from controlplane.domain.carry import CarryRule
from controlplane.domain.periods import PeriodRule
from controlplane.tenancy.models import Tenant


class OnExhausted(models.TextChoices):
    BLOCK = "block"
    WARN = "warn"  # let calls pass, count what is over


class OnDisconnect(models.TextChoices):
    """What a client does with its lease when the server is not heard of until the lease has expired."""

    STOP = "stop"
    FINISH_LEASE = "finish_lease"  # spend what was leased to its end


class OnOverrun(models.TextChoices):
    """What becomes of a running call that needs more than it held, where nothing is left."""

    FINISH = "finish"  # on debt
    CUT = "cut"


class PeriodKind(models.TextChoices):
    CALENDAR = "calendar"
    ROLLING = "rolling"
    TOTAL = "total"


class Budget(models.Model):
    """An amount that calls matching ``match`` may cost per period. Without a tenant it covers the installation.

    ``match`` may name ``route``, ``category``, ``model`` and ``user``; a call must equal every part that is named.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="budgets")
    slug = models.SlugField(max_length=64)
    amount_nusd = models.BigIntegerField()
    period_kind = models.CharField(max_length=16, choices=PeriodKind.choices)
    # Of a calendar: "hour", "day", "week", "month", "year".
    period_unit = models.CharField(max_length=8, default="", blank=True)
    period_timezone = models.CharField(max_length=64, default="UTC")
    period_days = models.PositiveSmallIntegerField(null=True, blank=True)  # rolling
    match = models.JSONField(default=dict, blank=True)
    on_exhausted = models.CharField(max_length=8, choices=OnExhausted.choices, default=OnExhausted.BLOCK)
    on_disconnect = models.CharField(
        max_length=12, choices=OnDisconnect.choices, default=OnDisconnect.STOP, db_default=OnDisconnect.STOP
    )
    # Of calendar budgets: how much of what is unused goes to the next period, and whether overspend is taken off it.
    carry_up_to_nusd = models.BigIntegerField(default=0, db_default=0)
    carries_debt = models.BooleanField(default=False, db_default=False)
    # Calls hold the worst case; else what 99 % of such calls stay below, and more as they turn out to need it.
    strict = models.BooleanField(default=True, db_default=True)
    on_overrun = models.CharField(
        max_length=8, choices=OnOverrun.choices, default=OnOverrun.FINISH, db_default=OnOverrun.FINISH
    )
    thresholds = ArrayField(models.PositiveSmallIntegerField(), default=list, blank=True)  # percent
    created_at = models.DateTimeField(db_default=Now())
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["slug"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="budget_slug_once", nulls_distinct=False),
            models.CheckConstraint(condition=Q(amount_nusd__gte=0), name="budget_amount_not_negative"),
            models.CheckConstraint(condition=Q(period_kind__in=PeriodKind.values), name="budget_period_kind_known"),
            models.CheckConstraint(
                condition=Q(period_kind="rolling", period_days__gte=1) | ~Q(period_kind="rolling"),
                name="budget_rolling_has_days",
            ),
            models.CheckConstraint(condition=Q(on_exhausted__in=OnExhausted.values), name="budget_on_exhausted_known"),
            models.CheckConstraint(
                condition=Q(on_disconnect__in=OnDisconnect.values), name="budget_on_disconnect_known"
            ),
            models.CheckConstraint(
                condition=Q(period_kind="calendar", carry_up_to_nusd__gte=0)
                | Q(carry_up_to_nusd=0, carries_debt=False),
                name="budget_only_calendar_carries",
            ),
            models.CheckConstraint(condition=Q(on_overrun__in=OnOverrun.values), name="budget_on_overrun_known"),
        ]

    @property
    def rule(self) -> PeriodRule:
        """How the budget renews."""
        return PeriodRule(self.period_kind, self.period_unit, self.period_timezone, self.period_days)

    @property
    def carry(self) -> CarryRule:
        """What the budget takes along from the period before."""
        return CarryRule(self.carry_up_to_nusd, self.carries_debt)

    @property
    def name(self) -> str:
        """``tenant/slug``, as refusals name it."""
        return f"{self.tenant.slug if self.tenant else ''}/{self.slug}"


class Account(models.Model):
    """One budget in one period. Exposure = ``outstanding_nusd`` + ``settled_nusd`` (rolling: settled in the window).

    ``outstanding_nusd`` is the sum over live leases of granted - returned - settled, never below zero per lease.
    """

    budget = models.ForeignKey(Budget, on_delete=models.PROTECT, related_name="accounts")
    period_key = models.CharField(max_length=32)  # "2026-11", "2026-11-25", "rolling", "total"
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)  # exclusive
    outstanding_nusd = models.BigIntegerField(default=0)
    settled_nusd = models.BigIntegerField(default=0)
    denied_calls = models.BigIntegerField(default=0)
    false_denied_calls = models.BigIntegerField(default=0, db_default=0)  # an estimate: docs/protocol.md, "Accuracy"
    presumed_nusd = models.BigIntegerField(default=0, db_default=0)  # part of settled: of lost holders, unproven
    overage_nusd = models.BigIntegerField(default=0, db_default=0)  # part of settled: beyond what had been granted
    corrected_nusd = models.BigIntegerField(default=0, db_default=0)  # what was taken back of settled, in all
    # The budget's amount while the period lasts, and at its end; and what was carried from the period before.
    amount_nusd = models.BigIntegerField(default=0, db_default=0)
    carried_nusd = models.BigIntegerField(default=0, db_default=0)
    # The greatest amount that was in force in the period; of a rolling window, since the last lowering left it.
    highest_nusd = models.BigIntegerField(default=0, db_default=0)
    lowered_at = models.DateTimeField(null=True, blank=True)
    # Holders of leases, and those short of something, as they were counted last (controlplane.domain.crowds).
    live_holders = models.IntegerField(default=0, db_default=0)
    wanting_holders = models.IntegerField(default=0, db_default=0)
    left_nusd = models.BigIntegerField(default=0, db_default=0)  # what they may still spend
    counted_at = models.DateTimeField(null=True, blank=True)
    denied_at = models.DateTimeField(null=True, blank=True)  # when it last denied for lack of room
    slots_since = models.DateTimeField(null=True, blank=True)  # slots that began before have been deleted
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["budget", "period_key"], name="account_period_once"),
            models.CheckConstraint(condition=Q(outstanding_nusd__gte=0), name="account_outstanding_not_negative"),
        ]
        indexes: ClassVar = [models.Index(fields=["budget", "ends_at"], name="account_by_end")]


class AccountSlot(models.Model):
    """What a rolling account settled in one slot of its window. Slots that leave the window stop counting."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="slots")
    starts_at = models.DateTimeField()
    settled_nusd = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "starts_at"], name="account_slot_once"),
        ]


class Lease(models.Model):
    """Rights to spend from every account on a path at once, held by one incarnation. Counters only ever grow.

    The server authors ``granted``; the client authors ``settled``, ``returned`` and ``corrected``, which an operator may
    raise too. A closed lease never grants again.
    """

    incarnation = models.UUIDField()
    number = models.BigIntegerField()  # chosen by the client, unique in its incarnation
    path = ArrayField(models.BigIntegerField())  # account ids, leaf first
    granted_nusd = models.BigIntegerField(default=0)
    settled_nusd = models.BigIntegerField(default=0)
    returned_nusd = models.BigIntegerField(default=0)
    corrected_nusd = models.BigIntegerField(default=0)
    held_nusd = models.BigIntegerField(default=0)  # the client's word, for display
    denied_calls = models.BigIntegerField(default=0)
    false_denied_calls = models.BigIntegerField(default=0, db_default=0)
    short_nusd = models.BigIntegerField(default=0, db_default=0)  # wanted and not granted at the last report
    seq = models.BigIntegerField(default=0)
    closed = models.BooleanField(default=False)
    # Grants no more; its holder has yet to say what is left.
    revoked = models.BooleanField(default=False, db_default=False)
    # Charged for a lost holder until it says what it spent.
    presumed_nusd = models.BigIntegerField(default=0, db_default=0)
    overage_nusd = models.BigIntegerField(default=0, db_default=0)  # settled beyond what had been granted
    created_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["incarnation", "number"], name="lease_once"),
            models.CheckConstraint(
                condition=Q(granted_nusd__gte=0, settled_nusd__gte=0, returned_nusd__gte=0, corrected_nusd__gte=0),
                name="lease_counters_not_negative",
            ),
        ]
        indexes: ClassVar = [
            GinIndex(fields=["path"], name="lease_path_open", condition=Q(closed=False)),
            GinIndex(fields=["path"], name="lease_path"),
            # What never changes of a lease: an index on more would be written anew with every sync.
            models.Index(fields=["created_at", "id"], name="lease_by_age"),
        ]


class LeaseFloor(models.Model):
    """Leases of an incarnation up to ``number`` that are not there any more are closed for good: they have been folded."""

    incarnation = models.UUIDField(primary_key=True)
    number = models.BigIntegerField()


class EntryKind(models.TextChoices):
    OPEN = "open"
    GRANT = "grant"
    SETTLE = "settle"
    RETURN = "return"
    CORRECT = "correct"  # something that was charged is not any more
    DENY = "deny"  # nothing but calls denied
    CLOSE = "close"
    REVOKE = "revoke"
    EXPIRE = "expire"  # the holder is lost: what was left is charged
    CARRY = "carry"  # what older entries come to, that are no longer kept one by one
    FOLD = "fold"  # the lease is gone: its accounts keep what it came to


class LedgerEntry(models.Model):
    """What one sync, or one operator, changed of one lease; differences, never changed once written.

    The sum of all entries is what accounts, slots and leases say. Partitioned by day of ``at``. Without an incarnation it
    carries forward what older entries came to for the accounts of ``path``.
    """

    pk = models.CompositePrimaryKey("at", "id")
    at = models.DateTimeField()
    id = models.BigIntegerField()
    incarnation = models.UUIDField(null=True)
    number = models.BigIntegerField(null=True)
    path = ArrayField(models.BigIntegerField())
    kind = models.CharField(max_length=8, choices=EntryKind.choices)
    opened_at = models.DateTimeField()  # what is taken back counts from here
    counts_at = models.DateTimeField()  # what is charged counts from here
    closes = models.BooleanField(default=False)
    granted_nusd = models.BigIntegerField(default=0)
    settled_nusd = models.BigIntegerField(default=0)
    returned_nusd = models.BigIntegerField(default=0)
    corrected_nusd = models.BigIntegerField(default=0)
    presumed_nusd = models.BigIntegerField(default=0)  # below zero when taken back
    overage_nusd = models.BigIntegerField(default=0, db_default=0)
    denied_calls = models.BigIntegerField(default=0)
    false_denied_calls = models.BigIntegerField(default=0)
    by = models.CharField(max_length=150, default="")
    reason = models.CharField(max_length=500, default="")


class LedgerProof(models.Model):
    """One comparison of all counters with what the ledger's entries come to. ``differences`` are the first of them."""

    at = models.DateTimeField()
    took_ms = models.PositiveIntegerField()
    entries = models.BigIntegerField()
    leases = models.BigIntegerField()
    accounts = models.BigIntegerField()
    slots = models.BigIntegerField()
    difference_count = models.PositiveIntegerField()
    differences = models.JSONField(default=list)

    class Meta:
        ordering: ClassVar = ["-at"]


class PriceOverride(models.Model):
    """An operator's price for a model, before the price list's: ``rates`` in decimal USD by class (``tidegate.core.usage``)."""

    model = models.CharField(max_length=120, unique=True)
    rates = models.JSONField()
    created_by = models.CharField(max_length=150, default="")
    created_at = models.DateTimeField(db_default=Now())


class UnknownPolicy(models.TextChoices):
    """What is done with a call whose model has no price."""

    ESTIMATE = "estimate"
    REFUSE = "refuse"
    ALLOW = "allow"  # at no cost


class UnknownModels(models.Model):
    """The installation's one rule for models without a price. ``rates`` and ``families`` are those of ``estimate``.

    ``rates``: decimal USD by class, empty for what 95 % of the makers' models stay below. ``families``: ``[{"pattern": clause,
    "rates": {…}}]``, the first whose pattern matches goes before ``rates``.
    """

    once = models.BooleanField(default=True, unique=True)
    policy = models.CharField(max_length=8, choices=UnknownPolicy.choices, default=UnknownPolicy.ESTIMATE)
    rates = models.JSONField(default=dict, blank=True)
    families = models.JSONField(default=list, blank=True)
    set_by = models.CharField(max_length=150, default="")
    set_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(policy__in=UnknownPolicy.values), name="unknown_models_policy_known"),
            models.CheckConstraint(condition=Q(once=True), name="unknown_models_once"),
        ]

    @property
    def document(self) -> dict[str, Any]:
        """The rule as it is set and told."""
        return {"policy": str(self.policy), "rates": self.rates, "families": self.families}


class PriceBook(models.Model):
    """The compiled prices that SDKs are served, named by the SHA-256 of its bytes; kept so that usage can be explained."""

    etag = models.CharField(max_length=64, unique=True)
    body = models.BinaryField()
    source = models.CharField(max_length=64)  # "genai-prices 0.2.3"
    created_at = models.DateTimeField(db_default=Now())
