"""How many syncs one edge process makes durable, beside a django-ninja + ORM endpoint that does the same for one lease.

Every request merges one lease report into its budget's account and is answered after the commit. ``hot``: all on one budget;
``spread``: on 1,000. The server has core 0, wrk and PostgreSQL share the rest; rounds are interleaved.

    python -m bench.bench_sync [--rounds 3] [--seconds 5] [--in-flight 64] [--without-peer]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg

from bench.ground import ROOT, Load, Plane, free_port, need, parse_wrk, pin, plane, wait_for

SCRIPT = Path(__file__).with_name("sync.lua")
INSTANCES = 10_000
SPREAD = 1_000
AMOUNT_NUSD = 10**17


def prepare(server: Plane) -> tuple[str, list[int]]:
    """Return a key for all tenants, and the ids of budgets that are never used up: the first one is the hot one."""
    key = server.api("POST", "keys/", {"name": "bench"})["key"]
    with psycopg.connect(**server.database, dbname="postgres") as connection:  # type: ignore[arg-type]
        rows = connection.execute(
            "INSERT INTO budgets_budget (slug, amount_nusd, period_kind, period_unit, period_timezone, match, on_exhausted, "
            "thresholds) SELECT 'bench-' || n, %s, 'total', '', 'UTC', '{}', 'block', '{}' FROM generate_series(1, %s) AS n "
            "RETURNING id",
            [AMOUNT_NUSD, SPREAD],
        ).fetchall()
    return key, [row[0] for row in rows]


def load(url: str, key: str, budgets: list[int], options: argparse.Namespace) -> Load:
    """Send syncs to ``url`` from one thread and return what was measured."""
    said = subprocess.run(
        ["wrk", "-t1", f"-c{options.in_flight}", f"-d{options.seconds}s", "--latency", "-s", str(SCRIPT), url],
        env={
            **os.environ,
            "INSTANCES": str(INSTANCES),
            "BUDGETS": ",".join(map(str, budgets)),
            "KEY": key,
            "RUN": uuid.uuid4().hex[:8],
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return parse_wrk(said)


@contextmanager
def orm_peer(server: Plane) -> Iterator[str]:
    """Start the peer: the same work in a django-ninja view with the ORM, under the same server."""
    port = free_port()
    database = server.database
    url = f"postgresql://{database['user']}:{database['password']}@{database['host']}:{database['port']}/postgres"
    process = subprocess.Popen(
        [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "--workers", "1", "--no-access-log",
         "--log-level", "error", "bench.peers.orm_sync:application"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "TIDEGATE_SECRET_KEY": "bench", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", process)
        pin(process.pid, 0)
        yield f"http://127.0.0.1:{port}/sync"
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--without-peer", action="store_true")
    options = parser.parse_args()
    need("wrk", "apt-get install wrk")
    with plane() as server:
        key, budgets = prepare(server)
        server.pin_server(0)
        targets = {
            "hot": (f"{server.url}/sdk/v1/sync", budgets[:1]),
            "spread": (f"{server.url}/sdk/v1/sync", budgets),
        }
        if options.without_peer:
            measure(targets, key, options)
            return
        with orm_peer(server) as peer:
            measure({**targets, "ninja+ORM": (peer, budgets[:1])}, key, options)


def measure(targets: dict[str, tuple[str, list[int]]], key: str, options: argparse.Namespace) -> None:
    best: dict[str, Load] = {}
    for _ in range(options.rounds):
        for name, (url, budgets) in targets.items():
            found = load(url, key, budgets, options)
            if name not in best or found.rps > best[name].rps:
                best[name] = found
            print(
                f"{name:<10} {found.rps:>9,.0f} syncs/s  p50 {found.p50_ms:7.2f} ms  p99 {found.p99_ms:7.2f} ms  "
                f"{found.timeouts} time-outs  {found.failed} failed",
                flush=True,
            )
    print(f"hot / spread: {best['hot'].rps / best['spread'].rps:.2f}")
    if "ninja+ORM" in best:
        print(f"hot / ninja+ORM: {best['hot'].rps / best['ninja+ORM'].rps:.0f} ×")


if __name__ == "__main__":
    main()
