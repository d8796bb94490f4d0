"""A control plane of real processes on engines of its own: servers and engines can be stopped, killed and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import redis

import tidegate
from controlplane.runtime.engines import Engine, free_port, prepare_postgres, prepare_valkey

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "tgo_aaaaaaaaaaaa_" + "b" * 43


class Server:
    """A process that can be stopped, killed and started again."""

    def __init__(self, command: list[str], *, ready: Callable[[], Any], stop: int = signal.SIGTERM, **how: Any) -> None:
        self._command, self._ready, self._stop, self._how = command, ready, stop, how
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, start_new_session=True, **self._how)
        try:
            self._await(self.process)
        except BaseException:  # the time for the test is over, too
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                self.kill()
            raise

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self._ready()
                return
            except (psycopg.OperationalError, redis.RedisError, OSError):
                assert process.poll() is None, f"{self._command[:3]} ended by itself"
                assert time.monotonic() < deadline, f"{self._command[:3]} is not ready"
                time.sleep(0.05)

    def end(self) -> None:
        """Stop it in order; nothing happens to one that has ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self._stop)
            self.process.wait(20)

    def kill(self) -> None:
        """Kill it with all the processes that it has started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)


def _as(engine: Engine) -> dict[str, Any]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    return quiet if engine.user is None else {**quiet, "user": engine.user, "group": engine.group, "extra_groups": []}


def start_postgres(folder: Path) -> tuple[Server, str]:
    """Start an embedded PostgreSQL; return it and its address."""
    engine = prepare_postgres(folder)
    command = [*engine.command, "-c", "fsync=off"]
    return Server(
        command, ready=lambda: psycopg.connect(engine.url).close(), stop=signal.SIGINT, **_as(engine)
    ), engine.url


def start_valkey(folder: Path) -> tuple[Server, str]:
    """Start an embedded Valkey; return it and its address."""
    engine = prepare_valkey(folder)

    def ready() -> None:
        with redis.Redis.from_url(engine.url) as valkey:
            valkey.ping()

    return Server(engine.command, ready=ready, **_as(engine)), engine.url


class Served:
    """One control plane; ``serve`` starts as many server processes as are wanted."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.urls: list[str] = []
        self._running = contextlib.ExitStack()

    def begin(self) -> None:
        """Start the engines and make the database."""
        folder = self.folder
        self.postgres, self.database_url = start_postgres(folder / "postgres")
        self._running.callback(self.postgres.end)
        self.valkey, self.valkey_url = start_valkey(folder / "valkey")
        self._running.callback(self.valkey.end)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")},
            "DATABASE_URL": self.database_url,
            "VALKEY_URL": self.valkey_url,
            "TIDEGATE_DATA_DIR": str(folder),
            "TIDEGATE_SECRET_KEY": "not-secret-for-tests",
            "TIDEGATE_ADMIN_TOKEN": TOKEN,
            "TIDEGATE_LOG_LEVEL": "warning",
            "PYTHONPATH": f"{ROOT}/sdk/python/src",
        }
        self.manage("prepare")

    def manage(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments], env=self.env, check=True, stdout=subprocess.DEVNULL
        )

    def serve(self) -> tuple[Server, str]:
        """Start a server process; return it and its address."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [
            *(sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)),
            *("--loop", "uvloop", "--http", "1", "--ws", "--no-access-log", "--log-level", "warning"),
            "controlplane.asgi:application",
        ]
        server = Server(
            command, ready=lambda: urllib.request.urlopen(f"{url}/readyz", timeout=2).close(), env=self.env, cwd=ROOT
        )
        self._running.callback(server.end)
        self.urls.append(url)
        return server, url

    def api(self, method: str, path: str, document: Any = None) -> Any:
        """Ask the management API as an admin."""
        request = urllib.request.Request(
            f"{self.urls[0]}/api/v1/{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.loads(response.read() or b"null")

    def key_of(self, tenant: str) -> str:
        """Make a tenant and return a key of it."""
        with contextlib.suppress(urllib.error.HTTPError):
            self.api("POST", "tenants/", {"slug": tenant, "name": tenant})
        return str(self.api("POST", f"tenants/{tenant}/keys/", {"name": f"app-{time.monotonic_ns()}"})["key"])

    def connect(self, key: str, url: str | None = None) -> tidegate.Gate:
        gate = tidegate.connect(url or self.urls[0], key, app="test", cache_dir=self.folder / "cache", traces=False)
        self._running.callback(gate.close)
        return gate

    def end(self) -> None:
        self._running.close()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    """A control plane that is gone at the end."""
    made = Served(folder)
    try:
        made.begin()
        yield made
    finally:
        made.end()


def eventually(ask: Callable[[], Any], *, patience_s: float = 20.0) -> Any:
    """Return the first true answer of ``ask``; fail when there is none in time."""
    deadline = time.monotonic() + patience_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return answer
