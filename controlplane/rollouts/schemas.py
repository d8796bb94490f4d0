"""What SDKs say of the arms of rollouts in a window (docs/protocol.md, "Releases")."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**53)]
Packed = Annotated[tuple[Annotated[int, Meta(ge=0, le=2**63 - 1)], ...], Meta(max_length=4096)]

SUMS = (
    "calls", "failed", "refused", "cost_nusd", "tokens", "exposed", "asked", "units", "bad", "refusing", "scored", "loss_ppm",
)  # fmt: skip
DISTRIBUTIONS = ("latency_us", "unit_latency_us", "unit_ttft_us", "unit_cost_nusd", "unit_tokens")


class ArmLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one arm came to in one window of one instance."""

    deployment: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    step: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    release: Annotated[str, Meta(max_length=16, pattern=r"^[0-9a-f]*$")]
    arm: Literal["stable", "canary", "baseline", "shadow"]
    ring: Annotated[int, Meta(ge=-1, le=100)] = -1
    calls: Count = 0
    failed: Count = 0
    refused: Count = 0
    cost_nusd: Count = 0
    tokens: Count = 0
    exposed: Count = 0
    asked: Count = 0
    units: Count = 0
    bad: Count = 0
    refusing: Count = 0
    scored: Count = 0
    loss_ppm: Count = 0
    latency_us: Packed = ()
    unit_latency_us: Packed = ()
    unit_ttft_us: Packed = ()
    unit_cost_nusd: Packed = ()
    unit_tokens: Packed = ()
