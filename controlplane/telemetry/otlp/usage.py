"""What an inference used and cost. Counted on the span of the inference alone, so that no agent or tool counts it again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from controlplane.telemetry.otlp.decoding import Pricer
from controlplane.telemetry.otlp.facts import Facts
from controlplane.telemetry.otlp.vocabulary import (
    CACHED,
    COST_NUSD,
    COST_USD,
    CURRENCY,
    INPUT,
    OUTPUT,
    REASONING,
    TTFT_S,
    counts_usage,
)  # fmt: skip

BY_NOBODY, BY_INSTRUMENTATION, BY_SDK = 0, 1, 2
_MOST = 2**53
MOST_NUSD = 10**15  # a million dollars for one inference: what is told or priced beyond is no cost but a mistake


class Usage(NamedTuple):
    """``by`` says who counted: where the SDK guards a call that is also instrumented, both do."""

    by: int = BY_NOBODY
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_nusd: int | None = None
    ttft_us: int | None = None
    estimated: bool = False


_NONE = Usage()


def usage_of(said: Mapping[int, Any], facts: Facts, operation: str, kind: int, price_of: Pricer) -> Usage:
    """Return the usage of a span from what it says by slot; nothing for those whose numbers are sums over others."""
    if not operation or not counts_usage(operation, kind):
        return _NONE
    given, out, cached = _count(said.get(INPUT)), _count(said.get(OUTPUT)), _count(said.get(CACHED))
    cost, estimated = _cost(said) if COST_NUSD in said or COST_USD in said else None, False
    if given is not None and cached is not None and cached > given:
        given += cached  # who writes it that way counts what was cached apart
    if cost is None and (given or out):
        cost = _believable(price_of(facts.model, given or 0, cached or 0, out or 0))
        estimated = cost is not None
    by = BY_NOBODY
    if given is not None or out is not None or cost is not None:
        by = BY_SDK if facts.route else BY_INSTRUMENTATION
    return Usage(by, given, out, cached, _count(said.get(REASONING)), cost, _ttft_us(said.get(TTFT_S)), estimated)


def _ttft_us(first: Any) -> int | None:
    return round(first * 1e6) if isinstance(first, int | float) and 0 <= first < 1e6 else None


def _count(value: Any) -> int | None:
    if value is None:
        return None
    if value.__class__ is int and 0 <= value < _MOST:
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST:
        return int(value)
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        return int(value)
    return None


def _cost(said: Mapping[int, Any]) -> int | None:
    exact = _believable(_count(said.get(COST_NUSD)))
    if exact is not None:
        return exact
    usd = said.get(COST_USD)
    if str(said.get(CURRENCY, "USD")).upper() != "USD" or isinstance(usd, bool):
        return None
    try:
        amount = float(usd) if usd is not None else math.nan
    except (TypeError, ValueError):
        return None
    return round(amount * 1e9) if 0 <= amount < MOST_NUSD / 1e9 else None


def _believable(cost_nusd: int | None) -> int | None:
    return cost_nusd if cost_nusd is None or cost_nusd < MOST_NUSD else None
