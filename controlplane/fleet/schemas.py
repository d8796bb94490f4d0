"""What an SDK says of itself in a sync (docs/protocol.md, "Sync")."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**53)]
Small = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Name = Annotated[str, Meta(max_length=64)]
LongName = Annotated[str, Meta(max_length=120)]
Etag = Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-f]*$")]


class ConfigLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which snapshot runs, since how long, and which one was refused and why."""

    etag: Etag | None = None
    age_ms: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    refused: str | None = None
    refused_etag: Etag | None = None


class BreakerLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state of one breaker of the instance, with the evidence in its window."""

    route: Name
    model: LongName = ""
    credential: Name = ""
    phase: Literal["closed", "half_open", "open"]
    mode: Literal["auto", "forced_open", "forced_closed", "metrics_only"] = "auto"
    since_ms: Annotated[int, Meta(ge=0, le=2**43)]
    calls: Count = 0
    failures: Count = 0
    slow: Count = 0
    hung: Count = 0
    refused: Count = 0
    cause: str = ""


class DemandLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the instance lately asked of a fleet-wide limit: units per second, or calls at once.

    ``capacity`` is the whole limit as the instance knows it, in the same measure; ``share`` the part of it that it uses now.
    """

    tenant: Name = ""
    route: Name
    unit: Literal["requests", "tokens", "calls"]
    per_s: Annotated[float, Meta(ge=0, le=1e12)]
    capacity: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    share: Annotated[float, Meta(ge=0, le=1)] | None = None


class ShareLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of a fleet-wide limit that the instance may use for ``ttl_ms`` after it sent the sync."""

    tenant: str
    route: str
    unit: str
    share: float
    ttl_ms: int


class Gauges(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    queue_depth: Small = 0
    dropped_windows: Count = 0
    dropped_spans: Count = 0


class Sighting(NamedTuple):
    """One sync, as far as the fleet is concerned."""

    incarnation: UUID
    key_id: int
    scope_id: int | None
    app: str
    host: str
    pid: int
    sdk: str
    seq: int
    skew_ms: int
    config: ConfigLine
    active_sessions: int
    gauges: Gauges
    final: bool
    breakers: tuple[BreakerLine, ...]
    demand: tuple[DemandLine, ...]
    seen_at: datetime
    last_window: int = 0  # the highest number of a window that it brought
