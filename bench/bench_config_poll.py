"""How many unchanged config polls one edge process answers, beside Unleash on the same embedded PostgreSQL.

Both serve one poller's ``If-None-Match`` with 304: ours ``GET /sdk/v1/config``, theirs ``GET /api/client/features``. The server
has core 0, wrk has core 1; rounds are interleaved, and the best of each counts.

    python -m bench.bench_config_poll [--rounds 3] [--seconds 5] [--without-peer]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.ground import Load, Plane, cpu_s, need, pin, plane, status_of, wait_for, wrk
from controlplane.runtime.engines import free_port

PEER = Path(__file__).parent / "peers" / "unleash"
PEER_TOKEN = "default:development.bench-token"
Target = tuple[str, dict[str, str]]


def ours(server: Plane) -> Target:
    """Return the address and headers of a poller whose snapshot has 20 tenants with policies."""
    for number in range(20):
        server.api("POST", "tenants/", {"slug": f"tenant-{number}", "name": f"Tenant {number}"})
        server.api("PUT", f"tenants/tenant-{number}/routes/chat/policy", {"timeout_ms": 1000 + number})
    key = server.api("POST", "keys/", {"name": "bench"})["key"]
    return not_modified(f"{server.url}/sdk/v1/config", {"Authorization": f"Bearer {key}"})


def not_modified(url: str, headers: dict[str, str]) -> Target:
    """Return the request that is answered 304, having seen that it is."""
    _, etag = status_of(url, headers)
    asked = {**headers, "If-None-Match": etag}
    status, _ = status_of(url, asked)
    if status != 304:
        sys.exit(f"{url} answered {status} to the etag {etag!r} that it gave.")
    return url, asked


@contextmanager
def unleash(server: Plane) -> Iterator[tuple[Target, int]]:
    """Start Unleash on the embedded PostgreSQL of ``server``, from its locked npm packages."""
    npm, node = need("npm", "install Node.js 20 or later"), need("node", "install Node.js 20 or later")
    folder = Path(os.environ.get("TIDEGATE_BENCH_CACHE", tempfile.gettempdir())) / "tidegate-bench-unleash"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PEER / name, folder)
    if not (folder / "node_modules" / "unleash-server").exists():
        subprocess.run([npm, "ci", "--omit=dev", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)
    database = server.database
    with psycopg.connect(**database, dbname="postgres", autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute("CREATE DATABASE unleash")
    port = free_port()
    process = subprocess.Popen(
        [node, "node_modules/unleash-server/dist/server.js"],
        cwd=folder,
        env={
            **os.environ,
            "NODE_ENV": "production",
            "DATABASE_HOST": database["host"],
            "DATABASE_PORT": database["port"],
            "DATABASE_USERNAME": database["user"],
            "DATABASE_PASSWORD": database["password"],
            "DATABASE_NAME": "unleash",
            "DATABASE_SSL": "false",
            "HTTP_PORT": str(port),
            "INIT_CLIENT_API_TOKENS": PEER_TOKEN,
            "LOG_LEVEL": "error",
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url, headers = f"http://127.0.0.1:{port}/api/client/features", {"Authorization": PEER_TOKEN}
    try:
        wait_for(url, process, headers)
        pin(process.pid, 0)
        yield not_modified(url, headers), process.pid
    finally:
        process.kill()
        process.wait()


def say(name: str, load: Load, connections: int, cpu_us: float) -> None:
    print(
        f"{name:<10} {connections:>5} connections  {load.rps:>9,.0f} 304/s  p50 {load.p50_ms:7.2f} ms  "
        f"p99 {load.p99_ms:7.2f} ms  {load.timeouts} time-outs  {load.failed} failed  server CPU {cpu_us:.1f} µs per 304",
        flush=True,
    )


def best(loads: list[Load]) -> Load:
    return max(loads, key=lambda load: load.rps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--without-peer", action="store_true")
    options = parser.parse_args()
    need("wrk", "apt-get install wrk")
    with plane() as server:
        targets = {"tidegate": ours(server)}
        pids = {"tidegate": server.server_pids()}
        server.pin_server(0)
        if options.without_peer:
            measure(targets, pids, options)
            return
        with unleash(server) as (peer, pid):
            measure({**targets, "unleash": peer}, {**pids, "unleash": [pid]}, options)


def measure(targets: dict[str, Target], pids: dict[str, list[int]], options: argparse.Namespace) -> None:
    for connections in (32, 1000):
        loads: dict[str, list[Load]] = {name: [] for name in targets}
        for _ in range(options.rounds):
            for name, (url, headers) in targets.items():
                began_s = cpu_s(pids[name])
                load = wrk(url, headers, connections=connections, seconds=options.seconds, core=1)
                loads[name].append(load)
                say(name, load, connections, (cpu_s(pids[name]) - began_s) * 1e6 / max(1, load.requests))
        if "unleash" in loads:
            ratio = best(loads["tidegate"]).rps / best(loads["unleash"]).rps
            print(f"ratio at {connections} connections: {ratio:.1f} × Unleash", flush=True)


if __name__ == "__main__":
    main()
