"""One ``manage.py up`` per data directory: a lock that the kernel drops when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from controlplane.runtime.engines import CannotStart


class DataLock:
    """Holds the lock of ``folder`` from ``take`` until the process ends. The file names the holder for whoever comes second."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._descriptor = -1

    def take(self, *, url: str) -> None:
        """Take the lock and note pid and ``url``; ``CannotStart`` naming the other one when somebody has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise CannotStart(f"Tidegate is already running on {self._path.parent}{self._holder()}.") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "url": url}).encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back. The file stays: removing it would let two processes lock two files of one name."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1

    def _holder(self) -> str:
        try:
            holder = json.loads(self._path.read_text())
            return f": {holder['url']} (pid {holder['pid']})"
        except (OSError, ValueError, KeyError):
            return ""  # it is just starting
