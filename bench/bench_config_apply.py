"""How long a calling thread stands still while a policy for ten thousand tenants is fetched, checked, applied and kept on disk.

One thread of a program calls without a pause and notes its longest one: while nothing changes, while a new snapshot comes in, and
while another thread decodes the same document with ``json.loads``, in turns. The control plane is in another process.

    python -m bench.bench_config_apply [--policies 10000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "sdk/python/src")]

import tidegate  # noqa: E402
from tidegate.testing import FakeControlPlane  # noqa: E402

GOAL_MS = 2.0
LEAST_S = 100e-6  # shorter pauses are not noted


def policy(number: int, revision: int) -> dict[str, Any]:
    return {
        "limits": [{"unit": "requests", "amount": 10**8 + number + revision, "per_s": 1, "scope": "instance"}],
        "queue": {"max_concurrent": 256, "max_waiting": 64, "max_wait_ms": 2000},
        "breaker": {"min_calls": 20, "failure_rate": 0.5},
        "retry": {"max_attempts": 3},
        "timeout_ms": 30_000,
        "enforcement": "enforce",
    }


class Plane(FakeControlPlane):
    """A control plane of many tenants, each with a policy of its own, all of which change at once."""

    def __init__(self, policies: int) -> None:
        self.policies = policies
        self.body = b""
        self.rewrite()
        super().__init__(scope=None, sync_ms=1000)

    def rewrite(self) -> None:
        revision = getattr(self, "revision", 0)
        self.body = json.dumps(
            {
                "format": 1, "revision": revision, "scope": None, "prices": None, "sync_ms": 1000, "lease_ttl_ms": 15_000,
                "policies": [policy(number, revision) for number in range(self.policies)],
                "tenants": {f"t-{n}": {"parent": None, "routes": {"*": n, "chat": n}, "budgets": []} for n in range(self.policies)},
                "default": {"routes": {"*": 0}, "budgets": []},
                "budgets": {},
            }
        ).encode()  # fmt: skip

    def snapshot(self) -> bytes:
        return self.body

    def change(self) -> None:
        with self.lock:
            self.revision += 1
            self.rewrite()
            self.lock.notify_all()


def serve(policies: int) -> None:
    with Plane(policies) as plane:
        print(json.dumps({"url": plane.url, "bytes": len(plane.body)}), flush=True)
        for _ in sys.stdin:
            plane.change()


@contextmanager
def plane(policies: int) -> Iterator[tuple[dict[str, Any], IO[str]]]:
    command = [sys.executable, "-m", "bench.bench_config_apply", "--serve", "--policies", str(policies)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline()), process.stdin
    finally:
        process.stdin.close()
        process.kill()
        process.wait(10)


class Pauses(NamedTuple):
    longest_ms: float
    stalled_ms: float  # without what other programs on the machine are to blame for


class Caller:
    """A thread that calls, and notes how long it stood still between two calls, and how much of that its own process is to blame for.

    That much is at most the CPU time that the process used meanwhile, because who waits for the interpreter waits for another thread
    of the process that runs; and at most the time but for what the thread waited for a core, being ready to run. The lesser counts.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._gaps: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        clock, cpu, call, stopped, read = time.perf_counter, time.process_time, self._call, self._stop.is_set, os.pread
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        before, cpu_before, queue_before = clock(), cpu(), read(file, 100, 0)
        while not stopped():
            call()
            queue_now, cpu_now, now = read(file, 100, 0), cpu(), clock()
            if now - before > LEAST_S:
                queued = (int(queue_now.split()[1]) - int(queue_before.split()[1])) / 1e9
                self._gaps.append((now - before, min(cpu_now - cpu_before, now - before - queued)))
            before, cpu_before, queue_before = now, cpu_now, queue_now
        os.close(file)

    def pauses(self) -> Pauses:
        """Return what was noted since this was asked last."""
        gaps, self._gaps = self._gaps, []
        longest, stalled = (max((gap[at] for gap in gaps), default=0.0) * 1000 for at in (0, 1))
        return Pauses(longest, stalled)


class Turns:
    """What the SDK's thread does in one go, before anybody else may: CPU milliseconds of the longest turn of its event loop.

    On a busy machine it says what pauses don't, because threads that have the interpreter are stopped for others there.
    """

    def __init__(self) -> None:
        self._longest_ms = 0.0
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            begun = time.thread_time()
            run(handle)
            self._longest_ms = max(self._longest_ms, (time.thread_time() - begun) * 1000)

        asyncio.Handle._run = timed  # type: ignore[method-assign]

    def longest(self) -> float:
        """Return the longest since this was asked last."""
        longest, self._longest_ms = self._longest_ms, 0.0
        return longest


def nothing() -> None:
    pass


def fetched(url: str) -> bytes:
    request = urllib.request.Request(f"{url}/sdk/v1/config", headers={"Authorization": "Bearer tg_fake_key"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return bytes(reply.read())


def revision(gate: tidegate.Gate) -> int:
    config = gate.status()["config"]
    return int(config["revision"]) if config else -1


def applied(gate: tidegate.Gate, after: int) -> float:
    """Wait until a newer snapshot governs; return how long that took."""
    begun = time.perf_counter()
    while gate.guard.snapshot is None or gate.guard.snapshot.revision <= after:
        time.sleep(0.01)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--policies", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.policies)
        return
    with plane(options.policies) as (said, commands), tempfile.TemporaryDirectory() as folder:
        print(f"Python {sys.version.split()[0]}; {options.policies:,} policies, {said['bytes'] / 1e6:.1f} MB")
        gate = tidegate.connect(url=said["url"], key="tg_fake_key", app="bench", cache_dir=folder, wait_s=30)
        document = fetched(said["url"])
        guarded = gate.guarded("chat", tenant="t-7")(nothing)
        seen: dict[str, list[Pauses]] = {"nothing changes": [], "a snapshot comes in": [], "bare json.loads of it": []}
        took, turns, in_one_go = [], Turns(), []
        with Caller(guarded) as caller:
            for _ in range(options.rounds):
                time.sleep(0.5)
                caller.pauses()
                time.sleep(3)
                seen["nothing changes"].append(caller.pauses())
                turns.longest()
                known = revision(gate)
                print(file=commands, flush=True)
                took.append(applied(gate, known))
                time.sleep(0.5)
                seen["a snapshot comes in"].append(caller.pauses())
                in_one_go.append(turns.longest())
                json.loads(document)
                seen["bare json.loads of it"].append(caller.pauses())
        gate.close()
    say(seen)
    print(
        f"the SDK's thread in one go, CPU: median {statistics.median(in_one_go):.2f} ms, at most {max(in_one_go):.2f} ms"
    )
    print(f"applied after {statistics.median(took):.1f} s; goal: stalled for at most {GOAL_MS:g} ms")


def say(seen: dict[str, list[Pauses]]) -> None:
    for name, pauses in seen.items():
        longest, stalled = ([each[at] for each in pauses] for at in (0, 1))
        print(
            f"{name:<22} longest pause: median {statistics.median(longest):6.2f} ms; "
            f"its own doing: median {statistics.median(stalled):6.2f} ms, at most {max(stalled):6.2f} ms"
        )


if __name__ == "__main__":
    main()
