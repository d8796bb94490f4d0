"""Fields of forms: a label, what was typed, what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import template

from controlplane.budgets.pricing import unit_of
from dashboard.forms import Form

register = template.Library()


def _field(form: object, name: str, label: str, initial: object, more: dict[str, Any]) -> dict[str, Any]:
    known = form if isinstance(form, Form) else Form()
    value = known.values.get(name, "" if initial is None else str(initial))
    return {
        "name": name,
        "id": f"f_{name.replace('.', '_')}",
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
) -> dict[str, Any]:
    """An input. ``kind`` is its HTML type."""
    more = {"hint": hint, "kind": kind, "placeholder": placeholder, "required": required}
    return _field(form, name, label, initial, more)


@register.inclusion_tag("components/field.html")
def rate_field(form: object, name: str, own: Mapping[str, str]) -> dict[str, Any]:
    """An input for the price of a class of usage, with what it is now."""
    hint = f"per {unit_of(name)}" if unit_of(name) != "1M tokens" else ""
    more = {"hint": hint, "kind": "text", "placeholder": "", "required": False}
    return _field(form, f"rates.{name}", name.replace("_", " ").capitalize(), own.get(name, ""), more)


@register.inclusion_tag("components/choice.html")
def choice(
    form: object, name: str, label: str, options: Sequence[tuple[str, str]] | str, initial: object = "", hint: str = ""
) -> dict[str, Any]:
    """A select. ``options`` are pairs of value and label, or values separated by spaces."""
    pairs = [(each, each) for each in options.split()] if isinstance(options, str) else list(options)
    return _field(form, name, label, initial, {"options": pairs, "hint": hint})


@register.inclusion_tag("components/document.html")
def document(form: object, name: str, label: str, initial: object = "", hint: str = "") -> dict[str, Any]:
    """A text area for a JSON document. Errors at paths inside of it are shown beside it, as those of no other field."""
    made = _field(form, name, label, initial, {"hint": hint})
    if isinstance(form, Form) and not made["error"]:
        inside = {path: text for path, text in form.errors.items() if path not in form.values}
        made["error"] = "; ".join(f"{path} {text}" for path, text in inside.items())
    return made


@register.inclusion_tag("components/faults.html")
def faults(form: object) -> dict[str, Any]:
    """What is wrong with the form as a whole, and every field by name."""
    return {"form": form if isinstance(form, Form) else Form()}
