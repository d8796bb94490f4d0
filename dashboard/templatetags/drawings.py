"""Small drawings in SVG: icons, sparklines, bars. Presentation attributes and classes only: the CSP allows no styles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

ICONS = {
    "overview": "M2 13V8M6 13V3M10 13V6M14 13V9",
    "tenants": "M8 2v4M8 6H3v4M8 6h5v4M1.5 10h3v3h-3zM11.5 10h3v3h-3z",
    "budgets": "M8 1.8v12.4M11 4.6C10.4 3.7 9.3 3.3 8 3.3c-1.8 0-3 .9-3 2.2 0 3 6.2 1.6 6.2 4.8 0 1.4-1.3 2.4-3.2 2.4"
    "-1.5 0-2.7-.5-3.3-1.5",
    "accuracy": "M8 1.5v3M8 11.5v3M1.5 8h3M11.5 8h3M8 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8z",
    "prices": "M2 8.5V2h6.5l5.5 5.5-6.5 6.5zM5 5h.01",
    "limits": "M2.2 12a6.3 6.3 0 1 1 11.6 0M8 9.5 11 5.5",
    "breakers": "M1.5 8H5l5-4.5M10.8 8h3.7M5 8h.01",
    "rollouts": "M8 2a6 6 0 1 0 6 6M8 5a3 3 0 1 0 3 3M8 8l6-6",
    "metrics": "M2 2v12h12M4.5 10.5l3-4 2.5 2 3.5-5",
    "traces": "M2 3.5h7M4.5 6.5H12M6 9.5h4M8 12.5h6",
    "mesh": "M4 4l8 2M4 4l3 8M12 6l-5 6M4 4h.01M12 6h.01M7 12h.01",
    "sessions": "M2 3h12v8H7l-3 3v-3H2z",
    "alerts": "M8 2a4 4 0 0 1 4 4c0 4 1.5 5 1.5 5h-11S4 10 4 6a4 4 0 0 1 4-4zM6.6 13.5h2.8",
    "slos": "M8 14A6 6 0 1 1 14 8M8 8l3.5-2.5M11 11.5l1.7 1.7L15 10",
    "clients": "M2 3h12v7H2zM5.5 13.5h5M8 10v3.5",
    "state": "M2.5 4c0-1.1 2.5-2 5.5-2s5.5.9 5.5 2-2.5 2-5.5 2-5.5-.9-5.5-2zM2.5 4v8c0 1.1 2.5 2 5.5 2s5.5-.9 5.5-2V4"
    "M2.5 8c0 1.1 2.5 2 5.5 2s5.5-.9 5.5-2",
    "audit": "M4 2h8v12H4zM6.3 5.5h3.4M6.3 8h3.4M6.3 10.5h2",
    "settings": "M2 4.5h7M12 4.5h2M2 11.5h2M7 11.5h7M10.5 3v3M5.5 10v3",
    "menu": "M2 4h12M2 8h12M2 12h12",
    "theme": "M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12",
    "leave": "M6 3H3v10h3M7 8h7M11 5l3 3-3 3",
    "chevron": "M4 6l4 4 4-4",
    "search": "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.5 10.5 14 14",
}


@register.simple_tag
def icon(name: str) -> SafeString:
    """Draw an icon of 16 units."""
    return format_html('<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d="{}"/></svg>', ICONS[name])


def _points(values: Sequence[float | None], width: float, height: float, top: float) -> list[tuple[float, float]]:
    known = [value for value in values if value is not None]
    if not known:
        return []
    low, high = min(known), max(known)
    room = high - low
    step = width / max(1, len(values) - 1)
    return [
        (step * number, height if high <= 0 else top + (height - top) * (1 - (value - low) / room if room else 0.5))
        for number, value in enumerate(values)
        if value is not None
    ]


@register.simple_tag
def sparkline(values: Sequence[float | None], tone: str = "accent") -> SafeString:
    """Draw the course of ``values`` as a line over an area; gaps are bridged. ``tone`` is a class of the styles."""
    points = _points(values, 150, 24, 2)
    if not points:
        return mark_safe('<svg class="spark none" viewBox="0 0 150 26" aria-hidden="true"></svg>')
    if len(points) == 1:  # a line needs two: a short one stands for the only value
        points = [(max(0.0, points[0][0] - 4), points[0][1]), points[0]]
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return format_html(
        '<svg class="spark {}" viewBox="0 0 150 26" preserveAspectRatio="none" aria-hidden="true">'
        '<polygon class="area" points="{},26 {} {},26"/><polyline class="line" points="{}"/></svg>',
        tone,
        f"{points[0][0]:.1f}",
        drawn,
        f"{points[-1][0]:.1f}",
        drawn,
    )


@register.simple_tag
def money_bar(standing: Any) -> SafeString:
    """Draw a budget's bar: settled, leased and free parts of the amount, and a notch for the pace of the period."""
    amount = max(1, standing.amount_nusd)
    settled = min(100.0, 100 * max(0, standing.spent_nusd) / amount)
    leased = min(100.0 - settled, 100 * max(0, standing.leased_nusd) / amount)
    label = f"{settled:.0f} % settled, {leased:.0f} % leased"
    notch = (
        format_html('<rect class="pace" x="{}%" y="0" width="2" height="14" rx="1"/>', f"{100 * standing.pace:.1f}")
        if standing.pace is not None
        else ""
    )
    return format_html(
        '<svg class="bar {}" role="img" aria-label="{}" width="100%" height="14">'
        '<rect class="track" x="0" y="3" width="100%" height="8" rx="4"/>'
        '<rect class="leased" fill="url(#hatch)" x="{}%" y="3" width="{}%" height="8"/>'
        '<rect class="settled" x="0" y="3" width="{}%" height="8" rx="4"/>{}</svg>',
        standing.tone,
        label,
        f"{settled:.2f}",
        f"{leased:.2f}",
        f"{settled:.2f}",
        notch,
    )


