"""Calls a second that one thread makes, and that eight make together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

Loop = Callable[[int], None]  # makes so many calls


class Rate(NamedTuple):
    per_s: float
    per_cpu_s: float  # on a busy machine the one that says something: eight threads get more of it than one


def rate(loop: Loop, threads: int, seconds: float = 0.5) -> Rate:
    """Return the calls that so many threads make together, per second and per second of CPU time."""
    counts = [0] * threads
    go, stop = threading.Barrier(threads + 1), threading.Event()

    def work(number: int) -> None:
        go.wait()
        while not stop.is_set():
            loop(200)
            counts[number] += 200

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    go.wait()
    begun, begun_cpu = time.perf_counter(), time.process_time()
    time.sleep(seconds)
    stop.set()
    for worker in workers:
        worker.join()
    return Rate(sum(counts) / (time.perf_counter() - begun), sum(counts) / (time.process_time() - begun_cpu))


def say_rates(loops: dict[str, Loop], rounds: int = 7) -> None:
    for name, loop in loops.items():
        seen = [(rate(loop, 1), rate(loop, 8)) for _ in range(rounds)]
        alone, by_eight = (Rate(*map(max, zip(*(pair[at] for pair in seen), strict=True))) for at in (0, 1))
        print(
            f"threads, {name:<19} {alone.per_s:>10,.0f}/s alone, {by_eight.per_s:>10,.0f}/s by eight: "
            f"{by_eight.per_s / alone.per_s:.2f}; per CPU second {by_eight.per_cpu_s / alone.per_cpu_s:.2f}",
            flush=True,
        )
