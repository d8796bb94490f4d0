"""LiteLLM's own budget reservation, in memory, asked over standard input. Runs in a virtual environment of its own.

Each line asks for one thing and is answered by one line of JSON: ``burst CALLS USD`` is so many concurrent reservations on one key's
budget, ``time CALLS`` is nanoseconds per reservation with its reconciliation, one after the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from statistics import median
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no download
PROMPT = "word " * 120


async def main() -> None:
    from litellm.proxy import proxy_server
    from litellm.proxy._types import UserAPIKeyAuth
    from litellm.proxy.spend_tracking import budget_reservation

    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": PROMPT}]}

    async def reserve(key: Any) -> Any:
        return await budget_reservation.reserve_budget_for_request(
            request_body=asked, route="/chat/completions", llm_router=None, valid_token=key, team_object=None,
            user_object=None, prisma_client=None, user_api_key_cache=proxy_server.user_api_key_cache,
            proxy_logging_obj=proxy_server.proxy_logging_obj,
        )  # fmt: skip

    async def burst(calls: int, usd: float, number: int) -> dict[str, Any]:
        key = UserAPIKeyAuth(api_key=f"sk-{number}", token=f"sk-{number}", max_budget=usd, spend=0.0)
        made = await asyncio.gather(*(reserve(key) for _ in range(calls)), return_exceptions=True)
        admitted = [each for each in made if not isinstance(each, BaseException)]
        return {"admitted": len(admitted), "reserved_usd": admitted[0]["reserved_cost"] if admitted else None}

    async def timed(calls: int, number: int) -> dict[str, Any]:
        key = UserAPIKeyAuth(api_key=f"sk-{number}", token=f"sk-{number}", max_budget=1e9, spend=0.0)
        took = []
        for _ in range(calls):
            started = time.perf_counter_ns()
            reservation = await reserve(key)
            await budget_reservation.reconcile_budget_reservation(reservation, 0.0018)
            took.append(time.perf_counter_ns() - started)
        took.sort()
        return {"p50_ns": median(took), "p99_ns": took[int(len(took) * 0.99)]}

    print(json.dumps({"ready": True}), flush=True)
    for number, line in enumerate(sys.stdin):
        word, *rest = line.split()
        answer = await (burst(int(rest[0]), float(rest[1]), number) if word == "burst" else timed(int(rest[0]), number))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
