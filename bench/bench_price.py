"""What pricing a call takes, beside genai-prices on the same list: ours compiled once, theirs as its own API does it.

Both price the same calls, warm, in interleaved rounds in one process; the best round of each counts. Prints nanoseconds per call and
the ratio, having seen that both say the same.

    python -m bench.bench_price [--rounds 7] [--calls 2000]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from genai_prices import Usage, calc_price

from controlplane.budgets import price_list
from tidegate.core.price import PriceBook, compile_price_book

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
MODELS = ("gpt-4o-mini", "gpt-4o-2024-08-06", "claude-sonnet-4-5-20250929", "gemini-2.5-pro", "mistral-large-latest")
AT_LEAST = 30


def compiled() -> PriceBook:
    catalog = price_list.compiled(NOW)
    document = {"format": 1, "models": price_list.listed(catalog), "catalog": catalog}
    started = time.perf_counter()
    book = compile_price_book(json.loads(json.dumps(document)))
    print(f"a book of {len(book):,} names is read in {(time.perf_counter() - started) * 1000:.1f} ms, once")
    return book


def ours(book: PriceBook, calls: int) -> int:
    total = 0
    for _ in range(calls // len(MODELS)):
        for model in MODELS:
            total += book.cost_nusd(model, input_tokens=1_420, cached_input_tokens=400, output_tokens=133) or 0
    return total


def ours_by_classes(book: PriceBook, calls: int) -> int:
    usage, total = {"input": 1_020, "cached_input": 400, "output": 100, "reasoning": 33}, 0
    for _ in range(calls // len(MODELS)):
        for model in MODELS:
            total += book.usage_cost_nusd(model, usage) or 0
    return total


def theirs(calls: int) -> int:
    total = 0
    for _ in range(calls // len(MODELS)):
        for model in MODELS:
            usage = Usage(input_tokens=1_420, cache_read_tokens=400, output_tokens=133)
            cost = calc_price(usage, model, genai_request_timestamp=NOW).total_price
            total += int((cost * 10**9).quantize(Decimal(1), ROUND_HALF_UP))
    return total


def ns_per_call(work: Callable[[], int], calls: int) -> float:
    started = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - started) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=2_000)
    asked = parser.parse_args()
    book = compiled()
    if not ours(book, 50) == ours_by_classes(book, 50) == theirs(50):
        sys.exit("The two do not say the same.")
    sides = {
        "tidegate, three counts": lambda: ours(book, asked.calls),
        "tidegate, by classes": lambda: ours_by_classes(book, asked.calls),
        "genai-prices": lambda: theirs(asked.calls),
    }
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(asked.rounds):
        for name, work in sides.items():
            best[name] = min(best[name], ns_per_call(work, asked.calls))
    for name, ns in best.items():
        print(f"{name:>24}: {ns:10,.0f} ns per call, {best['genai-prices'] / ns:6.1f} × as fast as genai-prices")
    slowest = best["genai-prices"] / max(best["tidegate, three counts"], best["tidegate, by classes"])
    print(f"ratio {slowest:.1f}, wanted at least {AT_LEAST}: {'kept' if slowest >= AT_LEAST else 'MISSED'}")


if __name__ == "__main__":
    main()
