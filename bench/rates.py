"""Calls a second that one thread makes, and that eight make together."""

from __future__ import annotations

import statistics
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


def say_rates(loops: dict[str, Loop], rounds: int = 9, seconds: float = 0.5) -> None:
    """Print what eight threads make of what one makes, and of how much of it the floor does, the first of ``loops``.

    The floor says what threads cost that do nothing together: what is lost beyond it is lost to locks and to memory that is shared.
    """
    seen: dict[str, list[tuple[Rate, Rate]]] = {name: [] for name in loops}
    for _ in range(rounds):  # in turns, so that all have the same neighbours
        for name, loop in loops.items():
            seen[name].append((rate(loop, 1, seconds), rate(loop, 8, seconds)))
    kept = {name: [together.per_cpu_s / alone.per_cpu_s for alone, together in pairs] for name, pairs in seen.items()}
    floor = next(iter(kept.values()))
    for name, pairs in seen.items():
        alone, together = (statistics.median(pair[at].per_s for pair in pairs) for at in (0, 1))
        part = statistics.median(kept[name])
        of_floor = statistics.median(mine / floors for mine, floors in zip(kept[name], floor, strict=True))
        print(
            f"threads, {name:<19} {alone:>10,.0f}/s alone, {together:>10,.0f}/s by eight: {together / alone:.2f}; "
            f"per CPU second {part:.2f}, {of_floor:.2f} of what the floor keeps",
            flush=True,
        )
