"""The rule editor: which fields each kind of rule has, and a rule out of what was typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.alerting.models import Rule
from controlplane.problems import Invalid
from dashboard.alert_words import COUNTED, METRICS, WHATS
from dashboard.forms import Form

Choices = Sequence[tuple[str, str]]
OPS: Choices = (("above", "is above"), ("below", "is below"), ("at_least", "is at least"), ("at_most", "is at most"))
BYS: Choices = (("", "All together"), ("tenant", "Each tenant"), ("route", "Each route"), ("model", "Each model"))
SENT_OPS: Choices = (*OPS, ("absent", "is not sent at all"), ("unusual", "is unusual for the hour of the week"))
SENT_BYS: Choices = (*BYS, ("release", "Each release"), ("service", "Each service"), ("instance", "Each instance"))
STATS: Choices = (
    ("", "What tells most"), ("p50", "p50"), ("p90", "p90"), ("p95", "p95"), ("p99", "p99"), ("mean", "Mean"), ("max", "Greatest"),
    ("sum", "Total"), ("rate", "Per second"), ("per_hour", "Per hour"), ("share", "Share"), ("active", "Active"), ("level", "Level"),
)  # fmt: skip
DIRECTIONS: Choices = (("up", "Unusually high"), ("down", "Unusually low"), ("both", "Either"))
SEVERITIES: Choices = (("page", "Page somebody"), ("ticket", "A ticket"), ("info", "For information"))
NO_DATA: Choices = (("ok", "It does not hold"), ("alert", "Tell people"), ("keep", "Whatever was before"))
_TIMES = {
    0: "At once",
    5: "5 seconds",
    10: "10 seconds",
    15: "15 seconds",
    30: "30 seconds",
    60: "1 minute",
    120: "2 minutes",
    300: "5 minutes",
    600: "10 minutes",
    900: "15 minutes",
    1800: "30 minutes",
    3600: "1 hour",
    14400: "4 hours",
    21600: "6 hours",
    43200: "12 hours",
    86400: "1 day",
    604800: "1 week",
}


@dataclass(frozen=True)
class Field:
    """One field of the editor. ``form`` says how its text is read: number, whole, text."""

    name: str
    label: str
    form: str = "text"
    initial: str = ""
    choices: Choices = ()
    hint: str = ""
    placeholder: str = ""
    required: bool = False


def times(*seconds: int, more: int | None = None) -> Choices:
    """Return choices of spans of time; ``more`` is one that has to be among them."""
    wanted = {*seconds} if more is None else {*seconds, more}
    return tuple((str(each), _TIMES.get(each, f"{each} seconds")) for each in sorted(wanted))


_WINDOWS = times(60, 300, 600, 1800, 3600, 21600, 86400)
_NARROW = (
    Field("spec.route", "Only of route", placeholder="any"),
    Field("spec.model", "Only of model", placeholder="any"),
)
_VALUE = Field("spec.value", "Limit", "number", "10 %", required=True, hint="shares as 10 % or 0.1")
_OP = Field("spec.op", "Compared", choices=OPS)
_BY = Field("spec.by", "For", choices=BYS, hint="one alert for each")
FIELDS: dict[str, tuple[Field, ...]] = {
    "threshold": (
        Field("spec.metric", "Figure", initial="error_rate", choices=tuple(METRICS.items())),
        _OP,
        _VALUE,
        Field("spec.window_s", "Over the last", "whole", "300", _WINDOWS),
        _BY,
        Field("spec.min_calls", "With at least so many calls", "whole", "20"),
        *_NARROW,
    ),
    "ratio": (
        Field("spec.numerator", "Count", initial="refused", choices=tuple(COUNTED.items())),
        Field("spec.denominator", "Per", initial="calls", choices=tuple(COUNTED.items())),
        _OP,
        _VALUE,
        Field("spec.window_s", "Over the last", "whole", "300", _WINDOWS),
        _BY,
        Field("spec.min_denominator", "With at least so much to divide by", "number", "1"),
        *_NARROW,
    ),
    "absence": (Field("spec.window_s", "No calls for", "whole", "600", _WINDOWS), _BY, *_NARROW),
    "burn_rate": (Field("spec.slo", "Service level", required=True, hint="14.4 × over 1 h and 5 min, 6 × over 6 h and 30 min, "
                        "3 × over 1 d and 2 h, 1 × over 3 d and 6 h"),),
    "forecast": (
        Field("spec.budget", "Budget", placeholder="any", hint="its name without the tenant"),
        Field("spec.within_h", "Used up within hours", "number", placeholder="before its period ends"),
    ),
    "budget": (
        Field("spec.budget", "Budget", placeholder="any", hint="its name without the tenant"),
        Field("spec.used", "Share that is spent", "number", placeholder="the thresholds of each budget",
              hint="80 % or 0.8"),
    ),
    "anomaly": (
        Field("spec.metric", "Figure", initial="cost_usd", choices=tuple(METRICS.items())),
        Field("spec.direction", "Which is", choices=DIRECTIONS),
        Field("spec.score", "By so many robust deviations", "number", "4", hint="from the median of that hour of the week, by MAD"),
        _BY,
        *_NARROW,
    ),
    "fleet": (
        Field("spec.what", "What", choices=tuple(WHATS.items())),
        Field("spec.op", "Compared", initial="at_least", choices=OPS),
        Field("spec.value", "Limit", "number", "1"),
        Field("spec.route", "Only breakers of route", placeholder="any"),
        Field("spec.model", "Only breakers of model", placeholder="any"),
    ),
}  # fmt: skip
FIELDS["metric"] = (
    Field(
        "spec.metric",
        "Metric",
        initial="",
        hint="any that applications send, that the server measures of itself, or one of the seven",
    ),
    Field("spec.stat", "Of it", choices=STATS),
    Field("spec.op", "Compared", choices=SENT_OPS),
    Field("spec.value", "Limit", "number", "0", hint="in the metric’s own unit; deviations where it is unusual"),
    Field("spec.window_s", "Over the last", "whole", "300", _WINDOWS),
    Field("spec.by", "For", choices=SENT_BYS, hint="one alert for each"),
    Field("spec.per", "Divided by another metric", placeholder="not divided"),
    *_NARROW,
    Field("spec.release", "Only of release", placeholder="any"),
)
TIMING = (
    ("for_s", "Held for", "0"),
    ("keep_firing_s", "Fires on after it is over", "0"),
    ("every_s", "Looked at every", "15"),
)


def initial_of(rule: Rule | None, field: Field) -> str:
    """Return what a field shows at first: what the rule says, or what is usual."""
    if rule is None:
        return field.initial
    value = rule.spec.get(field.name.removeprefix("spec."))
    if value is None:
        return field.initial if field.choices else ""
    metric = str(rule.spec.get("metric", ""))
    shared = rule.kind != "metric" and metric.endswith("rate")
    if field.name == "spec.used" or (field.name == "spec.value" and shared):
        return f"{value * 100:g} %"
    return f"{value:g}" if isinstance(value, float) else str(value)


def spec_from(form: Form, kind: str, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the spec that was typed; empty fields are left out. ``Invalid`` names what is not readable.

    What the editor has no field for is kept from ``before``.
    """
    shown = {field.name.removeprefix("spec.") for field in FIELDS.get(kind, ())}
    spec = {name: value for name, value in (before or {}).items() if name not in shown}
    for field in FIELDS.get(kind, ()):
        text = form.text(field.name)
        if not text:
            continue
        spec[field.name.removeprefix("spec.")] = _read(form, field, text)
    return spec


def _read(form: Form, field: Field, text: str) -> Any:
    if field.form == "whole":
        return form.whole(field.name)
    return number(field.name, text) if field.form == "number" else text


def number(name: str, text: str) -> float:
    """Read a number as people type it: ``10 %``, ``$4.20``, ``1,000``."""
    plain = text.replace(",", "").replace("$", "").replace("%", "").strip()
    try:
        value = float(plain)
    except ValueError:
        raise Invalid("A number is not readable.", errors={name: "must be a number"}) from None
    if value != value or abs(value) > 1e15:
        raise Invalid("A number is out of bounds.", errors={name: "must be a number of a sensible size"})
    return value / 100 if "%" in text else value


def marked(form: Form, prefix: str) -> list[str]:
    """Return what was ticked among the boxes that are named ``prefix.…``."""
    return [
        name.removeprefix(f"{prefix}.")
        for name, value in form.values.items()
        if value and name.startswith(f"{prefix}.")
    ]
