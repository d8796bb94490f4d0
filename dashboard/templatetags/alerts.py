"""Words of alerts in templates. The rules are in ``dashboard.alert_words``."""

from __future__ import annotations

from django import template

from controlplane.alerting.models import Rule
from dashboard.alert_words import KINDS, TOLD, condition_text

register = template.Library()


@register.filter
def told_words(told: str) -> str:
    """What people were told, in words."""
    return TOLD.get(told, told)


@register.filter
def condition(rule: Rule) -> str:
    """A rule in one line."""
    return condition_text(rule)


@register.filter
def kind_word(kind: str) -> str:
    return KINDS.get(kind, kind)
