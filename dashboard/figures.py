"""How figures are written: money, counts, durations, shares and times, always with their unit."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

NANO = 10**9
_ABOUT = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


class Figure(NamedTuple):
    """A value and its unit, to be set in two sizes."""

    value: str
    unit: str

    def __str__(self) -> str:
        return f"{self.value} {self.unit}".strip()


def usd(nusd: int) -> str:
    """``$1,234.50``; below ten cents as small money: ``$0.0042``."""
    sign, size = ("−" if nusd < 0 else ""), abs(nusd)
    if size == 0 or size >= NANO // 10:
        return f"{sign}${size / NANO:,.2f}"
    if size < NANO // 10_000:
        return f"{sign}<$0.0001"
    return f"{sign}${size / NANO:.4f}"


def usd_short(nusd: int) -> str:
    """The same without cents from a hundred dollars on: ``$1,842``."""
    return f"{'−' if nusd < 0 else ''}${abs(nusd) / NANO:,.0f}" if abs(nusd) >= 100 * NANO else usd(nusd)


def count(value: float) -> str:
    """``318``, ``12.4k``, ``872k``, ``2.1M``; below ten with one decimal when it is not whole."""
    size = abs(value)
    for unit, letter in _ABOUT:
        if size >= unit:
            return f"{value / unit:.{_digits(size / unit)}f}{letter}"
    return f"{value:.0f}" if size >= 10 or value == int(value) else f"{value:.1f}"


def some(number: int, thing: str) -> str:
    """``1 value``, ``1,234 values``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _digits(value: float) -> int:
    """Decimals for three significant digits."""
    return 0 if value >= 99.95 else 1


def duration(us: float) -> Figure:
    """``820 ms``, ``4.2 s``, ``3 m 20 s`` from microseconds."""
    if us < 1_000:
        return Figure(f"{us:.0f}", "µs")
    if us < 10_000:
        return Figure(f"{us / 1e3:.1f}", "ms")
    if us < 1e6:
        return Figure(f"{us / 1e3:.0f}", "ms")
    if us < 10e6:
        return Figure(f"{us / 1e6:.2f}", "s")
    return Figure(f"{us / 1e6:.1f}", "s") if us < 120e6 else Figure(f"{us / 60e6:.1f}", "min")


def percent(share: float | None, digits: int = 1) -> str:
    """``1.9 %``; a dash for nothing to tell."""
    return "–" if share is None else f"{share * 100:.{digits}f} %".replace("-", "−")


def span(seconds: float) -> str:
    """How long: ``48 s``, ``12 min``, ``5 h``, ``3 d``."""
    if seconds < 90:
        return f"{max(0, seconds):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def ago(at: datetime, now: datetime) -> str:
    """How long before ``now``, or how long until then: ``48 s ago``, ``in 3 d``, ``just now``."""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 2:
        return "just now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def when(at: datetime, now: datetime) -> str:
    """A time as near as it has to be: ``today 19:40``, ``26 Nov``, ``3 Jan 2028``."""
    if at.date() == now.date():
        return f"today {at:%H:%M}"
    return f"{at.day} {at:%b}" if at.year == now.year else f"{at.day} {at:%b %Y}"


def change(now: float | None, before: float | None) -> float | None:
    """The change relative to before, ``None`` when there is nothing to compare with."""
    return (now - before) / before if now is not None and before else None


def size(bytes_: float) -> str:
    """Return bytes as ``4.2 MB``."""
    value, unit = float(bytes_), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def rate(per_s: float) -> str:
    """Return a rate as ``12.4k/s``, small ones per minute."""
    return f"{count(per_s)}/s" if per_s >= 1 or per_s == 0 else f"{per_s * 60:.1f}/min"


def measure(value: float | None, unit: str) -> str:
    """A value of any metric in its unit; a dash for nothing to tell."""
    if value is None:
        return "–"
    if unit in ("ms", "s", "us"):
        return str(duration(value * {"ms": 1e3, "s": 1e6, "us": 1.0}[unit]))
    if unit == "usd":
        return usd(round(value * NANO))
    if unit == "share":
        return percent(value)
    if unit in ("By", "bytes"):
        return size(value)
    return f"{_plain(value)} {unit.strip('{}')}".strip() if unit != "1" else _plain(value)


def _plain(value: float) -> str:
    return f"{value:.3g}" if 0 < abs(value) < 1 else count(value)
