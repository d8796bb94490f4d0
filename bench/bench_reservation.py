"""What a budget decision takes, and whom it lets through, beside LiteLLM's own reservation in memory.

Time: one call of gpt-4o with a prompt of 120 words, admitted, recorded and settled, one after the other; theirs is the reservation
and its reconciliation alone, of one key, without a database. Rounds are interleaved; the best of each counts.

Burst: a hundred such calls at once, without a limit of their own on output, on a budget of one dollar. Ours stands on a control plane
with PostgreSQL; before, it has seen calls that put out as many tokens as these do. All are held open until every one was decided;
then they stream to their ends. After that calls go on until the dollar is spent. What the account says is watched all along.

    python -m bench.bench_reservation [--rounds 5] [--calls 2000] [--without-peer]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tidegate
from bench.ground import Plane, plane
from tidegate import BudgetExhausted, Gate, Refused

PEER = Path(__file__).parent / "peers" / "litellm"
MODEL, INPUT = "gpt-4o", 128
CALLS, CAP_USD, CAP_NUSD = 100, "1.00", 10**9
FASTER, ADMITTED = 100, 95


class Peer:
    """A process that answers one line of JSON to each line that it is asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._line()

    def ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return dict(json.loads(line))
        sys.exit("LiteLLM ended without an answer.")


@contextmanager
def litellm() -> Iterator[Peer]:
    """Start LiteLLM in a virtual environment of its own, from its locked requirements."""
    folder = Path(os.environ.get("TIDEGATE_BENCH_CACHE", tempfile.gettempdir())) / "tidegate-bench-litellm"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        locked = str(PEER / "requirements.txt")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", locked], check=True)
        (folder / "ready").touch()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([python, PEER / "reserve.py"], **pipes) as process:  # type: ignore[call-overload]
        try:
            yield Peer(process)
        finally:
            process.kill()


def connect(server: Plane) -> Gate:
    """Return a gate whose calls hold what such calls used to need, of a tenant with a budget of a hundred dollars."""
    server.api("POST", "tenants/", {"slug": "acme", "name": "Acme"})
    server.api("PUT", "routes/*/policy", {"queue": {"max_concurrent": 10_000, "max_wait_ms": 10_000}})
    budget(server, "history", "100.00")
    key = server.api("POST", "tenants/acme/keys/", {"name": "bench"})["key"]
    return tidegate.connect(server.url, key, app="bench", cache_dir=None, traces=False)


def budget(server: Plane, slug: str, usd: str) -> None:
    document = {"slug": slug, "amount_usd": usd, "period": {"kind": "total"}, "strict": False, "on_overrun": "cut"}
    server.api("POST", "tenants/acme/budgets/", document)


def learn(gate: Gate, chance: random.Random) -> None:
    """Have the gate see some hundred calls."""
    for _ in range(300):
        with gate.call("chat", tenant="acme", model=MODEL, input_tokens=INPUT) as call:
            call.record(input_tokens=INPUT, output_tokens=output(chance))


def output(chance: random.Random) -> int:
    """Return what a call puts out: 130 tokens in the middle, 400 of one in a hundred."""
    return round(130 * chance.lognormvariate(0, 0.5))


def timed(gate: Gate, calls: int) -> dict[str, float]:
    took = []
    for _ in range(calls):
        started = time.perf_counter_ns()
        with gate.call("chat", tenant="acme", model=MODEL, input_tokens=INPUT) as call:
            call.record(input_tokens=INPUT, output_tokens=150)
        took.append(time.perf_counter_ns() - started)
    took.sort()
    return {"p50_ns": median(took), "p99_ns": took[int(len(took) * 0.99)]}


class Watch:
    """Asks the control plane again and again how the budget stands, and keeps the worst."""

    def __init__(self, server: Plane) -> None:
        self._server = server
        self._over = threading.Event()
        self.worst_nusd = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            self.look()

    def look(self) -> int:
        """Return what is spent; keep the most that was spent and leased."""
        stands = self._server.api("GET", "tenants/acme/budgets/one-dollar/")
        spent, leased = (round(float(stands[name]) * 10**9) for name in ("spent_usd", "leased_usd"))
        self.worst_nusd = max(self.worst_nusd, spent + leased)
        return spent

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


