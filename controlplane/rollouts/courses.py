"""The seven metrics by release, as SDKs count them of every call: kept for a day, in the steps of ten seconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.rollouts.actions.ticking import WINDOWS_KEPT
from controlplane.rollouts.queries import deployments_seen_by
from controlplane.telemetry.queries import Course, Metric, Question
from controlplane.telemetry.queries.lines import Source, course_of
from controlplane.tenancy.queries import Asker

_COLUMNS = {
    "request_latency_ms": ("calls", "latency_us", "0", "0"),
    "tokens_used": ("tokens", "unit_tokens", "0", "0"),
    "cost_usd": ("cost_nusd", "unit_cost_nusd", "0", "0"),
    "error_rate": ("failed", "", "failed", "calls"),
}


def counts(metric: Metric, asked: Question, now: datetime) -> bool:
    """Return whether SDKs counted what is asked for: not by tenant or model, and of the last day."""
    return (
        metric.name in _COLUMNS
        and asked.of_release
        and asked.by in ("", "release")
        and not asked.model
        and now - asked.since < WINDOWS_KEPT
    )


def course_by_release(asker: Asker, metric: Metric, asked: Question, names: Sequence[str] | None = None) -> Course:
    """Return the lines of a metric by release, each named by its deployment and version. Tokens and cost spread by unit."""
    amount, spread, part, whole = _COLUMNS[metric.name]
    deployments = deployments_seen_by(asker)
    if asked.tenant:
        deployments = deployments.filter(tenant__slug=asked.tenant)
    if asked.route:
        deployments = deployments.filter(routes__contains=[asked.route])
    head = f"{spread}[1] AS samples, {spread}[2] AS total, {spread}[3] AS least, {spread}[4] AS most" if spread else (
        "0 AS samples, 0 AS total, NULL::float8 AS least, NULL::float8 AS most"
    )  # fmt: skip
    sql = f"""
        SELECT {"deployment.slug || ' ' || release.version" if asked.by else "''"} AS name, count.starts_at AS at,
               count.{amount} AS amount, {part} AS part, {whole} AS whole, {head}, calls AS weight,
               {f"{spread}[5:]" if spread else "NULL::bigint[]"} AS entries, '{{}}'::float8[] AS bounds
        FROM rollouts_arm_10s AS count JOIN rollouts_deployment AS deployment ON deployment.id = count.deployment_id
        JOIN rollouts_release AS release ON release.deployment_id = deployment.id AND left(release.digest, 16) = count.release
        WHERE count.deployment_id = ANY(%s) AND count.starts_at >= %s AND count.starts_at < %s
        AND (%s = '' OR release.version = %s OR count.release = %s OR deployment.slug || ' ' || release.version = %s)"""  # noqa: S608
    named = [asked.release] * 4
    values = [list(deployments.values_list("pk", flat=True)), asked.since, asked.until, *named]
    return course_of(Source(sql, values, bool(spread)), asked.since, asked.until, asked.step_s, names)
