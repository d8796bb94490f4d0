"""A sync on the wire: what SDKs send and what they are answered (docs/protocol.md, "Sync")."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from controlplane.budgets.schemas import LeaseAnswer, LeaseLine
from controlplane.fleet.schemas import BreakerLine, ConfigLine, DemandLine, Gauges, ShareLine
from controlplane.rollouts.schemas import ArmLine
from controlplane.telemetry.schemas import SessionsRow, Window

Count = Annotated[int, Meta(ge=0, le=2**53)]
Said = Annotated[str, Meta(max_length=120)]


class SyncWindow(Window, frozen=True, kw_only=True, gc=False):
    """A window with what it says of the arms of rollouts."""

    releases: Annotated[tuple[ArmLine, ...], Meta(max_length=1000)] = ()


class SyncRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    incarnation: UUID
    seq: Count
    sent_ms: Annotated[int, Meta(ge=0, le=2**43)]
    app: Said = ""
    host: Annotated[str, Meta(max_length=255)] = ""
    pid: Count = 0
    sdk: Annotated[str, Meta(max_length=64)] = ""
    config: ConfigLine = ConfigLine()
    leases: Annotated[tuple[LeaseLine, ...], Meta(max_length=10_000)] = ()
    windows: Annotated[tuple[SyncWindow, ...], Meta(max_length=600)] = ()
    sessions: Annotated[tuple[SessionsRow, ...], Meta(max_length=10_000)] = ()
    breakers: Annotated[tuple[BreakerLine, ...], Meta(max_length=10_000)] = ()
    demand: Annotated[tuple[DemandLine, ...], Meta(max_length=10_000)] = ()
    gauges: Gauges = Gauges()
    final: bool = False


class SyncAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    seq: int
    windows_acked: int
    next_sync_ms: int
    server_ms: int
    config_etag: str | None
    leases: list[LeaseAnswer]
    shares: list[ShareLine]
