"""Trying a rule on the past: what would it have measured in the last days, and when would it have fired?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from controlplane.alerting.courses import STEP_S, Held, Sample, Tried, track_of
from controlplane.alerting.levels import slo_named, slo_steps
from controlplane.alerting.past_calls import absence_tracks, anomaly_tracks, ratio_tracks, threshold_tracks
from controlplane.alerting.past_fleet import NOTES, fleet_tracks
from controlplane.alerting.past_money import budget_tracks, forecast_tracks
from controlplane.alerting.past_sent import coarse, metric_tracks
from controlplane.alerting.schemas import (
    AbsenceSpec,
    AnomalySpec,
    BudgetSpec,
    BurnRateSpec,
    FleetSpec,
    ForecastSpec,
    MetricSpec,
    RatioSpec,
    ThresholdSpec,
    spec_of,
)
from controlplane.alerting.sent import DEVIATIONS, metric_of
from controlplane.domain.alerts import NoData, Timing
from controlplane.domain.slo import BURNS, Count, burn_rate, burns, closeness
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker

DAYS = 7


def eyes_of(asker: Asker, tenant: Tenant | None) -> Asker:
    """Return the eyes through which a rule of ``tenant`` would look, on behalf of ``asker``, who sees that tenant."""
    return Asker(name=asker.name, role=Role.VIEWER, tenant=tenant or asker.tenant)


def try_on_past(asker: Asker, kind: str, document: Any, timing: Timing, now: datetime, days: int = DAYS) -> Tried:
    """Return when a rule would have fired, evaluated every five minutes; ``Invalid`` for rules that can't be tried."""
    spec = spec_of(kind, document)
    look = _PAST[type(spec)]
    until = now.replace(minute=now.minute - now.minute % 5, second=0, microsecond=0)
    held, limit, unit = look(asker, spec, until - timedelta(days=days), until)
    plain = timing._replace(no_data=NoData.OK)
    return Tried([track_of(label, samples, plain) for label, samples in held.items()], limit, unit, _note(asker, spec))


def _note(asker: Asker, spec: Any) -> str:
    if isinstance(spec, FleetSpec):
        return NOTES.get(spec.what, "")
    if isinstance(spec, MetricSpec) and spec.op != "unusual":
        metric = metric_of(asker, spec)
        return "By quarters of an hour." if metric is not None and coarse(metric, spec) else ""
    return ""


Looked = tuple[Held, float | None, str]


def _threshold(asker: Asker, spec: ThresholdSpec, since: datetime, until: datetime) -> Looked:
    return threshold_tracks(asker, spec, since, until), spec.value, spec.metric


def _ratio(asker: Asker, spec: RatioSpec, since: datetime, until: datetime) -> Looked:
    return ratio_tracks(asker, spec, since, until), spec.value, "ratio"


def _absence(asker: Asker, spec: AbsenceSpec, since: datetime, until: datetime) -> Looked:
    return absence_tracks(asker, spec, since, until), None, "calls"


def _anomaly(asker: Asker, spec: AnomalySpec, since: datetime, until: datetime) -> Looked:
    return anomaly_tracks(asker, spec, since, until), spec.score, "score"


def _burning(asker: Asker, spec: BurnRateSpec, since: datetime, until: datetime) -> Looked:
    """The value is how near the nearest pair of windows is to its factor: at 1 it fires."""
    slo = slo_named(asker, spec.slo)
    lead = max(burn.long_s for burn in BURNS)
    counts = slo_steps(slo, since - timedelta(seconds=lead), until, STEP_S)
    totals, bads = [0], [0]
    for count in counts:
        totals.append(totals[-1] + count.total)
        bads.append(bads[-1] + count.bad)
    samples = []
    for end in range(lead // STEP_S + 1, len(totals)):
        rates: dict[int, float | None] = {}
        for length in {each for burn in BURNS for each in (burn.long_s, burn.short_s)}:
            begin = end - length // STEP_S
            rates[length] = burn_rate(Count(totals[end] - totals[begin], bads[end] - bads[begin]), slo.objective)
        known = any(rate is not None for rate in rates.values())
        holds = burns(rates, slo.objective) is not None if known else None
        at = since + timedelta(seconds=STEP_S * (end - lead // STEP_S))
        samples.append(Sample(at, closeness(rates, slo.objective), holds))
    return {"": samples}, 1.0, "burn"


def _forecast(asker: Asker, spec: ForecastSpec, since: datetime, until: datetime) -> Looked:
    return forecast_tracks(asker, spec, since, until), spec.within_h, "hours"


def _budget(asker: Asker, spec: BudgetSpec, since: datetime, until: datetime) -> Looked:
    return budget_tracks(asker, spec, since, until), spec.used, "used"


def _fleet(asker: Asker, spec: FleetSpec, since: datetime, until: datetime) -> Looked:
    return fleet_tracks(asker, spec, since, until), spec.value, spec.what


def _metric(asker: Asker, spec: MetricSpec, since: datetime, until: datetime) -> Looked:
    limit = {"absent": None, "unusual": spec.value or DEVIATIONS}.get(spec.op, spec.value)
    unit = {"absent": "values", "unusual": "score"}.get(spec.op, "sent")
    return metric_tracks(asker, spec, since, until), limit, unit


_PAST: dict[type[Any], Callable[[Asker, Any, datetime, datetime], Looked]] = {
    ThresholdSpec: _threshold,
    RatioSpec: _ratio,
    AbsenceSpec: _absence,
    AnomalySpec: _anomaly,
    BurnRateSpec: _burning,
    ForecastSpec: _forecast,
    BudgetSpec: _budget,
    FleetSpec: _fleet,
    MetricSpec: _metric,
}
