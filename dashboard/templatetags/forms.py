"""Fields of forms: a label, what was typed, what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django import template

from controlplane.budgets.pricing import unit_of
from dashboard import policy_form
from dashboard.forms import Form
from tidegate.core.usage import CLASSES

register = template.Library()


def _field(form: object, name: str, label: str, initial: object, more: dict[str, Any]) -> dict[str, Any]:
    known = form if isinstance(form, Form) else Form()
    value = known.values.get(name, "" if initial is None else str(initial))
    return {
        "name": name,
        "id": "f_" + re.sub(r"[^a-z0-9]+", "_", name),
        "label": label,
        "value": value,
        "error": known.errors.get(name, ""),
        **more,
    }


@register.inclusion_tag("components/field.html")
def field(
    form: object,
    name: str,
    label: str,
    initial: object = "",
    hint: str = "",
    kind: str = "text",
    placeholder: str = "",
    required: bool = False,
    dom_id: str = "",
) -> dict[str, Any]:
    """An input. ``kind`` is its HTML type; ``dom_id`` is for a name that another form of the page has too."""
    more = {
        "hint": hint,
        "kind": kind,
        "placeholder": placeholder,
        "required": required,
        **({"id": dom_id} if dom_id else {}),
    }
    return _field(form, name, label, initial, more)


@register.inclusion_tag("components/field.html")
def rate_field(form: object, name: str, own: Mapping[str, str]) -> dict[str, Any]:
    """An input for the price of a class of usage, with what it is now."""
    follows = ("input",) if name == "output" else CLASSES[name].falls_to
    parts = [f"per {unit_of(name)}"] if unit_of(name) != "1M tokens" else []
    if follows:
        parts.append(f"empty: as {follows[0].replace('_', ' ')}")
    hint = "; ".join(parts)
    more = {"hint": hint, "kind": "text", "placeholder": "", "required": False}
    return _field(form, f"rates.{name}", name.replace("_", " ").capitalize(), own.get(name, ""), more)


@register.inclusion_tag("components/specs.html")
def part_fields(form: object, part: str, values: Mapping[str, str]) -> dict[str, Any]:
    """The fields of one part of a policy."""
    return {"form": form, "fields": policy_form.drawn(values, part, policy_form.PARTS[part])}


@register.inclusion_tag("components/limit_rows.html")
def limit_rows(form: object, values: Mapping[str, str]) -> dict[str, Any]:
    """The limits of a policy, and room for one more."""
    typed = form.values if isinstance(form, Form) else values
    rows = [
        policy_form.drawn(values, f"limits[{number}]", policy_form.LIMIT)
        for number in range(policy_form.limit_rows(typed))
    ]
    return {"form": form, "rows": rows}


@register.inclusion_tag("components/fallback_row.html")
def fallback_row(form: object, values: Mapping[str, str], number: int) -> dict[str, Any]:
    """One fallback of a policy: another route, or a fixed answer."""
    place = f"fallbacks[{number}]"
    return {"form": form, "number": number + 1, "route": f"{place}.route", "value": f"{place}.value",
            "route_now": values.get(f"{place}.route", ""), "value_now": values.get(f"{place}.value", "")}  # fmt: skip


@register.filter
def said(values: Mapping[str, str], name: str) -> str:
    """What a field of a policy says."""
    return values.get(name, "")


@register.inclusion_tag("components/suggested.html")
def zone_field(form: object, name: str, label: str, zones: Sequence[str], initial: object = "UTC") -> dict[str, Any]:
    """An input for the name of a time zone, with all of them to choose from."""
    return _field(form, name, label, initial, {"options": zones, "hint": "any IANA zone, like Europe/Berlin"})


@register.inclusion_tag("components/choice.html")
def choice(
    form: object, name: str, label: str, options: Sequence[tuple[str, str]] | str, initial: object = "", hint: str = ""
) -> dict[str, Any]:
    """A select. ``options`` are pairs of value and label, or values separated by spaces."""
    pairs = [(each, each) for each in options.split()] if isinstance(options, str) else list(options)
    return _field(form, name, label, initial, {"options": pairs, "hint": hint})


@register.inclusion_tag("components/document.html")
def document(
    form: object, name: str, label: str, initial: object = "", hint: str = "", *, beside: bool = False
) -> dict[str, Any]:
    """A text area for a JSON document. Errors at paths inside of it are shown beside it: those of no other field.

    ``beside``: there is another document, so only those that begin with the name.
    """
    made = _field(form, name, label, initial, {"hint": hint})
    if isinstance(form, Form) and not made["error"] and form.text("do") != "fields":
        inside = {
            path: text
            for path, text in form.errors.items()
            if (path.startswith((f"{name}.", f"{name}[")) if beside else path not in form.values)
        }
        made["error"] = "; ".join(f"{path} {text}" for path, text in inside.items())
    return made


@register.inclusion_tag("components/faults.html")
def faults(form: object) -> dict[str, Any]:
    """What is wrong with the form as a whole, and every field by name."""
    return {"form": form if isinstance(form, Form) else Form()}
