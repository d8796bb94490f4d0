"""Service levels measured: how many calls were good, and how fast the budget of those that were not burns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.alerting.models import Rule, Slo, SloKind
from controlplane.domain.slo import BURNS, Count, burn_rate
from controlplane.problems import NotFound
from controlplane.telemetry import queries as telemetry
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker

NANO = 1e9


def asker_for(rule: Rule | Slo) -> Asker:
    """Return the eyes through which a rule looks: it sees what its tenant's operators see."""
    return Asker(name=f"rule:{rule.slug}", role=Role.VIEWER, tenant=rule.tenant)


def slo_named(asker: Asker, name: str) -> Slo:
    """Return the live service level of a rule, named by its slug, in the scope of the asker."""
    found = Slo.objects.select_related("tenant").filter(slug=name, archived_at=None)
    found = found.filter(tenant=asker.tenant) if asker.tenant else found.filter(tenant=None)
    slo = found.first()
    if slo is None:
        raise NotFound(f"There is no service level {name!r} of the same owner.")
    return slo


def slo_counts(slo: Slo, lengths_s: Sequence[int], now: datetime) -> dict[int, Count]:
    """Return how many calls a service level saw in windows of those lengths up to ``now``, and how many were bad."""
    column, limit = ("", 0.0) if slo.kind == SloKind.AVAILABILITY else beyond_what(slo)
    found = telemetry.counts_over(asker_for(slo), now, lengths_s, column, limit, slo.route, slo.model)
    return {length: Count(*each) for length, each in found.items()}


def slo_steps(slo: Slo, since: datetime, until: datetime, step_s: int) -> list[Count]:
    """Return the counts of every step of that length, the oldest first."""
    asker = asker_for(slo)
    if slo.kind == SloKind.AVAILABILITY:
        steps = telemetry.measured_steps(
            asker, since, until, step_s, "", None, slo.route, slo.model,
            latency=False, sampled=False, counts=("calls", "errors"),
        )  # fmt: skip
        found = steps.get("")
        if found is None:
            return [Count(0, 0)] * len(telemetry.slots_of(since, until, step_s))
        return [Count(*each) for each in zip(found.counts["calls"], found.counts["errors"], strict=True)]
    column, limit = beyond_what(slo)
    counts = telemetry.beyond_steps(asker, since, until, step_s, column, limit, None, slo.route, slo.model)
    return [Count(*each) for each in counts]


def offenders(slo: Slo, since: datetime, until: datetime, by: str) -> dict[str, Count]:
    """Return the counts of a service level per tenant, route or model: those with most bad calls first."""
    asker = asker_for(slo)
    if slo.kind == SloKind.AVAILABILITY:
        measured = telemetry.measured(
            asker,
            since,
            until,
            by,
            None,
            slo.route,
            slo.model,
            latency=False,
            sampled=False,
            counts=("calls", "errors"),
        )
        found = {name: Count(each["calls"], each["errors"]) for name, each in measured.items()}
        return dict(sorted(found.items(), key=lambda item: (-item[1].bad, item[0])))
    column, limit = beyond_what(slo)
    counts = telemetry.beyond_by(asker, since, until, by, column, limit, slo.route, slo.model)
    return {name: Count(*each) for name, each in counts.items()}


def beyond_what(slo: Slo) -> tuple[str, float]:
    """Return which distribution of calls a service level looks at, and beyond which value of it a call is bad."""
    column, unit = ("latency_us", 1000.0) if slo.kind == SloKind.LATENCY else ("call_cost_nusd", NANO)
    return column, (slo.threshold or 0) * unit


WINDOWS_S = tuple(sorted({length for burn in BURNS for length in (burn.long_s, burn.short_s)}))


def burn_rates(slo: Slo, now: datetime) -> dict[int, float | None]:
    """Return how fast the budget burns in each of the windows, by their length in seconds."""
    counts = slo_counts(slo, WINDOWS_S, now)
    return {length: burn_rate(count, slo.objective) for length, count in counts.items()}
