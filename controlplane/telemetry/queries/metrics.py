"""What metrics there are: the seven that call windows hold, and those that applications send by OTLP; and what is told of each."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.problems import NotFound
from controlplane.telemetry.models import Series
from controlplane.telemetry.queries.lines import Step
from controlplane.telemetry.queries.reading import slugs_read
from controlplane.tenancy.queries import Asker

MOST_NAMES = 500
NANO = 10**9
SPREAD = ("p99", "p95", "p90", "p50", "mean", "max")
OTLP_DIMENSIONS = ("tenant", "route", "model", "release", "service", "instance")


@dataclass(frozen=True)
class Metric:
    """One metric that can be asked for. ``factor`` brings its source's values to ``unit``: ``ms``, ``usd``, ``share``, ``s``….

    ``stats`` are what may be told of it, the telling one first: percentiles, ``mean``, ``max``, ``sum``, ``rate`` (per second),
    ``per_hour``, ``share``, ``active``, ``level``. ``column`` is the distribution in call windows; ``amount``, ``part`` and
    ``whole`` are what adds up there. ``coarse``: its percentiles are as coarse as the buckets of who sent it.
    """

    name: str
    title: str
    unit: str
    stats: tuple[str, ...]
    factor: float = 1.0
    dimensions: tuple[str, ...] = ("tenant", "route", "model", "release")
    column: str = ""
    amount: str = "0"
    part: str = "0"
    whole: str = "0"
    coarse: bool = False
    kind: str = ""  # OTLP's; empty for the seven

    @property
    def spread(self) -> bool:
        """Whether it has percentiles."""
        return "p99" in self.stats


SEVEN = {
    metric.name: metric
    for metric in (
        Metric("request_latency_ms", "Request latency", "ms", SPREAD, 0.001, column="latency_us", amount="calls"),
        Metric(
            "tokens_used", "Tokens used", "tokens", ("rate", "sum", *SPREAD), column="tokens",
            amount="input_tokens + output_tokens",
        ),
        Metric("cost_usd", "Cost", "usd", ("per_hour", "sum", *SPREAD), 1 / NANO, column="call_cost_nusd", amount="cost_nusd"),
        Metric("error_rate", "Error rate", "share", ("share",), amount="errors", part="errors", whole="calls"),
        Metric("queue_depth", "Queue depth", "calls", SPREAD, dimensions=("tenant", "route", "model"), column="queue_depth"),
        Metric("active_sessions", "Active sessions", "sessions", ("active",), dimensions=("tenant", "route", "release"), column="sessions"),
        Metric(
            "cache_hit_rate", "Cache hit rate", "share", ("share",), amount="cached_input_tokens",
            part="cached_input_tokens", whole="input_tokens",
        ),
    )
}  # fmt: skip


def value_of(metric: Metric, stat: str, step: Step | None, seconds: float) -> float | None:
    """Return what ``stat`` says of a step of ``seconds``, in the unit of the metric; ``None`` when there is nothing to say."""
    if step is None:
        return None
    raw = _raw(stat, step, seconds)
    return None if raw is None else raw * metric.factor


def _raw(stat: str, step: Step, seconds: float) -> float | None:
    if stat.startswith("p") and stat[1:].isdecimal():
        return dict(zip(("p50", "p90", "p95", "p99"), step.quantiles, strict=True))[stat]
    if stat == "mean":
        return step.total / step.samples if step.samples else None
    if stat == "share":
        return step.part / step.whole if step.whole else None
    return {
        "max": step.most,
        "sum": step.amount,
        "level": step.amount,
        "rate": step.amount / seconds,
        "per_hour": step.amount / seconds * 3600,
        "active": step.total / seconds,
    }[stat]


def metrics_seen_by(asker: Asker) -> list[Metric]:
    """Return the metrics of OTLP that there are in the asker's scope, by name."""
    slugs = slugs_read(asker, None)
    found = Series.objects.values_list("name", "unit", "kind", "monotonic").distinct().order_by("name")
    if slugs is not None:
        found = found.filter(tenant__in=slugs)
    named: dict[str, Metric] = {}
    for name, unit, kind, monotonic in found[:MOST_NAMES]:
        named.setdefault(name, _sent(name, unit, kind, monotonic=monotonic))
    return list(named.values())


def metric_seen_by(asker: Asker, name: str) -> Metric:
    """Return a metric by its name; ``NotFound`` for one that nobody in the asker's scope sent."""
    if name in SEVEN:
        return SEVEN[name]
    slugs = slugs_read(asker, None)
    found = Series.objects.filter(name=name).values_list("name", "unit", "kind", "monotonic").order_by("pk")
    row = (found if slugs is None else found.filter(tenant__in=slugs)).first()
    if row is None:
        raise NotFound(f"Nobody has sent a metric {name!r} that you may see.")
    return _sent(*row[:3], monotonic=row[3])


def _sent(name: str, unit: str, kind: str, *, monotonic: bool) -> Metric:
    stats: tuple[str, ...] = ("level", "mean", "max")
    if kind in ("histogram", "exponential"):
        stats = (*SPREAD, "rate", "sum")
    elif kind == "summary":
        stats = ("mean", "rate", "sum")
    elif kind == "sum" and monotonic:
        stats = ("rate", "sum")
    return Metric(name, name, unit, stats, dimensions=OTLP_DIMENSIONS, coarse=kind == "histogram", kind=kind)
