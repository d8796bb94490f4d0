"""A PostgreSQL of its own with the schema of Tidegate, in a folder that may be kept between runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "sdk/python/src")]

import psycopg  # noqa: E402

# Of loading, not of reading.
SETTINGS = ("fsync=off", "max_wal_size=8GB", "checkpoint_timeout=30min", "synchronous_commit=off")


@contextmanager
def warehouse(folder: str) -> Iterator[str]:
    """Start PostgreSQL in ``folder``, in one that is thrown away when it is empty; make Django ready; yield its address."""
    from controlplane.runtime.engines import prepare_postgres

    place = Path(folder or tempfile.mkdtemp(prefix="tidegate-warehouse-"))
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o755)
    engine = prepare_postgres(place / "postgres")
    process = subprocess.Popen(
        [*engine.command, *(part for each in SETTINGS for part in ("-c", each))],
        user=engine.user,
        group=engine.group,
        extra_groups=[] if engine.user is not None else None,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(engine.url)
        os.environ.update(DATABASE_URL=engine.url, TIDEGATE_DATA_DIR=str(place), TIDEGATE_SECRET_KEY="bench")
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        yield engine.url
    finally:
        process.send_signal(2)
        process.wait(120)
        if not folder:
            shutil.rmtree(place, ignore_errors=True)


def _wait(url: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
