"""Calls of a gate over real HTTP, and what they cost."""

from __future__ import annotations

import socket
from typing import Any

import tidegate

CALL: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 400, "max_output_tokens": 800}
BOUND_NUSD = 540_000
COST_NUSD = 120_000


def spend(gate: tidegate.Gate, **options: Any) -> None:
    with gate.call("chat", **{**CALL, **options}) as call:
        call.record(input_tokens=400, output_tokens=100)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