@register.simple_tag
def share_bar(value: float, whole: float, series: int = 1) -> SafeString:
    """Draw a bar of ``value`` out of ``whole`` in the colour of a series, 1 to 5."""
    share = min(100.0, 100 * value / whole) if whole > 0 else 0.0
    return format_html(
        '<svg class="bar s{}" aria-hidden="true" width="100%" height="14">'
        '<rect class="track" x="0" y="3" width="100%" height="8" rx="4"/>'
        '<rect class="settled" x="0" y="3" width="{}%" height="8" rx="4"/></svg>',
        (series - 1) % 5 + 1,
        f"{share:.2f}",
    )


@register.simple_tag
def evidence_bar(value: int, tone: str) -> SafeString:
    """Draw how far evidence is, 0 to 100, with a mark at the end."""
    return format_html(
        '<svg class="bar {}" aria-hidden="true" width="100%" height="14">'
        '<rect class="track" x="0" y="4" width="100%" height="6" rx="3"/>'
        '<rect class="settled" x="0" y="4" width="{}%" height="6" rx="3"/>'
        '<rect class="pace" x="99%" y="1" width="2" height="12" rx="1"/></svg>',
        tone,
        min(100, max(0, value)),
    )


@register.simple_tag
def thin_bar(value: int, tone: str) -> SafeString:
    """Draw a part of a whole, 0 to 100, as a thin bar."""
    return format_html(
        '<svg class="bar {}" aria-hidden="true" width="100%" height="6"><rect class="track" x="0" y="1" width="100%" height="4" rx="2"/>'
        '<rect class="settled" x="0" y="1" width="{}%" height="4" rx="2"/></svg>',
        tone,
        min(100, max(0, value)),
    )


@register.simple_tag
def lane(start: float, length: float, tone: str = "s1") -> SafeString:
    """Draw one bar of a waterfall: ``start`` and ``length`` in percent of the whole trace."""
    return format_html(
        '<svg class="lane {}" aria-hidden="true" width="100%" height="14">'
        '<rect x="{}%" y="2" width="{}%" height="10" rx="2"/></svg>',
        tone,
        f"{min(start, 99.6):.2f}",
        f"{max(0.4, min(length, 100 - start)):.2f}",
    )


@register.simple_tag
def options(values: Sequence[str], chosen: str) -> SafeString:
    """Write ``<option>`` elements, ``chosen`` selected."""
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        ((value, mark_safe(" selected") if value == chosen else "", value) for value in values),
    )
