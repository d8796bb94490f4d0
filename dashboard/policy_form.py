"""Policies as forms: which fields there are, what a document looks like in them, and the document that they say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from controlplane.problems import Invalid
from dashboard.forms import Form

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]{1,18}\.[0-9]{1,9}", re.ASCII)
FALLBACKS = 4
SPARE_LIMITS = 1
MOST_LIMITS = 16


class Spec(NamedTuple):
    """A field of a part. ``choices`` are pairs of value and words; without them it is a number, ``usual`` when it is left out."""

    name: str
    label: str
    usual: str = ""
    hint: str = ""
    choices: Sequence[tuple[str, str]] = ()


SCOPES = (("fleet", "among all clients"), ("instance", "for each client by itself"))
LIMIT = (
    Spec("unit", "Of what", choices=(("requests", "requests"), ("tokens", "tokens"))),
    Spec("amount", "How many", hint="empty: no such limit"),
    Spec("per_s", "Per seconds", "60"),
    Spec("burst", "At most at once", "as many as that"),
    Spec("scope", "Shared", choices=SCOPES),
    Spec(
        "enforcement", "When it is reached", choices=(("enforce", "refuse"), ("shadow", "only watch: count, let pass"))
    ),
)
QUEUE = (
    Spec("max_concurrent", "Permits: calls at once", hint="needed for a queue"),
    Spec("max_waiting", "Calls that may wait", "64"),
    Spec("max_wait_ms", "How long, ms", "2000"),
    Spec("scope", "Shared", choices=(("instance", "for each client by itself"), ("fleet", "among all clients"))),
    Spec(
        "congestion",
        "Order under congestion",
        choices=(("fifo", "first come, first served"), ("lifo", "newest first"), ("codel", "short waits (CoDel)")),
    ),
    Spec(
        "adaptive",
        "Permits adapt",
        choices=(("", "no: always as many"), ("gradient", "by latency (gradient)"), ("aimd", "by failures (AIMD)")),
    ),
    Spec("min_concurrent", "Never fewer permits than", "1"),
)
BREAKER = (
    Spec(
        "mode",
        "Mode",
        choices=(
            ("auto", "automatic"),
            ("metrics_only", "metrics only: count, let pass"),
            ("forced_open", "forced open: no call passes"),
            ("forced_closed", "forced closed: every call passes"),
        ),
    ),
    Spec("window_s", "Window, seconds", "30"),
    Spec("window", "The window", choices=(("sliding", "slides"), ("tumbling", "tumbles: begins anew when it is over"))),
    Spec("window_calls", "Or window of so many calls", "by time"),
    Spec("min_calls", "Judged from so many calls", "20"),
    Spec("failure_rate", "Opens at this share failed", "0.5", "0 to 1"),
    Spec("slow_call_ms", "Slow from, ms", "never slow", "calls that hang count as slow"),
    Spec("slow_call_rate", "Opens at this share slow", "0.8", "0 to 1"),
    Spec("open_s", "Stays open, seconds", "20"),
    Spec("max_open_s", "At most, when told to wait", "300", "a provider’s Retry-After"),
    Spec("half_open_calls", "Then so many probes", "3"),
    Spec(
        "probing",
        "Probes are judged",
        choices=(("rate", "by the rates"), ("strict", "strictly: one failure opens again")),
    ),
)
RETRY = (
    Spec("max_attempts", "Attempts at most", "3"),
    Spec("base_ms", "First wait, ms", "200"),
    Spec("max_ms", "Longest wait, ms", "8000"),
    Spec("growth", "Waits grow", choices=(("exponential", "by a factor"), ("linear", "by the first wait"))),
    Spec("factor", "Factor", "2", "1: every wait is the same"),
    Spec(
        "jitter",
        "Jitter",
        choices=(
            *((each, each) for each in ("full", "equal", "decorrelated")),
            ("quarter", "± a quarter"),
            ("half", "± a half"),
            ("none", "none"),
        ),
    ),
    Spec("budget_ratio", "Retries that a call earns", "0.2", "0 to 1: keeps retries from piling up"),
    Spec("hedge_ms", "Hedge after, ms", "never", "a second attempt beside a silent one"),
)
PARTS: Mapping[str, Sequence[Spec]] = {"queue": QUEUE, "breaker": BREAKER, "retry": RETRY}
SAYS = (("", "as inherited"), ("own", "as said here"), ("none", "nothing, whatever is inherited"))
ENFORCEMENTS = (
    ("", "as inherited"),
    ("enforce", "enforce: refuse what it says"),
    ("shadow", "shadow: decide, count, let everything pass"),
    ("off", "off: decide nothing"),
)


class Drawn(NamedTuple):
    """A field as the page shows it."""

    name: str
    spec: Spec
    value: str


def flat(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a form that say ``document``."""
    values = {"timeout_ms": _text(document.get("timeout_ms")), "enforcement": document.get("enforcement") or ""}
    for part in ("limits", "fallbacks", *PARTS):
        nothing = document.get(part) is None or document[part] == []
        values[f"{part}.says"] = "" if part not in document else "none" if nothing else "own"
    for part in PARTS:
        for name, value in (document.get(part) or {}).items():
            values[f"{part}.{name}"] = _text(value)
    for number, limit in enumerate(document.get("limits") or []):
        values |= {f"limits[{number}].{name}": _text(value) for name, value in limit.items()}
    for number, fallback in enumerate(document.get("fallbacks") or []):
        values[f"fallbacks[{number}].route"] = fallback.get("route", "")
        if "value" in fallback:
            values[f"fallbacks[{number}].value"] = json.dumps(fallback["value"], ensure_ascii=False)
    return values


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def limit_rows(values: Mapping[str, str]) -> int:
    """Return how many rows of limits to show: those that there are, and a spare one."""
    used = [number for number in range(MOST_LIMITS) if values.get(f"limits[{number}].amount")]
    return min(MOST_LIMITS, max(used, default=-1) + 1 + SPARE_LIMITS)