async def burst(gate: Gate, chance: random.Random) -> tuple[int, int]:
    """Return how many of the calls were admitted, and how many were cut."""
    decided, everybody = 0, asyncio.Event()
    admitted = cut = 0

    async def one(tokens: int) -> None:
        nonlocal decided, admitted, cut
        call = gate.call("chat", tenant="acme", model=MODEL, input_tokens=INPUT)
        try:
            await call.admit_async()
            admitted += 1
        except Refused:
            call = None  # type: ignore[assignment]
        decided += 1
        if decided == CALLS:
            everybody.set()
        await everybody.wait()
        if call is not None:
            cut += not await _stream(call, tokens)

    await asyncio.gather(*(one(output(chance)) for _ in range(CALLS)))
    return admitted, cut


async def _stream(call: tidegate.Call, tokens: int) -> bool:
    """Have a call put out its tokens, ten at once; whether it was let finish."""
    try:
        for seen in range(0, tokens, 10):
            call.progress(output_tokens=seen)
            await asyncio.sleep(0)
        call.record(input_tokens=INPUT, output_tokens=tokens)
    except BudgetExhausted as error:
        call.settle(error, last=True)
        return False
    call.settle(None, last=True)
    return True


async def spend_the_rest(gate: Gate, chance: random.Random) -> tuple[int, int]:
    """Let calls through, fifty at once, until ten in a row are refused; return how many passed and how many were cut."""
    passed = cut = refused = 0

    async def worker() -> None:
        nonlocal passed, cut, refused
        while refused < 10:
            call = gate.call("chat", tenant="acme", model=MODEL, input_tokens=INPUT)
            try:
                await call.admit_async()
            except Refused:
                refused += 1
                await asyncio.sleep(0.05)
                continue
            refused = 0
            passed += 1
            cut += not await _stream(call, output(chance))

    await asyncio.gather(*(worker() for _ in range(50)))
    return passed, cut


def follow(gate: Gate, revision: int) -> None:
    while (gate.status()["config"] or {}).get("revision", 0) < revision:
        time.sleep(0.02)


def run_burst(server: Plane, gate: Gate, peer: Peer | None) -> bool:
    chance = random.Random(7)
    server.api("DELETE", "tenants/acme/budgets/history/")
    budget(server, "one-dollar", CAP_USD)
    follow(gate, int(server.api("GET", "revisions/")["items"][0]["id"]))
    watch = Watch(server)
    admitted, cut = asyncio.run(burst(gate, chance))
    print(f"\n{CALLS} calls of {MODEL} at once on ${CAP_USD}, none of which says how much it may put out:")
    print(f"{'tidegate':>12}: {admitted:4} admitted, {cut} of them cut")
    if peer is not None:
        theirs = peer.ask(f"burst {CALLS} {CAP_USD}")
        print(f"{'LiteLLM':>12}: {theirs['admitted']:4} admitted, ${theirs['reserved_usd']:.5f} reserved for each")
    passed, later_cut = asyncio.run(spend_the_rest(gate, chance))
    gate.close()
    watch.stop()
    spent = watch.look()
    print(f"then {passed} more passed, {later_cut} of them cut, until ${spent / 1e9:.6f} of ${CAP_USD} was spent")
    print(f"the most that was ever spent and leased: ${watch.worst_nusd / 1e9:.6f}")
    kept = admitted >= ADMITTED and watch.worst_nusd <= CAP_NUSD and spent <= CAP_NUSD
    print(f"wanted at least {ADMITTED} admitted and never more than ${CAP_USD}: {'kept' if kept else 'MISSED'}")
    return kept


def run_timed(gate: Gate, peer: Peer | None, rounds: int, calls: int) -> bool:
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for _ in range(rounds):
        ours.append(timed(gate, calls))
        time.sleep(0.2)  # let the gate sync, not while they are measured
        if peer is not None:
            theirs.append(peer.ask(f"time {max(100, calls // 10)}"))
    for name, measured in (("tidegate", ours), ("LiteLLM", theirs)):
        if measured:
            p50, p99 = (min(each[key] for each in measured) / 1000 for key in ("p50_ns", "p99_ns"))
            print(f"{name:>12}: p50 {p50:8.2f} µs, p99 {p99:8.2f} µs per call")
    if not theirs:
        return True
    ratio = min(each["p50_ns"] for each in theirs) / min(each["p50_ns"] for each in ours)
    kept = ratio >= FASTER
    print(f"ratio {ratio:.0f}, wanted at least {FASTER}: {'kept' if kept else 'MISSED'}")
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--without-peer", action="store_true")
    asked = parser.parse_args()
    with plane() as server:
        gate = connect(server)
        learn(gate, random.Random(1))
        if asked.without_peer:
            kept = [run_timed(gate, None, asked.rounds, asked.calls), run_burst(server, gate, None)]
        else:
            with litellm() as peer:
                kept = [run_timed(gate, peer, asked.rounds, asked.calls), run_burst(server, gate, peer)]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
