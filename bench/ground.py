"""What the benchmarks stand on: a control plane of their own, started and stopped, and processes pinned to cores."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.runtime.engines import free_port, processes_in

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "tgo_aaaaaaaaaaaa_" + "b" * 43


def need(program: str, how: str) -> str:
    """Return the path of a program that must be there, or end with how to get it."""
    found = shutil.which(program)
    if found is None:
        sys.exit(f"This benchmark needs {program}: {how}.")
    return found


@dataclass
class Plane:
    """A running ``manage.py up`` without a demo."""

    url: str
    folder: Path

    def api(self, method: str, path: str, document: Any = None) -> Any:
        """Ask the management API as an admin."""
        request = urllib.request.Request(
            f"{self.url}/api/v1/{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.loads(response.read() or b"null")

    @property
    def database(self) -> dict[str, str]:
        """How to reach the embedded PostgreSQL."""
        postgres = self.folder / "postgres"
        return {
            "host": "127.0.0.1",
            "port": (postgres / "port").read_text().strip(),
            "user": "tidegate",
            "password": (postgres / "password").read_text().strip(),
        }

    def pin_server(self, core: int) -> None:
        """Keep the ASGI server on one core."""
        for pid in self.server_pids():
            pin(pid, core)

    def server_pids(self) -> list[int]:
        """Return the processes of the ASGI server."""
        return [pid for pid, words in commands() if b"granian" in words and str(self.port).encode() in words]

    def postgres_pids(self) -> list[int]:
        """Return the processes of the embedded PostgreSQL that there are now."""
        return processes_in((self.folder / "postgres" / "data").resolve())

    def ran(self, *, server: bool = True) -> float:
        """Return how many seconds PostgreSQL, and the server when it is asked for, ran on a processor so far."""
        return cpu_s([*self.postgres_pids(), *(self.server_pids() if server else ())])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def commands() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the processes that there are, with the words of their commands."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield int(process.name), (process / "cmdline").read_bytes().split(b"\0")


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU time that processes have used so far, with all their threads and those of their children that have ended."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def pin(pid: int, core: int) -> None:
    """Keep a process, with all its threads, on one core."""
    for task in (Path("/proc") / str(pid) / "task").iterdir():
        with suppress(ProcessLookupError):  # it ended in between
            os.sched_setaffinity(int(task.name), {core})


@contextmanager
def plane() -> Iterator[Plane]:
    """Start a control plane in a folder of its own; stop it and remove the folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    folder.chmod(0o755)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "up", "--no-demo", "--port", str(port), "--data-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "TIDEGATE_ADMIN_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL,
    )
    try:
        made = Plane(f"http://127.0.0.1:{port}", folder)
        wait_for(f"{made.url}/readyz", process)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(
    url: str, process: subprocess.Popen[Any], headers: Mapping[str, str] | None = None, seconds: float = 400
) -> None:
    """Wait until ``url`` answers 200; end when the process behind it does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=2):
                return
        except (OSError, urllib.error.URLError):
            if process.poll() is not None:
                sys.exit(f"{process.args} ended with {process.returncode}.")
            time.sleep(0.2)
    sys.exit(f"{url} did not answer within {seconds:g} s.")


@dataclass
class Load:
    """What wrk measured."""

    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    timeouts: int
    failed: int


_UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def wrk(url: str, headers: Mapping[str, str], *, connections: int, seconds: int, core: int) -> Load:
    """Load ``url`` from one thread on one core and return what was measured."""
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    return parse_wrk(subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout)


def parse_wrk(said: str) -> Load:
    """Return what wrk measured out of what it printed."""
    percentile = {
        name: float(value) * _UNIT_MS[unit] for name, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s|m)", said)
    }
    rps = re.search(r"Requests/sec:\s+([\d.]+)", said)
    timeouts = re.search(r"timeout (\d+)", said)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    if rps is None:
        sys.exit(f"wrk said nothing that can be read:\n{said}")
    requests = re.search(r"(\d+) requests in", said)
    return Load(
        requests=int(requests[1]) if requests else 0,
        rps=float(rps[1]),
        p50_ms=percentile["50"],
        p99_ms=percentile["99"],
        timeouts=int(timeouts[1]) if timeouts else 0,
        failed=int(failed[1]) if failed else 0,
    )


def status_of(url: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Return the status of a GET and its ETag."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=10) as response:
            return response.status, response.headers.get("etag", "")
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("etag", "")
