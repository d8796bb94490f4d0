"""A program that calls models through the SDK and keeps its own books. The acceptance scenario runs several of it.

    python -m tests.scenarios.caller replay ORDERS.json    a slice of a trace; prints what it recorded as JSON, per tenant
    python -m tests.scenarios.caller probe ORDERS.json     one call every 20 ms until SIGTERM; prints "<time> ok|refused"

Its books know nothing of the SDK's: costs are tokens times the list price, which is whole nano-USD per token for these models.
"""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import tidegate

NUSD_PER_TOKEN = {"gpt-4o-mini": (150, 600), "gpt-4o": (2500, 10_000)}
CALL_S, PROBE_EVERY_S = 0.03, 0.02

Books = dict[str, dict[str, int]]


def rows(orders: dict[str, Any]) -> list[tuple[float, int, int]]:
    """Return this process's slice of the trace: seconds after the start, input tokens, output tokens."""
    with Path(orders["trace"]).open(newline="") as file:
        read = [
            (int(row["t_ms"]) / 1000 / orders["speed"], int(row["in_tok"]), int(row["out_tok"]))
            for row in csv.DictReader(file)
        ]
    return [row for row in read[orders["place"] :: orders["of"]] if row[0] <= orders["seconds"]]


# A database that was killed may take half a minute to recover on a busy machine, and books agree when all was heard.
SETTLE_S = 45.0


async def replay(orders: dict[str, Any]) -> None:
    """Make the calls of a slice when they are due; print the books after the gate has settled."""
    gate = tidegate.connect(orders["url"], orders["key"], app=f"scenario-{orders['place']}", traces=False)
    books: Books = defaultdict(
        lambda: dict.fromkeys(("calls", "input_tokens", "output_tokens", "cost_nusd", "refused"), 0)
    )
    began, calls = time.monotonic(), []
    for number, (at_s, input_tokens, output_tokens) in enumerate(rows(orders)):
        await asyncio.sleep(max(0.0, began + at_s - time.monotonic()))
        tenant = orders["tenants"][number % len(orders["tenants"])]
        model = ("gpt-4o-mini", "gpt-4o")[number % 5 == 0]
        calls.append(asyncio.create_task(_call(gate, books[tenant], tenant, model, input_tokens, output_tokens)))
    await asyncio.gather(*calls)
    await asyncio.to_thread(gate.close, SETTLE_S)
    print(json.dumps(books))


async def _call(
    gate: tidegate.Gate, book: dict[str, int], tenant: str, model: str, input_tokens: int, output_tokens: int
) -> None:
    try:
        async with gate.call(
            "chat", tenant=tenant, model=model, input_tokens=input_tokens, max_output_tokens=output_tokens
        ) as call:
            await asyncio.sleep(CALL_S)
            call.record(input_tokens=input_tokens, output_tokens=output_tokens)
    except tidegate.Refused:
        book["refused"] += 1
        return
    per_input, per_output = NUSD_PER_TOKEN[model]
    book["calls"] += 1
    book["input_tokens"] += input_tokens
    book["output_tokens"] += output_tokens
    book["cost_nusd"] += input_tokens * per_input + output_tokens * per_output


async def probe(orders: dict[str, Any]) -> None:
    """Call all the time and say when it was let through and when not."""
    gate = tidegate.connect(orders["url"], orders["key"], app="scenario-probe", traces=False)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    while not stopped.is_set():
        tenant = orders["tenants"][0]
        try:
            async with gate.call(
                "chat", tenant=tenant, model="gpt-4o-mini", input_tokens=100, max_output_tokens=10
            ) as call:
                call.record(input_tokens=100, output_tokens=10)
            outcome = "ok"
        except tidegate.Refused as refusal:
            outcome = refusal.reason
        print(f"{time.time():.4f} {outcome}", flush=True)
        await asyncio.sleep(PROBE_EVERY_S)
    await asyncio.to_thread(gate.close)


if __name__ == "__main__":
    wanted = json.loads(Path(sys.argv[2]).read_text())
    asyncio.run({"replay": replay, "probe": probe}[sys.argv[1]](wanted))
