"""Tests run on the real engines: the servers named by the environment, else embedded ones in a folder of their own.

A plugin (``-p tests.engines``), because pytest-django reads the settings before any conftest is loaded. Each process of a run in
parallel (``-n``) has engines of its own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import redis

from controlplane.runtime.engines import Engine, prepare_postgres, prepare_valkey

NEEDED = ("DATABASE_URL", "VALKEY_URL", "TIDEGATE_DATA_DIR")
OURS = "TIDEGATE_TESTS_SET"  # which process of a run set which of them, because they were not given


def _start(engine: Engine) -> None:
    process = subprocess.Popen(
        engine.command,
        user=engine.user,
        group=engine.group,
        extra_groups=[] if engine.user is not None else None,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def stop() -> None:
        process.send_signal(2)  # fast shutdown, for both
        process.wait(10)

    atexit.register(stop)


def _wait(ready: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            ready()
            return
        except (psycopg.OperationalError, redis.RedisError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _embedded_engines() -> None:
    """Start what the environment does not name, before Django reads its settings."""
    os.environ.setdefault("TIDEGATE_SECRET_KEY", "not-secret-for-tests")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    starter, *names = os.environ.get(OURS, worker).split()
    for name in names if starter != worker else ():
        del os.environ[name]  # of the process that hands out the tests
    missing = [name for name in NEEDED if name not in os.environ]
    if not missing:
        return
    os.environ[OURS] = " ".join([worker, *missing])
    folder = Path(tempfile.mkdtemp(prefix="tidegate-tests-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if "DATABASE_URL" not in os.environ:
        postgres = prepare_postgres(folder / "postgres")
        postgres.command.extend(["-c", "fsync=off"])
        _start(postgres)
        _wait(lambda: psycopg.connect(postgres.url).close())
        os.environ["DATABASE_URL"] = postgres.url
    if "VALKEY_URL" not in os.environ:
        valkey = prepare_valkey(folder / "valkey")
        _start(valkey)
        _wait(lambda: redis.Redis.from_url(valkey.url).ping())
        os.environ["VALKEY_URL"] = valkey.url
    os.environ.setdefault("TIDEGATE_DATA_DIR", str(folder))


_embedded_engines()
