"""What a guard remembers: bytes for each route of a tenant that its policy knows, that was called, and that calls pass on credit on.

The snapshot of ten thousand tenants with ten routes each is read as a gate reads it. Of what a tenant has, only its place in the
document is kept until somebody calls in its name. Beside it, where they are installed: what the parts of a popular stack keep for one of them.

    python -m bench.bench_memory [--tenants 10000] [--routes 10]
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "sdk/python/src")]

from tidegate.caller import Caller  # noqa: E402
from tidegate.clock import SystemClock  # noqa: E402
from tidegate.core.price import PriceBook  # noqa: E402
from tidegate.core.reading import finish, read_snapshot  # noqa: E402
from tidegate.guard import Guard  # noqa: E402
from tidegate.lending import WARM_CALLS  # noqa: E402
from tidegate.report import Report  # noqa: E402
from tidegate.trace import Tracer  # noqa: E402

POLICIES = 1000
USED_TENANTS = 500


def policy(number: int) -> dict[str, Any]:
    return {
        "limits": [{"unit": "requests", "amount": 10**6 + number, "per_s": 1, "scope": "instance"}],
        "queue": {"max_concurrent": 256, "max_waiting": 64, "max_wait_ms": 2000},
        "breaker": {"min_calls": 20, "failure_rate": 0.5},
        "retry": {"max_attempts": 3},
        "timeout_ms": 30_000,
    }


def document(tenants: int, routes: int) -> str:
    return json.dumps(
        {
            "format": 1, "revision": 1, "scope": None, "prices": None, "sync_ms": 1000, "lease_ttl_ms": 15_000,
            "policies": [policy(number) for number in range(POLICIES)],
            "tenants": {
                f"tenant-{t:05}": {
                    "parent": None,
                    "routes": {f"route-{r}": (t * routes + r) % POLICIES for r in range(routes)},
                    "budgets": [],
                }
                for t in range(tenants)
            },
            "default": {"routes": {"*": 0}, "budgets": []},
            "budgets": {},
        },
        separators=(",", ":"),
    )  # fmt: skip


def grown(work: Callable[[], object]) -> tuple[int, object]:
    """Return by how many bytes ``work`` and what it returns have made the program grow."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    kept = work()
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before, kept


def say(what: str, size: int, number: int) -> None:
    print(f"{what:<52} {size / 1e6:>8.2f} MB {size / number:>9,.0f} bytes each", flush=True)


def ours(tenants: int, routes: int) -> None:
    text = document(tenants, routes)
    known, used = tenants * routes, USED_TENANTS * routes
    print(f"{tenants:,} tenants × {routes} routes, {POLICIES:,} policies, a document of {len(text) / 1e6:.1f} MB")
    guard = Guard(SystemClock(), lambda: None)
    caller = Caller(guard, Tracer(enabled=False))
    names = [(f"tenant-{t:05}", f"route-{r}") for t in range(USED_TENANTS) for r in range(routes)]

    def follow() -> object:
        kept = text[:-1] + "}"  # a copy of its own: the document stays in memory with the snapshot
        guard.follow(finish(read_snapshot([kept])), PriceBook({}))
        return kept

    def call(times: int) -> None:
        for tenant, route in names:
            for _ in range(times):
                with caller.call(route, tenant=tenant):
                    pass

    def acknowledge() -> None:
        with guard.lock:
            guard.gather()
        guard.report = Report()

    size, _ = grown(follow)
    say("known, a tenant's route, the document with it", size, known)
    first, _ = grown(lambda: call(1))
    say("called once, and not reported yet", first, used)
    after, _ = grown(acknowledge)
    say("called, and reported", first + after, used)
    lent, _ = grown(lambda: (call(2 * WARM_CALLS), acknowledge()))
    say("called often, so that calls pass on credit", first + after + lent, used)
    peers()


def peers(number: int = 2000) -> None:
    """Say what the parts of the popular stack come to that know of one route: breaker, slots, latencies, a count."""
    try:
        import pybreaker
        from prometheus_client import CollectorRegistry, Counter, Histogram
    except ImportError:
        print("the peers are not installed (requirements/bench.txt)")
        return
    registry = CollectorRegistry()
    latency = Histogram("latency_seconds", "How long calls take.", ["tenant", "route"], registry=registry)
    calls = Counter("calls", "Calls.", ["tenant", "route"], registry=registry)

    def one(tenant: str) -> object:
        breaker, slots = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=20), threading.BoundedSemaphore(64)
        return breaker, slots, latency.labels(tenant, "chat"), calls.labels(tenant, "chat")

    size, _ = grown(lambda: {(tenant := f"tenant-{at:05}"): one(tenant) for at in range(number)})
    say("pybreaker, BoundedSemaphore, Histogram and Counter", size, number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--routes", type=int, default=10)
    options = parser.parse_args()
    tracemalloc.start()
    ours(options.tenants, options.routes)


if __name__ == "__main__":
    main()
