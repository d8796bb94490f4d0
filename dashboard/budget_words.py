"""What the options of budgets are called in forms, and what a form says of them."""

from __future__ import annotations

from functools import cache
from typing import Any
from zoneinfo import available_timezones

from controlplane.budgets.actions.budgets import MATCHES
from controlplane.domain.carry import CarryRule
from controlplane.problems import Invalid
from dashboard.forms import Form

PERIODS = (
    *((f"calendar:{unit}", f"Calendar {unit}") for unit in ("month", "week", "day", "hour", "year")),
    ("rolling", "Rolling days"),
    ("total", "For all time"),
)
ON_EXHAUSTED = (("block", "Refuse calls: a hard cap"), ("warn", "Only watch: let them pass, count (shadow)"))
ON_DISCONNECT = (
    ("stop", "It stops when its lease expires (guaranteed)"),
    ("finish_lease", "It may finish its lease (not guaranteed)"),
)
STRICT = (("yes", "The worst case: input and all possible output"), ("no", "What such calls used to need"))
ON_OVERRUN = (("finish", "It finishes, on debt"), ("cut", "It is cut"))
NO_YES = (("no", "No"), ("yes", "Yes"))
CHOICES = {
    "periods": PERIODS,
    "on_exhausted": ON_EXHAUSTED,
    "on_disconnect": ON_DISCONNECT,
    "strict": STRICT,
    "on_overrun": ON_OVERRUN,
    "no_yes": NO_YES,
}
# Rows of the form for one more period; the fields of a row end with its name.
ROWS = ("", ".2", ".3")


@cache
def zones() -> list[str]:
    """Return the names of all time zones that a calendar period may be in."""
    return sorted(name for name in available_timezones() if "/" in name or name == "UTC")


def period_of_form(form: Form, row: str = "") -> dict[str, Any]:
    """Read the period of a row. The time zone is that of all rows."""
    kind, _, unit = form.text(f"period{row}").partition(":")
    if kind == "calendar":
        return {"kind": kind, "unit": unit, "timezone": form.text("period.timezone") or "UTC"}
    return {"kind": kind, "days": form.whole(f"period.days{row}")} if kind == "rolling" else {"kind": kind}


def options_of_form(form: Form) -> dict[str, Any]:
    """Read the options that can be changed later, as the actions take them; what is missing is as it comes."""
    return {
        "on_exhausted": form.text("on_exhausted") or "block",
        "on_disconnect": form.text("on_disconnect") or "stop",
        "strict": form.text("strict") != "no",
        "on_overrun": form.text("on_overrun") or "finish",
        "thresholds": _thresholds(form),
    }


def match_of_form(form: Form) -> dict[str, str]:
    return {part: form.text(f"match.{part}") for part in MATCHES if form.text(f"match.{part}")}


def carry_of_form(form: Form) -> CarryRule:
    field = "carry.unused_up_to_usd"
    return CarryRule(form.nusd(field) if form.text(field) else 0, form.text("carry.debt") == "yes")


def suffix_of(period: dict[str, Any]) -> str:
    """Return what the name of a further budget ends with: ``day``, ``rolling-30``, ``total``."""
    if period["kind"] == "rolling":
        return f"rolling-{period['days']}"
    return str(period.get("unit") or period["kind"])


def _thresholds(form: Form) -> list[int]:
    parts = form.text("thresholds").replace(",", " ").replace("%", " ").split()
    if not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise Invalid(
            "A threshold is not readable.", errors={"thresholds": "must be whole percentages, like 50 80 100"}
        )
    return [int(part) for part in parts]
