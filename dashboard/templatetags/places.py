"""Addresses: the present view with some parameters changed."""

from __future__ import annotations

from urllib.parse import urlencode

from django import template

register = template.Library()


@register.simple_tag(takes_context=True)
def here(context: template.Context, **changes: str | int | None) -> str:
    """Return the query string of this view with ``changes``; an empty value takes a parameter out."""
    path = context.get("path_params") or ()
    kept = {name: value for name, value in context["params"].items() if name not in path and name not in changes}
    changed = {name: value for name, value in changes.items() if value not in ("", None)}
    return "?" + urlencode(sorted({**kept, **changed}.items()))


@register.simple_tag(takes_context=True)
def drop(context: template.Context, *names: str) -> str:
    """Return the query string of this view without some parameters."""
    return here(context, **dict.fromkeys((*names, "cursor"), ""))


@register.simple_tag(takes_context=True)
def with_param(context: template.Context, name: str, value: str) -> str:
    """Return the query string of this view narrowed to ``value`` of a dimension, which is then not told apart any more."""
    return here(context, **{"by": "", "cursor": "", name: value})


@register.simple_tag(takes_context=True)
def swapped(context: template.Context) -> str:
    """Return the query string of this comparison with both sides changed."""
    return here(context, a=context["params"].get("b", ""), b=context["params"].get("a", ""))
