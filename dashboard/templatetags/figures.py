"""Filters that write figures in templates. The rules are in ``dashboard.figures``."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard import figures
from tidegate.core.price import format_usd

register = template.Library()


@register.filter
def usd(nusd: int | None) -> str:
    """Nano-USD as ``$1,234.50``."""
    return "–" if nusd is None else figures.usd(int(nusd))


@register.filter
def plain(name: str) -> str:
    """``rolled_back`` as ``rolled back``."""
    return name.replace("_", " ")


@register.filter
def entry_of(kind: str) -> str:
    """What an entry of the audit trail is of: ``slo`` as ``service level``, ``state-rule`` as ``state rule``."""
    return "service level" if kind == "slo" else kind.replace("-", " ")


@register.filter
def plain_usd(nusd: int) -> str:
    """Nano-USD as exact decimal dollars, for a field: ``1234.50``."""
    return format_usd(nusd)


@register.filter
def nusd_h(nusd_per_h: float) -> str:
    """``$138.00/h``."""
    return f"{figures.usd(round(nusd_per_h))}/h"


@register.filter
def negated(value: int) -> int:
    return -value


@register.filter
def usd_short(nusd: int | None) -> str:
    """Nano-USD as ``$1,842``."""
    return "–" if nusd is None else figures.usd_short(int(nusd))


@register.filter
def count(value: float | None) -> str:
    """``12.4k``."""
    return "–" if value is None else figures.count(value)


@register.filter
def whole(value: int | None) -> str:
    """``1,204``."""
    return "–" if value is None else f"{value:,}"


@register.filter
def duration_us(us: float | None) -> str:
    """Microseconds as ``820 ms``."""
    return "–" if us is None else str(figures.duration(us))


@register.filter
def size(bytes_: float | None) -> str:
    """Bytes as ``4.2 MB``."""
    return "–" if bytes_ is None else figures.size(bytes_)


@register.filter
def rate(per_s: float) -> str:
    """``12.4k/s``."""
    return figures.rate(per_s)


@register.filter
def percent(share: float | None, digits: int = 1) -> str:
    """0.019 as ``1.9 %``."""
    return figures.percent(share, digits)


@register.filter
def words(name: str) -> str:
    """Return a word of the protocol as people write it: ``rate_limited`` is "rate limited"."""
    return name.replace("_", " ")


@register.filter
def pretty(document: Any) -> str:
    """A JSON document, indented."""
    return json.dumps(document, indent=2, ensure_ascii=False)


@register.filter
def kind_words(name: str) -> str:
    """A kind of outcome as people write it: ``error.timeout`` is "timeout", ``refused.budget`` "refused: budget"."""
    head, _, rest = name.replace("_", " ").partition(".")
    return rest if head == "error" and rest else f"{head}: {rest}" if rest else head


@register.filter
def clock(second: int) -> str:
    """A second of the day as ``16:30``."""
    return f"{second // 3600:02}:{second // 60 % 60:02}"


@register.filter
def span_s(seconds: float) -> str:
    """Seconds as ``12 min``."""
    return figures.span(seconds)


@register.simple_tag(takes_context=True)
def ago(context: template.Context, at: datetime | None) -> SafeString | str:
    """A relative time with the absolute one as a tooltip; needs ``now`` in the context."""
    if at is None:
        return "never"
    return _time(at, figures.ago(at, context["now"]))


@register.simple_tag(takes_context=True)
def lasted(context: template.Context, since: datetime) -> SafeString:
    """How long since then: ``5 h``."""
    return _time(since, figures.span((context["now"] - since).total_seconds()))


@register.simple_tag(takes_context=True)
def at(context: template.Context, moment: datetime | None) -> SafeString | str:
    """The time of day for today's, the date for others, with the absolute time as a tooltip."""
    if moment is None:
        return "never"
    recent = context["now"] - moment < timedelta(hours=20)
    return _time(moment, f"{moment:%H:%M:%S}" if recent else f"{moment.day} {moment:%b %H:%M}")


@register.simple_tag(takes_context=True)
def when(context: template.Context, moment: datetime) -> SafeString:
    """``today 19:40`` or ``26 Nov``, with the absolute time as a tooltip."""
    return _time(moment, figures.when(moment, context["now"]))


def _time(at: datetime, text: str) -> SafeString:
    return format_html('<time datetime="{}" title="{} UTC">{}</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}", text)


@register.filter
def as_unit(value: float, unit: str) -> str:
    """Write a value of a distribution in the unit of its metric."""
    if unit == "usd":
        return usd(round(value))
    return duration_us(value) if unit == "duration_us" else count(value)


@register.simple_tag
def measure(value: float | None, unit: str) -> str:
    """Write a value of a metric in its unit: ``820 ms``, ``$0.0042``, ``1.9 %``, ``12.4k tokens``."""
    return figures.measure(value, unit)


@register.simple_tag
def signed_share(share: float) -> str:
    """A relative change: ``+12 %``."""
    return f"{'+' if share > 0 else '−' if share < 0 else '±'}{abs(share) * 100:.0f} %"


@register.simple_tag
def less(whole_value: float, *parts: float) -> str:
    """``whole_value`` less all ``parts``, for a drawing."""
    return f"{whole_value - sum(parts):.2f}"


@register.simple_tag
def signed_us(us: int) -> str:
    """A change of a duration: ``+820 ms``."""
    return f"{'+' if us > 0 else '−' if us < 0 else '±'}{figures.duration(abs(us))}"


@register.simple_tag
def mean_us(total_us: int, count: int) -> str:
    """The mean of durations."""
    return str(figures.duration(total_us / count)) if count else "–"


@register.simple_tag
def between(first: datetime, last: datetime) -> str:
    """How long from one time to another: ``12 min``."""
    return figures.span((last - first).total_seconds())
