"""Money as sentences say it."""

from __future__ import annotations

from tidegate.core.price import format_usd


def dollars(nusd: int) -> str:
    """Return nano-USD exactly, as people read it: ``$1,234.50``, ``$0.000321``, ``-$3.00``."""
    whole, _, rest = format_usd(abs(nusd)).partition(".")
    return f"{'-' if nusd < 0 else ''}${int(whole):,}.{rest}"
