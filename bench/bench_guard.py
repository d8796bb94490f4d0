"""What the SDK's guard costs a caller, beside what people stack up today. CPU time per call, over the bare call.

F is the floor: an empty context manager and two reads of a clock. Forms take turns in short rounds and each one's median counts, so
that the ratios hold on a busy machine where single numbers don't. The gate is a real one: it talks to a control plane in another
process, and what its background thread does (aggregation, syncs, spans) is in the numbers.

    python -m bench.bench_guard [--rounds 15] [--without-peers] [--only "with,async with,threads"]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "sdk/python/src")]

import tidegate  # noqa: E402
from bench.rates import Loop, say_rates  # noqa: E402

PLENTY = 10**9
LIMITS = [{"unit": unit, "amount": PLENTY, "per_s": 1, "scope": "fleet"} for unit in ("requests", "tokens")]
POLICY: dict[str, Any] = {
    "limits": LIMITS,
    "queue": {"max_concurrent": 256, "max_waiting": 64, "max_wait_ms": 2000},
    "breaker": {"window_s": 30, "min_calls": 20, "failure_rate": 0.5, "slow_call_ms": 10_000, "slow_call_rate": 0.8},
    "retry": {"max_attempts": 3},
    "fallbacks": [{"value": "We are busy, please try again."}],
}
ROUTES: dict[str, dict[str, Any]] = {
    "*": POLICY,
    "limited": {"limits": [{"unit": "requests", "amount": 1, "per_s": 86_400, "scope": "instance"}]},
    "broken": {"breaker": {"mode": "forced_open"}},
    "timed": {**POLICY, "timeout_ms": 30_000},
    "async-timed": {**POLICY, "timeout_ms": 30_000},
}
WARM_S = 4.0
MANY_ROUNDS, SHORT_S = 41, 0.1  # of threads alone: who is displaced for a moment spoils a short round only
SHORTEST_S = 0.05  # of a round, in which a kind of call that has rested is lent to anew


def bare() -> int:
    return 1


async def bare_async() -> int:
    return 1


class Empty:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


# The control plane, in a process of its own


def shared_out(_path: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Give the only instance the whole of every fleet limit, as a server does in its answer to the first demand."""
    routes = (
        "with",
        "tokens",
        "everything",
        "asking",
        "decorator",
        "async-decorator",
        "timed",
        "async-timed",
        "async-with",
        "plain",
    )
    whole = [
        {"tenant": "acme", "route": route, "unit": unit, "share": 1.0}
        for route in routes
        for unit in ("requests", "tokens")
    ]
    return {**answer, "shares": whole} if "seq" in answer else answer


def serve() -> None:
    from tidegate.testing import FakeControlPlane

    with FakeControlPlane(sync_ms=1000) as plane:
        plane.mangle = shared_out
        for route, policy in ROUTES.items():
            plane.put_policy(policy, route=route)
        plane.put_budget("all", "1000000000")
        plane.put_release("assistant", {"temperature": 0.2})
        print(json.dumps({"url": plane.url}), flush=True)
        sys.stdin.read()


