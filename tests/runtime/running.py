"""A real ``manage.py up`` in a process of its own, as a person runs it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
_T = TypeVar("_T")
_OURS = ("DATABASE_URL", "VALKEY_URL", "CELERY_BROKER_URL", "DJANGO_SETTINGS_MODULE")


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a person who set nothing but ``extra``; what the test run itself set is left out."""
    plain = {
        name: value for name, value in os.environ.items() if name not in _OURS and not name.startswith("TIDEGATE_")
    }
    return {**plain, "PYTHONPATH": f"{ROOT}/sdk/python/src", **extra}


def command(folder: Path, *options: str) -> list[str]:
    """Return the command line of an ``up`` without the demo on any free port."""
    return [sys.executable, str(ROOT / "manage.py"), "up", "--data-dir", str(folder), "--port=0", "--no-demo", *options]


def refused(folder: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run an ``up`` that is expected to give up by itself."""
    return subprocess.run(
        command(folder, *options),
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


PATIENCE_S = 300.0  # until something is said to have failed; nobody waits longer than it takes


def eventually(ask: Callable[[], _T], *, patience_s: float = PATIENCE_S) -> _T:
    """Return the first true answer of ``ask``; fail when there is none in time."""
    deadline = time.monotonic() + patience_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"never came true: {ask}"
        time.sleep(0.05)
    return answer


class Running:
    """An ``up`` that runs. ``log`` is what it has printed so far."""

    def __init__(self, folder: Path, *options: str, **env: str) -> None:
        self.folder = folder
        self._log = folder.parent / f"{folder.name}-{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command(folder, *options), env=environment(**env), stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self.url = self._ready()
        except BaseException:  # the time for the test is over, too
            self.process.kill()
            self.process.wait()
            raise

    def _ready(self) -> str:
        eventually(lambda: "Tidegate is ready: " in self.log or self.process.poll() is not None)
        assert self.process.poll() is None, self.log
        found = re.search(r"Tidegate is ready: (\S+)", self.log)
        assert found
        return found[1]

    @property
    def log(self) -> str:
        return self._log.read_text()

    def status(self, path: str) -> int:
        """Return the status of a GET, 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def child(self, part: str) -> int:
        """Return the pid of the child whose command line contains ``part``; 0 if there is none."""
        return next((pid for pid in children_of(self.process.pid) if part in command_line(pid)), 0)

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def running(folder: Path, *options: str, **env: str) -> Iterator[Running]:
    """Run an ``up`` for the time of a ``with`` block."""
    one = Running(folder, *options, **env)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def children_of(pid: int) -> list[int]:
    """Return the pids of the direct children of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def family_of(pid: int) -> list[int]:
    """Return the pids of all descendants of a process."""
    return [one for child in children_of(pid) for one in (child, *family_of(child))]


def command_line(pid: int) -> str:
    """Return a process's command line; empty for one that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
