"""How many syncs one edge process makes durable, beside a django-ninja + ORM endpoint that does the same work.

Every request says of 4 leases what was spent, brings 3 rows of usage for each, and is answered after the commit. ``hot``: all
leases are on one budget; ``spread``: on 1,000. Every instance has been heard of before. The peer takes its turns with tables of its
own, in the same PostgreSQL, and fewer requests at once: what it has not answered when its turn is over is waited for. CPU is that of
the server with its threads, of all of PostgreSQL and of wrk, per sync: where other work shares the machine, that is what can be
compared.

    python -m bench.bench_sync [--rounds 3] [--seconds 5] [--in-flight 64] [--leases 4] [--rows 3] [--without-peer] [--pinned]

With ``--every 5 --instances 10000 --in-flight 1000`` ten thousand instances sync every five seconds, over a thousand connections: two
thousand a second, evenly, as long as that many are answered.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg

from bench.ground import ROOT, TOKEN, Load, Plane, cpu_s, need, parse_wrk, pin, plane, wait_for
from controlplane.runtime.engines import free_port

SCRIPT = Path(__file__).with_name("sync.lua")
INSTANCES = 2_000
PEER_INSTANCES = 16
PEER_IN_FLIGHT = 8  # twice as many as it has threads: more would only wait, also when its turn is over
SPREAD = 1_000
AMOUNT_NUSD = 10**17


@dataclass
class Target:
    """Where syncs go: the process that answers them, and the budgets that their leases are on."""

    url: str
    pids: list[int]
    budgets: list[int]
    instances: int
    in_flight: int
    drain: str | None = None  # what answers when everything that was asked before has been answered
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    round: int = 1  # which sync of each instance comes next


@dataclass
class Measured:
    """What one round came to, with CPU in microseconds per sync."""

    load: Load
    server_us: float
    postgres_us: float
    wrk_us: float


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


def load(target: Target, server: Plane, key: str, options: argparse.Namespace) -> Measured:
    """Send syncs from one thread and return what was measured."""
    postgres_s, server_s = cpu_s(server.postgres_pids()), cpu_s(target.pids)
    wrk_s = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run(
        ["wrk", "-t1", f"-c{target.in_flight}", f"-d{options.seconds}s", "--latency", "-s", str(SCRIPT), target.url],
        env={
            **os.environ,
            "INSTANCES": str(target.instances),
            "BUDGETS": ",".join(map(str, target.budgets)),
            "LEASES": str(options.leases),
            "ROWS": str(options.rows),
            "KEY": key,
            "RUN": target.run,
            "ROUND": str(target.round),
            "PER_S": str(target.instances / options.every if options.every else 0),
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    measured = parse_wrk(said)
    if target.drain is not None:
        urllib.request.urlopen(target.drain, timeout=60).close()
    target.round += measured.requests // target.instances + 2
    wrk_e = resource.getrusage(resource.RUSAGE_CHILDREN)
    waited_for = 0 if target.drain is None else target.in_flight
    each = 1e6 / max(1.0, measured.requests + waited_for)
    return Measured(
        measured,
        server_us=(cpu_s(target.pids) - server_s) * each,
        postgres_us=(cpu_s(server.postgres_pids()) - postgres_s) * each,
        wrk_us=(wrk_e.ru_utime + wrk_e.ru_stime - wrk_s.ru_utime - wrk_s.ru_stime) * each,
    )


def peer_tables(server: Plane) -> str:
    """Make a database for the peer with the same keys and budgets; return its address."""
    address = {**server.database, "dbname": "postgres"}
    url = "postgresql://{user}:{password}@{host}:{port}/peer".format(**address)
    with psycopg.connect(**address, autocommit=True) as ours:  # type: ignore[arg-type]
        ours.execute("CREATE DATABASE peer")
        subprocess.run(
            [sys.executable, "manage.py", "prepare"],
            cwd=ROOT,
            env={
                **os.environ,
                "DATABASE_URL": url,
                "TIDEGATE_DATA_DIR": str(server.folder),
                "TIDEGATE_ADMIN_TOKEN": TOKEN,
            },
            stdout=subprocess.DEVNULL,
            check=True,
        )
        with psycopg.connect(url) as theirs:
            for table in (b"tenancy_sdkkey", b"budgets_budget"):
                with (
                    ours.cursor().copy(b"COPY " + table + b" TO STDOUT") as out,
                    theirs.cursor().copy(b"COPY " + table + b" FROM STDIN") as into,
                ):
                    for piece in out:
                        into.write(piece)
    return url


@contextmanager
def orm_peer(server: Plane, budgets: list[int], options: argparse.Namespace) -> Iterator[Target]:
    """Start the peer: the same work in a django-ninja view with the ORM, under the same server. Four threads: its best."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "--workers", "1", "--no-access-log",
         "--blocking-threads", "4", "--log-level", "error", "bench.peers.orm_sync:application"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": peer_tables(server), "TIDEGATE_SECRET_KEY": "bench", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/healthz", process)
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        pids = [process.pid, *children]
        if options.pinned:
            for pid in pids:
                pin(pid, 0)
        yield Target(f"{address}/sync", pids, budgets, PEER_INSTANCES, PEER_IN_FLIGHT, f"{address}/healthz")
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--leases", type=int, default=4)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--instances", type=int, default=INSTANCES)
    parser.add_argument("--every", type=float, default=0.0, help="seconds between two syncs of an instance; 0: at once")
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--pinned", action="store_true", help="keep the servers on core 0")
    options = parser.parse_args()
    need("wrk", "apt-get install wrk")
    with plane() as server:
        key, budgets = prepare(server)
        if options.pinned:
            server.pin_server(0)
        url, pids = f"{server.url}/sdk/v1/sync", server.server_pids()
        targets = {
            "hot": Target(url, pids, budgets[:1], options.instances, options.in_flight),
            "spread": Target(url, pids, budgets, options.instances, options.in_flight),
        }
        with ExitStack() as stack:
            if not options.without_peer:
                targets["ninja+ORM"] = stack.enter_context(orm_peer(server, budgets[:1], options))
            best = measure(targets, server, key, options)
        print(f"hot / spread: {best['hot'].load.rps / best['spread'].load.rps:.2f}", flush=True)
        if "ninja+ORM" in best:
            compare(best["hot"], best["ninja+ORM"])


