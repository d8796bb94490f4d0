"""What was answered with 200 is there after every process was killed at once."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.running import family_of, running
from tests.telemetry.test_stock_exporters import TOKEN, Target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BATCH = 200


def batch() -> tuple[bytes, list[str]]:
    """Return a request in JSON, and the ids of its spans."""
    ids = [secrets.token_hex(8) for _ in range(BATCH)]
    now = time.time_ns()
    spans: list[dict[str, Any]] = [
        {"traceId": secrets.token_hex(16), "spanId": each, "name": "n", "kind": 1, "startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 1)}
        for each in ids
    ]  # fmt: skip
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode(), ids


def test_ingest__all_processes_killed_after_200__loses_nothing(tmp_path: Path) -> None:
    folder, taken = tmp_path / "data", list[str]()
    with running(folder, TIDEGATE_ADMIN_TOKEN=TOKEN) as server:
        target = Target(server.url, folder)
        for _ in range(20):
            body, ids = batch()
            request = urllib.request.Request(
                f"{server.url}/v1/traces",
                body,
                {"Content-Type": "application/json", "Authorization": f"Bearer {target.key}"},
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                assert response.status == 200
            taken += ids
        target._database.close()
        for pid in [server.process.pid, *family_of(server.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.process.wait()

    with running(folder, TIDEGATE_ADMIN_TOKEN=TOKEN) as again:
        found = Target(again.url, folder).ask("SELECT span_id FROM telemetry_span")
        again.stop()

    assert sorted(row[0] for row in found) == sorted(taken)
