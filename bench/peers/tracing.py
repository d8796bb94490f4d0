"""MLflow and Phoenix with the same requests, on the same PostgreSQL server, each until every span can be counted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from bench.ground import Plane, commands, cpu_s, pin, wait_for
from controlplane.runtime.engines import free_port

PATIENCE_S = 300.0


class Peer(NamedTuple):
    """How a peer is started with a port and a database, when it is ready, and what its requests carry."""

    name: str
    module: str
    command: Callable[[str, int, str, int], list[str]]
    environment: Callable[[int, str, str], dict[str, str]]
    ready: str
    headers: dict[str, str]


PEERS = (
    Peer(
        "MLflow",
        "mlflow",
        lambda python, port, url, workers: [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
                                   "--backend-store-uri", url.replace("postgresql:", "postgresql+psycopg2:"), "--workers", str(workers)],
        lambda port, url, folder: {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": folder},
        "/health",
        {"x-mlflow-experiment-id": "0"},
    ),
    Peer(
        "Phoenix",
        "phoenix",
        lambda python, port, url, workers: [python, "-m", "phoenix.server.main", "serve"],
        lambda port, url, folder: {"PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port), "PHOENIX_SQL_DATABASE_URL": url,
                                   "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_WORKING_DIR": folder, "HOME": folder},
        "/healthz",
        {},
    ),
)  # fmt: skip


class Round(NamedTuple):
    """A peer's turn: what it made durable a second, the processor time that it and PostgreSQL took for a span, and how much of what it
    had acknowledged could be counted with its last answer."""

    rate: float
    cpu_s: float
    there: float


Turn = Callable[[Sequence[Any]], Round]


@contextlib.contextmanager
def peers(
    python: str, server: Plane, first: Any, send: Callable[..., Any], connections: int, workers: int
) -> Iterator[dict[str, Turn]]:
    """Start every peer that is installed for ``python``; give what sends it batches, to be called in turns with others.

    ``workers`` are MLflow's processes. Phoenix has one.
    """
    with contextlib.ExitStack() as stack:
        found = {}
        for peer in PEERS if python else ():
            command = [python, "-c", f"import {peer.module}"]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                print(f"{peer.name} is not installed for {python}.")
                continue
            found[peer.name] = stack.enter_context(_running(peer, python, server, first, send, connections, workers))
        yield found


@contextlib.contextmanager
def _running(
    peer: Peer, python: str, server: Plane, first: Any, send: Callable[..., Any], connections: int, workers: int
) -> Iterator[Turn]:
    database = server.database
    name = f"peer_{peer.module}"
    with psycopg.connect(**database, dbname="postgres", autocommit=True) as admin:  # type: ignore[arg-type]
        admin.execute(f"CREATE DATABASE {name}".encode())
    url = f"postgresql://{database['user']}:{database['password']}@{database['host']}:{database['port']}/{name}"
    folder, port = tempfile.mkdtemp(prefix="tidegate-peer-"), free_port()
    said = Path(folder) / "said"
    path = f"{Path(python).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **peer.environment(port, url, folder), "PATH": path}
    with said.open("wb") as log:
        process = subprocess.Popen(
            peer.command(python, port, url, workers), env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        try:
            wait_for(f"http://127.0.0.1:{port}{peer.ready}", process)
        except SystemExit:
            print(said.read_text()[-2000:])
            raise
        for pid in _group(process.pid):  # it serves from a process of its own
            pin(pid, 0)
        with psycopg.connect(**database, dbname=name, autocommit=True) as connection:  # type: ignore[arg-type]

            def measured(batches: Sequence[Any], connections: int = connections) -> Round:
                before, total = _count(connection), sum(batch.spans for batch in batches)
                began, ran = time.perf_counter(), _ran()
                asyncio.run(send(port, peer.headers, batches, connections))
                there = (_count(connection) - before) / total
                _wait_for_spans(connection, before + total)
                return Round(total / (time.perf_counter() - began), (_ran() - ran) / total, there)

            def _ran() -> float:
                return cpu_s(_group(process.pid)) + server.ran(server=False)

            measured([first], 1)  # what is made at the first request is made now
            yield measured
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # what is measured is over: it need not end well
        shutil.rmtree(Path(folder), ignore_errors=True)


def _group(leader: int) -> list[int]:
    """Return the processes that ``leader`` has started, and itself."""
    found = []
    for pid, _ in commands():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == leader:
                found.append(pid)
    return found


def _count(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM spans").fetchone()
    return int(row[0]) if row else 0


def _wait_for_spans(connection: psycopg.Connection[Any], total: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if _count(connection) >= total:
            return
        time.sleep(0.05)
    sys.exit(f"Of {total} spans not all were there after {PATIENCE_S:g} s.")
