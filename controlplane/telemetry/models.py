"""What happened: windows of calls at three resolutions, daily usage, and spans.

A distribution is a ``bigint[]``: count, sum, min, max, then packed buckets ``index << 40 | count`` in index order.
``tg_dist_merge`` merges two of them inside SQL; ``tidegate.core.window`` reads and writes the same form.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from controlplane.tenancy.models import Tenant


def _distribution() -> ArrayField[list[int], list[int]]:
    return ArrayField(models.BigIntegerField(), default=list)


class _CallWindow(models.Model):
    """Counts of the calls that ended in one window of time, per tenant, route, model and category."""

    starts_at = models.DateTimeField()
    tenant = models.CharField(max_length=64)
    route = models.CharField(max_length=64)
    model = models.CharField(max_length=120)
    category = models.CharField(max_length=64)
    calls = models.BigIntegerField(default=0)  # that were let through, whatever came of them
    errors = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0)  # by a gate; not part of calls
    fallbacks = models.BigIntegerField(default=0)  # calls answered by a fallback
    retries = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)  # cached ones included
    cached_input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_nusd = models.BigIntegerField(default=0)
    kinds = models.JSONField(default=dict)  # {"error.timeout": 3, "refused.rate_limited": 9}
    latency_us = _distribution()
    tokens = _distribution()  # per call
    call_cost_nusd = _distribution()  # per call
    queue_depth = _distribution()  # sampled when a call arrives
    sessions = _distribution()  # a sample for each second, from reports

    class Meta:
        abstract = True


class CallWindow10s(_CallWindow):
    pk = models.CompositePrimaryKey("starts_at", "tenant", "route", "model", "category")

    class Meta:
        db_table = "telemetry_window_10s"


class CallWindow1m(_CallWindow):
    pk = models.CompositePrimaryKey("starts_at", "tenant", "route", "model", "category")

    class Meta:
        db_table = "telemetry_window_1m"


class CallWindow1h(_CallWindow):
    """Folded from minutes when the hour is over (``actions.folding``)."""

    pk = models.CompositePrimaryKey("starts_at", "tenant", "route", "model", "category")

    class Meta:
        db_table = "telemetry_window_1h"


class Fold(models.Model):
    """Until when all hours of a kind of rollup are folded."""

    kind = models.CharField(max_length=16, primary_key=True)  # "windows", "points"
    until = models.DateTimeField()


class LateHour(models.Model):
    """An hour that got data when it was over, to be folded again."""

    pk = models.CompositePrimaryKey("kind", "hour")
    kind = models.CharField(max_length=16)
    hour = models.DateTimeField()

    class Meta:
        db_table = "telemetry_late_hour"


class LateSpans(models.Model):
    """A span of time that got spans when it may have been folded, to be folded again. Notes are only added, so that nobody waits."""

    id = models.BigAutoField(primary_key=True)
    since = models.DateTimeField()
    until = models.DateTimeField()

    class Meta:
        db_table = "telemetry_late_spans"


class DailyUsage(models.Model):
    """Calls, tokens and cost of a UTC day, kept for good."""

    pk = models.CompositePrimaryKey("day", "tenant", "route", "model", "category")
    day = models.DateField()
    tenant = models.CharField(max_length=64)
    route = models.CharField(max_length=64)
    model = models.CharField(max_length=120)
    category = models.CharField(max_length=64)
    calls = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    cached_input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_nusd = models.BigIntegerField(default=0)

    class Meta:
        db_table = "telemetry_usage_daily"


class DailyPricedUsage(models.Model):
    """Calls, usage by class (``tidegate.core.usage``) and cost of a UTC day under one price book, kept for good.

    ``book`` is the etag of the prices that the calls were charged at, empty where nobody said. ``unpriced_calls`` are of models
    that it has no price for.
    """

    pk = models.CompositePrimaryKey("day", "tenant", "model", "book")
    day = models.DateField()
    tenant = models.CharField(max_length=64)
    model = models.CharField(max_length=120)
    book = models.CharField(max_length=64)
    calls = models.BigIntegerField(default=0)
    unpriced_calls = models.BigIntegerField(default=0)
    cost_nusd = models.BigIntegerField(default=0)
    usage = models.JSONField(default=dict)

    class Meta:
        db_table = "telemetry_usage_priced"


class DailyUserUsage(models.Model):
    """The same by user. Users beyond what an SDK tracks arrive under ``(others)``."""

    pk = models.CompositePrimaryKey("day", "tenant", "user")
    day = models.DateField()
    tenant = models.CharField(max_length=64)
    user = models.CharField(max_length=120)
    calls = models.BigIntegerField(default=0)
    tokens = models.BigIntegerField(default=0)
    cost_nusd = models.BigIntegerField(default=0)

    class Meta:
        db_table = "telemetry_usage_daily_user"


class Span(models.Model):
    """One span, in a table partitioned by day on ``starts_at`` (created by a migration, not by the ORM)."""

    pk = models.CompositePrimaryKey("trace_id", "span_id", "starts_at")
    trace_id = models.CharField(max_length=32)
    span_id = models.CharField(max_length=16)
    parent_span_id = models.CharField(max_length=16, default="")
    starts_at = models.DateTimeField()
    duration_us = models.BigIntegerField()
    tenant = models.CharField(max_length=64)
    service = models.CharField(max_length=120)
    scope = models.CharField(max_length=120, default="")  # the instrumentation that made it
    name = models.CharField(max_length=200)
    kind = models.PositiveSmallIntegerField()  # OTLP's SpanKind
    status = models.PositiveSmallIntegerField()  # OTLP's StatusCode: 0 unset, 1 ok, 2 error
    status_message = models.CharField(max_length=500, default="")
    operation = models.CharField(max_length=64, default="")  # of generative AI, in the vocabulary of telemetry.otlp
    provider = models.CharField(max_length=64, default="")
    model = models.CharField(max_length=120, default="")
    route = models.CharField(max_length=64, default="")
    release = models.CharField(max_length=64, default="")
    decision = models.CharField(max_length=64, default="")  # of the control plane: "refused: rate_limited"
    agent = models.CharField(max_length=120, default="")
    tool = models.CharField(max_length=120, default="")
    session = models.CharField(max_length=120, default="")
    user = models.CharField(max_length=120, default="")
    # The usage of the span itself, never a sum over spans below: null but for inferences.
    usage_by = models.PositiveSmallIntegerField(default=0)  # 0 nobody, 1 an instrumentation, 2 our SDK
    input_tokens = models.BigIntegerField(null=True)  # cached ones included
    output_tokens = models.BigIntegerField(null=True)  # reasoning included
    cached_tokens = models.BigIntegerField(null=True)
    reasoning_tokens = models.BigIntegerField(null=True)
    cost_nusd = models.BigIntegerField(null=True)
    ttft_us = models.BigIntegerField(null=True)  # until the first chunk of a streamed reply
    attributes = models.JSONField(default=dict)
    resource = models.JSONField(default=dict)
    events = models.JSONField(default=list)  # [{"name", "at_ns", "attributes"}]
    links = models.JSONField(default=list)  # [{"trace_id", "span_id", "attributes"}]

    class Meta:
        managed = False
        db_table = "telemetry_span"
        ordering: ClassVar = ["-starts_at"]


class Message(models.Model):
    """What was said in a span under one name, kept only where a tenant wants it. Partitioned by day like spans."""

    pk = models.CompositePrimaryKey("trace_id", "span_id", "name", "starts_at")
    starts_at = models.DateTimeField()
    trace_id = models.CharField(max_length=32)
    span_id = models.CharField(max_length=16)
    name = models.CharField(max_length=200)
    tenant = models.CharField(max_length=64)
    content = models.TextField()

    class Meta:
        managed = False
        db_table = "telemetry_message"


class Rootless(models.Model):
    """A trace whose root has not arrived, by the first of its spans."""

    pk = models.CompositePrimaryKey("starts_at", "trace_id")
    trace_id = models.CharField(max_length=32, unique=True)
    span_id = models.CharField(max_length=16)
    starts_at = models.DateTimeField()

    class Meta:
        db_table = "telemetry_rootless"


class SessionDay(models.Model):
    """What the spans of a session came to on one UTC day. Partitioned by day like spans, and dropped with them.

    ``told``: as our SDK counts it, ``seen``: as instrumentations do; what both saw is one usage. ``users``: one on each line.
    """

    pk = models.CompositePrimaryKey("tenant", "session", "starts_at")
    starts_at = models.DateTimeField()
    tenant = models.CharField(max_length=64)
    session = models.CharField(max_length=120)
    users = models.TextField()
    service = models.CharField(max_length=120)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    turns = models.BigIntegerField()
    spans = models.BigIntegerField()
    errors = models.BigIntegerField()
    tokens_told = models.BigIntegerField()
    tokens_seen = models.BigIntegerField()
    cost_told_nusd = models.BigIntegerField()
    cost_seen_nusd = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "telemetry_session_day"


class LogRecord(models.Model):
    """One log record of an application. Partitioned by day."""

    pk = models.CompositePrimaryKey("at", "digest")
    at = models.DateTimeField()
    severity = models.PositiveSmallIntegerField()  # OTLP's SeverityNumber: 9 info, 13 warn, 17 error
    digest = models.BinaryField(max_length=16)
    tenant = models.CharField(max_length=64)
    service = models.CharField(max_length=120)
    scope = models.CharField(max_length=120)
    event = models.CharField(max_length=120)
    trace_id = models.CharField(max_length=32)
    span_id = models.CharField(max_length=16)
    body = models.TextField()
    attributes = models.JSONField(default=dict)
    resource = models.JSONField(default=dict)

    class Meta:
        managed = False
        db_table = "telemetry_log"


class Series(models.Model):
    """One series of an OTLP metric: one name and set of attributes of one instance of a service.

    ``state`` is the last point of each who sends a cumulative series, from which the next one is told apart. ``bounds`` are those of an
    explicit histogram, whose percentiles are as coarse as they are.
    """

    digest = models.BinaryField(max_length=16, unique=True)
    tenant = models.CharField(max_length=64)
    name = models.CharField(max_length=255)
    unit = models.CharField(max_length=63)
    kind = models.CharField(max_length=12)  # gauge, sum, histogram, exponential, summary
    monotonic = models.BooleanField()
    service = models.CharField(max_length=120)
    instance = models.CharField(max_length=120)
    route = models.CharField(max_length=64)
    model = models.CharField(max_length=120)
    release = models.CharField(max_length=64)
    attributes = models.JSONField(default=dict)
    bounds = ArrayField(models.FloatField(), default=list)
    state = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "telemetry_series"
        indexes: ClassVar = [
            models.Index(fields=["tenant", "name"], name="series_tenant_name"),
            models.Index(fields=["name"], name="series_name"),
            models.Index(fields=["service", "instance"], name="series_sender"),
        ]


class _Point(models.Model):
    series = models.ForeignKey(Series, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    at = models.DateTimeField()
    samples = models.BigIntegerField()
    sum = models.FloatField()
    min = models.FloatField(null=True)
    max = models.FloatField(null=True)
    buckets = ArrayField(models.BigIntegerField(), null=True)  # by the bounds of the series, or packed
    exemplars = models.JSONField(null=True)  # [{"trace_id", "span_id", "value"}]

    class Meta:
        abstract = True


class Point(_Point):
    """What a series added up to a time: of sums and histograms the difference to the point before. Partitioned by day."""

    pk = models.CompositePrimaryKey("series_id", "at")

    class Meta:
        managed = False
        db_table = "telemetry_point"


class PointHour(_Point):
    """The points of an hour, added up. Partitioned by month."""

    pk = models.CompositePrimaryKey("series_id", "at")

    class Meta:
        managed = False
        db_table = "telemetry_point_1h"


class Capture(models.Model):
    """Whether prompts and replies of a tenant and those below it are kept, and what is masked in them. Without a tenant: all's."""

    tenant = models.OneToOneField(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="capture")
    keeps = models.BooleanField()
    redact = models.JSONField(default=list)  # regular expressions, beside those that always apply

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant"], nulls_distinct=False, name="capture_once"),
        ]
