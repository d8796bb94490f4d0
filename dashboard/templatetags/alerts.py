"""Words of alerts in templates. The rules are in ``dashboard.alert_words``."""

from __future__ import annotations

from collections.abc import Mapping

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

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


@register.simple_tag
def burn_figure(rates: Mapping[int, float | None], length_s: int) -> str:
    """How fast a budget burned over a window: ``3.2 ×``."""
    rate = rates.get(length_s)
    return "–" if rate is None else f"{rate:.1f} ×"


@register.simple_tag
def budget_left_bar(left: float, tone: str) -> SafeString:
    """Draw what is left of an error budget, 0 to 1."""
    share = 100 * min(1.0, max(0.0, left))
    return format_html(
        '<svg class="bar {}" role="img" aria-label="{} % left" width="100%" height="14">'
        '<rect class="track" x="0" y="3" width="100%" height="8" rx="4"/>'
        '<rect class="settled" x="0" y="3" width="{}%" height="8" rx="4"/></svg>',
        tone,
        f"{share:.0f}",
        f"{share:.2f}",
    )
