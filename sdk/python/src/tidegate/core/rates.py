"""Rates of a model, and the integers that they are multiplied out to: a cost is one sum of products and one division."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import Any, NamedTuple

from tidegate.core.usage import CLASSES, INPUT_CLASSES

_DECIMAL = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,30}))?", re.ASCII)
_NUSD = 10**9


class Rate(NamedTuple):
    """The price of one class per its unit, in 10⁻ᵈᵉᶜⁱᵐᵃˡˢ dollars: ``base``, or the last tier whose threshold the call's input exceeds."""

    base: int
    tiers: tuple[tuple[int, int], ...] = ()  # (threshold, price), by rising threshold
    decimals: int = 9

    def at(self, input_tokens: int) -> int:
        price = self.base
        for threshold, tier_price in self.tiers:
            if input_tokens <= threshold:
                break
            price = tier_price
        return price


Rates = Mapping[str, Rate]


class Weights(NamedTuple):
    """Cost in nano-USD = (Σ count × weight + ``plus``) // ``unit``; ``plus`` rounds half up, and has the price of one request."""

    unit: int
    plus: int
    input: int
    cached_input: int
    output: int
    of: Mapping[str, int]


class Priced(NamedTuple):
    """What a model's calls are multiplied with: ``flat``, or the last of ``tiers`` whose threshold the input exceeds.

    ``least``: a count that is not 0 counts as at least so many.
    """

    flat: Weights
    tiers: tuple[tuple[int, Weights], ...]
    least: Mapping[str, int]
    hourly: bool = False  # other weights hold at other times of the day

    @property
    def free(self) -> bool:
        """Whether nothing costs anything, at any time of the day."""
        weights = [self.flat, *(higher for _, higher in self.tiers)]
        return not self.hourly and all(not any(each.of.values()) and each.plus == each.unit // 2 for each in weights)

    def at(self, input_tokens: int) -> Weights:
        weights = self.flat
        for threshold, higher in self.tiers:
            if input_tokens <= threshold:
                break
            weights = higher
        return weights

    def cost_nusd(self, usage: Mapping[str, int]) -> int:
        """Return what ``usage`` costs, exact, rounded half up once."""
        weights = self.flat
        if self.tiers:
            weights = self.at(sum([usage.get(name, 0) for name in INPUT_CLASSES]))
        of, total = weights.of, weights.plus
        for name, count in usage.items():
            total += count * of[name]
        if self.least:
            for name, least in self.least.items():
                if 0 < usage.get(name, 0) < least:
                    total += (least - usage[name]) * of[name]
        return total // weights.unit

    def cost_of_many_nusd(self, usage: Mapping[str, int], *, calls: int) -> int:
        """Return what ``calls`` calls with the usage of all of them taken together cost, as if none of them reached a tier."""
        weights = self.flat
        half = weights.unit // 2
        total = sum(count * weights.of.get(name, 0) for name, count in usage.items())
        return (total + calls * (weights.plus - half) + half) // weights.unit


def multiply_out(rates: Rates, least: Mapping[str, int] | None = None) -> Priced:
    """Return the weights of ``rates``. A class without a rate costs what the class it falls to costs, or else nothing."""
    thresholds = sorted({threshold for rate in rates.values() for threshold, _ in rate.tiers})
    return Priced(
        _weights(rates, 0),
        tuple((threshold, _weights(rates, threshold + 1)) for threshold in thresholds),
        dict(least or {}),
    )


def _weights(rates: Rates, input_tokens: int) -> Weights:
    """Everything over one denominator, which is made even so that its half is whole."""
    decimals = max((rate.decimals for rate in rates.values()), default=0)
    pers = lcm(*(CLASSES[name].per for name in rates))
    unit = 2 * 10**decimals * pers
    known = {
        name: 2 * _NUSD * rate.at(input_tokens) * 10 ** (decimals - rate.decimals) * (pers // CLASSES[name].per)
        for name, rate in rates.items()
    }
    common = gcd(unit // 2, *known.values())
    unit //= common
    of = {name: _falling(name, known) // common for name in CLASSES}
    plus = unit // 2 + of["requests"]
    of["requests"] = 0  # counted above: a call is one
    return Weights(unit, plus, of["input"], of["cached_input"], of["output"], of)


def _falling(name: str, known: Mapping[str, int]) -> int:
    for candidate in (name, *CLASSES[name].falls_to):
        if candidate in known:
            return known[candidate]
    return 0


def read_rates(value: Any, where: str) -> dict[str, Rate]:
    """Return rates written as exact decimal dollars per unit of each class; ``ValueError`` says where they are not."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: must be an object of classes.")
    return {name: read_rate(rate, f"{where}.{name}") for name, rate in value.items() if name in CLASSES}


def read_rate(value: Any, where: str) -> Rate:
    """Return a rate written as ``"0.15"`` or ``{"base": "0.15", "tiers": [[200000, "0.3"]]}``."""
    if not isinstance(value, Mapping):
        mantissa, decimals = _decimal(value, where)
        return Rate(mantissa, (), decimals)
    pairs = tiers_of(value, where)
    prices = [_decimal(value.get("base"), f"{where}.base"), *(_decimal(price, f"{where}.tiers") for _, price in pairs)]
    most = max(decimals for _, decimals in prices)
    base, *higher = (mantissa * 10 ** (most - decimals) for mantissa, decimals in prices)
    return Rate(base, tuple(zip((threshold for threshold, _ in pairs), higher, strict=True)), most)


def tiers_of(value: Mapping[str, Any], where: str) -> list[tuple[int, Any]]:
    """Return the (threshold, price) pairs of a rate with tiers, thresholds checked."""
    tiers = value.get("tiers", [])
    if not isinstance(tiers, list) or not all(isinstance(tier, list) and len(tier) == 2 for tier in tiers):
        raise ValueError(f"{where}.tiers: must be a list of [threshold, price].")
    pairs = [(whole(threshold, f"{where}.tiers"), price) for threshold, price in tiers]
    thresholds = [threshold for threshold, _ in pairs]
    if sorted(set(thresholds)) != thresholds:
        raise ValueError(f"{where}.tiers: thresholds must rise.")
    return pairs


def whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{where}: must be a whole number that is not negative, got {value!r}.")
    return value


def _decimal(value: Any, where: str) -> tuple[int, int]:
    match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{where}: must be decimal dollars like "0.15", got {str(value)[:40]!r}.')
    decimals = match[2] or ""
    return int(match[1] + decimals), len(decimals)


def high(many: Sequence[Rates], *, share: float) -> dict[str, Rate]:
    """Return for every class the rate that ``share`` of those in ``many`` stay at or below, each at its dearest tier."""
    found: dict[str, list[Rate]] = {}
    for rates in many:
        for name, rate in rates.items():
            top = max([rate.base, *(price for _, price in rate.tiers)])
            found.setdefault(name, []).append(Rate(top, (), rate.decimals))
    return {
        name: sorted(tops, key=lambda rate: Fraction(rate.base, 10**rate.decimals))[int(share * (len(tops) - 1))]
        for name, tops in found.items()
    }


def dearest(many: Iterable[Rates]) -> dict[str, Rate]:
    """Return for every class the dearest rate that one of ``many`` has, whatever the tier."""
    return high(list(many), share=1.0)