def drawn(values: Mapping[str, str], prefix: str, specs: Sequence[Spec]) -> list[Drawn]:
    """Return the fields of a part with what they say."""
    return [Drawn(f"{prefix}.{spec.name}", spec, values.get(f"{prefix}.{spec.name}", "")) for spec in specs]


def document_of(form: Form) -> dict[str, Any]:
    """Return the document that the fields say, not yet checked: what is no number stays text, for the rules to name."""
    document: dict[str, Any] = {}
    if form.text("limits.says"):
        document["limits"] = list(_limits(form)) if form.text("limits.says") == "own" else []
    for part, specs in PARTS.items():
        if form.text(f"{part}.says"):
            document[part] = _read(form, part, specs) if form.text(f"{part}.says") == "own" else None
    if form.text("fallbacks.says"):
        document["fallbacks"] = list(_fallbacks(form)) if form.text("fallbacks.says") == "own" else []
    if form.text("timeout_ms"):
        document["timeout_ms"] = _value(form.text("timeout_ms"))
    if form.text("enforcement"):
        document["enforcement"] = form.text("enforcement")
    return document


def by_fields(form: Form, errors: Mapping[str, str]) -> dict[str, str]:
    """Return errors of a document by the fields that say it: rows that were left empty count here."""
    rows = {"limits": _rows(form, "limits", "amount"), "fallbacks": _rows(form, "fallbacks", "route", "value")}
    made = {}
    for path, text in errors.items():
        found = re.match(r"(limits|fallbacks)\[(\d+)\](?:\.(.*))?$", path)
        if found is None:
            made[f"{path}.says" if path in PARTS or path in rows else path] = text
            continue
        number = rows[found[1]][int(found[2])]
        made[f"{found[1]}[{number}].{found[3] or 'route'}"] = text
    return made


def _rows(form: Form, part: str, *names: str) -> list[int]:
    return [number for number in range(MOST_LIMITS) if any(form.text(f"{part}[{number}].{name}") for name in names)]


def _limits(form: Form) -> Iterator[dict[str, Any]]:
    for number in _rows(form, "limits", "amount"):
        yield _read(form, f"limits[{number}]", LIMIT)


def _read(form: Form, prefix: str, specs: Sequence[Spec]) -> dict[str, Any]:
    found = {spec.name: form.text(f"{prefix}.{spec.name}") for spec in specs}
    return {name: _value(text) for name, text in found.items() if text}


def _fallbacks(form: Form) -> Iterator[dict[str, Any]]:
    for place, number in enumerate(_rows(form, "fallbacks", "route", "value")):
        route, value = form.text(f"fallbacks[{number}].route"), form.text(f"fallbacks[{number}].value")
        if route and value:
            fault = "is said beside a fixed answer: a fallback is one or the other"
            raise Invalid("The policy is not valid: nothing was changed.", errors={f"fallbacks[{place}].route": fault})
        yield {"route": route} if route else {"value": _answer(value, place)}


def _answer(text: str, place: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        errors = {f"fallbacks[{place}].value": f"is not JSON: {error}"}
        raise Invalid("The policy is not valid: nothing was changed.", errors=errors) from None


def _value(text: str) -> Any:
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text