def warm_up(target: Target, server: Plane, key: str, options: argparse.Namespace) -> None:
    """Have every instance heard of once: later syncs are what there are most of."""
    done = 0
    while done < target.instances:
        done += load(target, server, key, options).load.requests


def measure(targets: dict[str, Target], server: Plane, key: str, options: argparse.Namespace) -> dict[str, Measured]:
    """Return the best round of each target."""
    best: dict[str, Measured] = {}
    for target in targets.values():
        warm_up(target, server, key, options)
    for _ in range(options.rounds):
        for name, target in targets.items():
            found = load(target, server, key, options)
            if name not in best or found.load.rps > best[name].load.rps:
                best[name] = found
            print(
                f"{name:<10} {found.load.rps:>9,.0f} syncs/s  p50 {found.load.p50_ms:7.2f} ms  p99 {found.load.p99_ms:7.2f} ms  "
                f"{found.load.timeouts} time-outs  {found.load.failed} failed  CPU per sync: server {found.server_us:,.0f} "
                f"+ postgres {found.postgres_us:,.0f} + wrk {found.wrk_us:,.0f} µs",
                flush=True,
            )
    return best


def compare(hot: Measured, peer: Measured) -> None:
    ours, theirs = hot.server_us + hot.postgres_us, peer.server_us + peer.postgres_us
    print(f"hot / ninja+ORM: {hot.load.rps / peer.load.rps:.0f} × in syncs/s, {theirs / ours:.0f} × in CPU per sync")


if __name__ == "__main__":
    main()