@contextmanager
def connected() -> Iterator[tidegate.Gate]:
    command = [sys.executable, "-m", "bench.bench_guard", "--serve"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        with tempfile.TemporaryDirectory() as folder:
            gate = tidegate.connect(url=url, key="tg_fake_key", app="bench", cache_dir=folder, wait_s=10)
            yield gate
            gate.close()
    finally:
        process.stdin.close()
        process.wait(10)


# Forms: each returns a loop that makes so many calls


def repeated(call: Callable[[], Any]) -> Loop:
    def loop(times: int) -> None:
        for _ in range(times):
            call()

    return loop


def repeated_async(call: Callable[[], Any]) -> Loop:
    async def many(times: int) -> None:
        for _ in range(times):
            await call()

    return lambda times: asyncio.run(many(times))


def floor() -> Loop:
    empty, clock = Empty(), time.perf_counter

    def loop(times: int) -> None:
        for _ in range(times):
            with empty:
                clock()
                bare()
                clock()

    return loop


def with_statement(gate: tidegate.Gate) -> Loop:
    def loop(times: int) -> None:
        for _ in range(times):
            with gate.call("with", tenant="acme"):
                bare()

    return loop


def with_each_asking(gate: tidegate.Gate) -> Loop:
    """Calls of a kind that is never lent to, as those are that come seldom: each asks for itself, and has a span."""

    def loop(times: int) -> None:
        for _ in range(times):
            with gate.call("asking", tenant="acme", priority=1):
                bare()

    return loop


def with_tokens(gate: tidegate.Gate) -> Loop:
    def loop(times: int) -> None:
        for number in range(times):
            tokens = 400 + number % 100
            with gate.call(
                "tokens", tenant="acme", model="gpt-4o-mini", input_tokens=tokens, max_output_tokens=800
            ) as call:
                bare()
                call.record(input_tokens=tokens, output_tokens=133)

    return loop


def with_everything(gate: tidegate.Gate) -> Loop:
    def loop(times: int) -> None:
        for number in range(times):
            tokens = 400 + number % 100
            with gate.call(
                "everything", tenant="acme", user="u-1", session="s-1", category="support", model="gpt-4o-mini",
                input_tokens=tokens, max_output_tokens=800,
            ) as call:  # fmt: skip
                bare()
                call.record(input_tokens=tokens, output_tokens=133)

    return loop


def with_in_a_coroutine(gate: tidegate.Gate) -> Loop:
    async def many(times: int) -> None:
        for _ in range(times):
            async with gate.call("async-with", tenant="acme"):
                await bare_async()

    return lambda times: asyncio.run(many(times))


def plain_with_in_a_coroutine(gate: tidegate.Gate) -> Loop:
    async def many(times: int) -> None:
        for _ in range(times):
            with gate.call("plain", tenant="acme"):
                await bare_async()

    return lambda times: asyncio.run(many(times))


def refused(gate: tidegate.Gate, route: str) -> Loop:
    def loop(times: int) -> None:
        for _ in range(times):
            try:
                with gate.call(route, tenant="acme"):
                    pass
            except tidegate.Refused:
                pass

    return loop


def decorator(gate: tidegate.Gate, function: Callable[[], Any], route: str = "decorator") -> Callable[[], Any]:
    return gate.guarded(route, tenant="acme", model="gpt-4o-mini", cost_usd="0.0002")(function)


def our_forms(gate: tidegate.Gate) -> dict[str, Loop]:
    """Return the forms, each on a route of its own, as different parts of a program would be."""
    return {
        "decorator": repeated(decorator(gate, bare)),
        "with": with_statement(gate),
        "async decorator": repeated_async(decorator(gate, bare_async, "async-decorator")),
        "with a timeout: decorator": repeated(decorator(gate, bare, "timed")),
        "with a timeout: async decorator": repeated_async(decorator(gate, bare_async, "async-timed")),
        "async with": with_in_a_coroutine(gate),
        "plain with around an async call": plain_with_in_a_coroutine(gate),
        "with model and tokens": with_tokens(gate),
        "with user and session too": with_everything(gate),
        "each call asks, and has a span": with_each_asking(gate),
        "refused by a limit": refused(gate, "limited"),
        "refused by a breaker": refused(gate, "broken"),
    }


# Measuring


class Form(NamedTuple):
    loop: Loop
    base: str  # the bare call that it is measured over


def warm(loops: Iterable[Loop], seconds: float = WARM_S) -> None:
    """Make calls of all kinds for some syncs, until leases are as large as they will be."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for loop in loops:
            loop(256)


def calls_for(loop: Loop) -> int:
    """Return how many calls a round needs to be long enough."""
    times = 64
    while True:
        begun = time.process_time()
        loop(times)
        took = time.process_time() - begun
        if took >= SHORTEST_S:
            return times
        times = max(times * 2, int(times * SHORTEST_S / max(took, 1e-6)))


class Cost(NamedTuple):
    ns: float
    floors: float  # how many F
    quiet: float  # in the quietest fifth of the rounds: what other programs do to caches, and work per second of wall time, is in both


def measure(forms: dict[str, Form], rounds: int) -> dict[str, Cost]:
    """Return what each form costs over its bare call: the median of interleaved rounds, of each round's ratio as well."""
    warm([form.loop for form in forms.values()])
    times = {name: calls_for(form.loop) for name, form in forms.items()}
    seen: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            begun = time.process_time_ns()
            form.loop(times[name])
            seen[name].append((time.process_time_ns() - begun) / times[name])
    floors = [floor - bare for floor, bare in zip(seen["floor"], seen["bare"], strict=True)]
    costs = {}
    for name, form in forms.items():
        over = [each - bare for each, bare in zip(seen[name], seen[form.base or name], strict=True)]
        ratios = [each / floor for each, floor in zip(over, floors, strict=True)]
        costs[name] = Cost(statistics.median(over), statistics.median(ratios), sorted(ratios)[len(ratios) // 5])
    return costs


def cold(call: Callable[[], Any], samples: int = 200) -> float:
    """Return the median wall nanoseconds of one call after other work has had the caches."""
    ballast, text = bytearray(4 * 2**20), json.dumps([{"key": i, "text": "x" * 40} for i in range(400)])
    seen = []
    for number in range(samples):
        for at in range(0, len(ballast), 64):
            ballast[at] = number & 0xFF
        json.loads(text)
        begun = time.perf_counter_ns()
        call()
        seen.append(time.perf_counter_ns() - begun)
    return statistics.median(seen)


def say_costs(costs: dict[str, Cost]) -> None:
    for name, cost in costs.items():
        if not name.startswith("bare"):
            print(
                f"{name:<32} {cost.ns:>10,.0f} ns {cost.floors:>8.2f} F {cost.quiet:>8.2f} F at quiet times", flush=True
            )
    for stack in ("stack, popular", "stack, tuned"):
        if stack in costs:
            print(f"{stack} / decorator: {costs[stack].floors / costs['decorator'].floors:.0f} ×", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument(
        "--only", default="", help="names of forms, with commas between; threads: what eight make together"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    print(f"Python {sys.version.split()[0]}; CPU time per call over the bare call, median of {options.rounds} rounds")
    with connected() as gate:
        ours = our_forms(gate)
        forms = {
            "bare": Form(repeated(bare), ""),
            "bare async": Form(repeated_async(bare_async), ""),
            "floor": Form(floor(), "bare"),
            **{name: Form(loop, "bare async" if "async" in name else "bare") for name, loop in ours.items()},
        }
        stacks: dict[str, Callable[[], Any]] = {}
        if not options.without_peers:
            from bench.peer_stacks import PARTS, STACKS

            stacks = {name: make(bare) for name, make in STACKS.items()}
            parts = {name: make(bare) for name, make in PARTS.items()}
            forms.update({name: Form(repeated(call), "bare") for name, call in {**stacks, **parts}.items()})
        wanted = set(filter(None, options.only.split(",")))
        loops = {"floor": floor(), "decorator": ours["decorator"], "with": ours["with"]}
        if "threads" in wanted:
            warm(loops.values())
            say_rates(loops, rounds=MANY_ROUNDS, seconds=SHORT_S)
            wanted.remove("threads")
            if not wanted:
                return
        if wanted:
            wanted |= {"bare", "bare async", "floor"}
            forms = {name: form for name, form in forms.items() if name in wanted}
        gc.collect()
        say_costs(measure(forms, options.rounds))
        if options.only:
            return
        one_call = decorator(gate, bare)
        asking = ours["each call asks, and has a span"]
        for name, call in {"decorator": one_call, "each call asks": lambda: asking(1), **stacks}.items():
            print(f"cold, {name:<22} {cold(call) / 1000:>10.1f} µs", flush=True)
        say_rates({**loops, **{name: repeated(call) for name, call in stacks.items()}})


if __name__ == "__main__":
    main()
