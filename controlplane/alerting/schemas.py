"""What a rule's ``spec`` may say, by kind, checked once when it is made. Errors name the field."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from controlplane.problems import Invalid

Name = Annotated[str, Meta(max_length=120)]
Seconds = Annotated[int, Meta(ge=60, le=86_400)]
Comparing = Literal["above", "below", "at_least", "at_most"]
Metric = Literal[
    "calls", "calls_per_s", "errors", "error_rate", "refused", "refused_rate", "fallback_rate", "tokens", "tokens_per_s", "cost_usd",
    "cost_usd_per_h", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "queue_depth", "cache_hit_rate", "active_sessions",
]  # fmt: skip
Counted = Literal[
    "calls",
    "errors",
    "refused",
    "fallbacks",
    "retries",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "cost_usd",
]
By = Literal["", "tenant", "route", "model"]
SentBy = Literal["", "tenant", "route", "model", "release", "service", "instance"]
Stat = Literal["", "p50", "p90", "p95", "p99", "mean", "max", "sum", "rate", "per_hour", "share", "active", "level"]
MetricName = Annotated[str, Meta(min_length=1, max_length=255)]


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``tenant``, ``route`` and ``model`` narrow what is looked at; the rule's own tenant always does."""

    tenant: Name = ""
    route: Name = ""
    model: Name = ""


class ThresholdSpec(_Spec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure of calls over the last ``window_s`` against a value; one alert per group of ``by``."""

    metric: Metric
    op: Comparing = "above"
    value: float
    window_s: Seconds = 300
    by: By = ""
    min_calls: Annotated[int, Meta(ge=0)] = 0  # groups with fewer calls have nothing to measure


class RatioSpec(_Spec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One count over another."""

    numerator: Counted
    denominator: Counted
    op: Comparing = "above"
    value: float
    window_s: Seconds = 300
    by: By = ""
    min_denominator: Annotated[float, Meta(ge=0)] = 1


class AbsenceSpec(_Spec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No calls for ``window_s``. By group: of those that called in the day before."""

    window_s: Seconds = 600
    by: By = ""


class BurnRateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service level whose budget burns 14.4, 6, 3 or 1 times too fast, in a long and a short window each."""

    slo: Name


class ForecastSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Budgets that will be used up before their period ends, at the pace of the last hour; ``within_h`` hours if named."""

    budget: Name = ""
    within_h: Annotated[float, Meta(gt=0)] | None = None


class BudgetSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Budgets of which at least this share is spent; without one, the thresholds of each budget are used."""

    budget: Name = ""
    used: Annotated[float, Meta(gt=0, le=10)] | None = None


class AnomalySpec(_Spec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last whole hour against the same hour of the weeks before, by median and MAD; ``score`` robust deviations.

    One alert per group of ``by``.
    """

    metric: Metric
    by: By = ""
    score: Annotated[float, Meta(gt=0)] = 4.0
    direction: Literal["up", "down", "both"] = "up"


class FleetSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many breakers are open (``route`` and ``model`` narrow them), clients are lost, refuse their config or drop telemetry.

    Rollouts that wait for a person, or were taken back or aborted in the last hour; seconds since telemetry last arrived.
    """

    what: Literal[
        "breakers_open", "clients_lost", "clients_refusing", "clients_dropping", "rollouts_waiting", "rollouts_undone", "ingest_lag_s",
    ]  # fmt: skip
    route: Name = ""
    model: Name = ""
    op: Comparing = "at_least"
    value: float = 1


class MetricSpec(_Spec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Any metric of the page Metrics: of those that applications send, or one of the seven.

    ``stat`` is what is told of it, the metric's own first choice when empty; with ``per``, what it comes to is divided by what that
    metric comes to instead. It is held against ``value``; or it is ``absent``: nothing was sent for ``window_s``; or ``unusual``: the last
    whole hour is ``value`` robust deviations from the same hours of the weeks before, up or down.
    """

    metric: MetricName
    stat: Stat = ""
    per: Annotated[str, Meta(max_length=255)] = ""
    op: Literal["above", "below", "at_least", "at_most", "absent", "unusual"] = "above"
    value: float = 0.0
    window_s: Seconds = 300
    by: SentBy = ""
    release: Name = ""


Spec = (
    ThresholdSpec | RatioSpec | AbsenceSpec | BurnRateSpec | ForecastSpec | BudgetSpec | AnomalySpec | FleetSpec | MetricSpec
)  # fmt: skip
_SPECS: dict[str, Any] = {
    "threshold": ThresholdSpec,
    "ratio": RatioSpec,
    "absence": AbsenceSpec,
    "burn_rate": BurnRateSpec,
    "forecast": ForecastSpec,
    "budget": BudgetSpec,
    "anomaly": AnomalySpec,
    "fleet": FleetSpec,
    "metric": MetricSpec,
}


def spec_of(kind: str, document: Any) -> Spec:
    """Return the checked spec of a rule; ``Invalid`` names what is wrong."""
    known = _SPECS.get(kind)
    if known is None:
        raise Invalid("This kind of rule is not known.", errors={"kind": f"must be one of {', '.join(_SPECS)}"})
    try:
        spec: Spec = msgspec.convert(document, known)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        missing = re.fullmatch(r"Object missing required field `(\w+)`", text)
        if missing:
            raise Invalid("The rule does not say enough.", errors={f"spec.{missing[1]}": "is missing"}) from None
        raise Invalid("The rule can't say that.", errors={f"spec{path.rstrip('`')}": text}) from None
    return spec
