"""Service levels measured: how many calls were good, and how fast the budget of those that were not burns."""

from __future__ import annotations

from datetime import datetime, timedelta

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


def slo_count(slo: Slo, since: datetime, until: datetime) -> Count:
    """Return how many calls a service level saw, and how many were bad."""
    asker = asker_for(slo)
    if slo.kind == SloKind.AVAILABILITY:
        found = telemetry.measured(asker, since, until, "", None, slo.route, slo.model).get("")
        return Count(found["calls"], found["errors"]) if found else Count(0, 0)
    column, limit = beyond_what(slo)
    return Count(*telemetry.beyond(asker, since, until, column, limit, None, slo.route, slo.model))


def slo_steps(slo: Slo, since: datetime, until: datetime, step_s: int) -> list[Count]:
    """Return the same for every step of that length, the oldest first."""
    asker = asker_for(slo)
    if slo.kind == SloKind.AVAILABILITY:
        found = telemetry.measured_steps(asker, since, until, step_s, "", None, slo.route, slo.model).get("")
        if found is None:
            return [Count(0, 0)] * len(telemetry.slots_of(since, until, step_s))
        return [Count(each["calls"], each["errors"]) for each in found]
    column, limit = beyond_what(slo)
    counts = telemetry.beyond_steps(asker, since, until, step_s, column, limit, None, slo.route, slo.model)
    return [Count(*each) for each in counts]


def beyond_what(slo: Slo) -> tuple[str, float]:
    """Return which distribution of calls a service level looks at, and beyond which value of it a call is bad."""
    column, unit = ("latency_us", 1000.0) if slo.kind == SloKind.LATENCY else ("call_cost_nusd", NANO)
    return column, (slo.threshold or 0) * unit


def burn_rates(slo: Slo, now: datetime) -> dict[int, float | None]:
    """Return how fast the budget burns in each of the windows, by their length in seconds."""
    lengths = sorted({length for burn in BURNS for length in (burn.long_s, burn.short_s)})
    return {
        length: burn_rate(slo_count(slo, now - timedelta(seconds=length), now), slo.objective) for length in lengths
    }
