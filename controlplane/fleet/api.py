"""Management API: SDK instances and the state of their breakers."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Schema

from controlplane.fleet.models import BreakerState, Instance
from controlplane.fleet.queries import breakers_seen_by, instances_seen_by
from controlplane.paging import limited
from controlplane.problems import Invalid
from controlplane.tenancy.bearer import asker

router = Router(tags=["fleet"])


class ClientOut(Schema):
    incarnation: UUID
    scope: str | None
    app: str
    host: str
    pid: int
    sdk: str
    started_at: datetime
    seen_at: datetime
    closed_at: datetime | None
    config_etag: str
    refused_reason: str
    clock_skew_ms: int
    active_sessions: int
    queue_depth: int
    dropped_windows: int
    dropped_spans: int

    @staticmethod
    def resolve_scope(row: Instance) -> str | None:
        return row.scope.slug if row.scope else None


class ClientPage(Schema):
    items: list[ClientOut]
    next: str | None


class BreakerStateOut(Schema):
    client: UUID
    phase: str
    mode: str
    since: datetime
    calls: int
    failures: int
    slow: int
    hung: int
    refused: int
    cause: str

    @staticmethod
    def resolve_client(row: BreakerState) -> UUID:
        return row.instance_id


class BreakerOut(Schema):
    route: str
    model: str
    credential: str
    states: list[BreakerStateOut]


class BreakerList(Schema):
    items: list[BreakerOut]


@router.get("/clients/", response=ClientPage)
def list_clients(request: HttpRequest, cursor: str = "", limit: int = 50) -> Any:
    """SDK instances by when they started, the newest first."""
    rows = instances_seen_by(asker(request))
    if cursor:
        try:
            rows = rows.filter(started_at__lt=datetime.fromisoformat(cursor))
        except ValueError:
            raise Invalid("Pass the cursor as it was given.", errors={"cursor": "is not one of ours"}) from None
    found = list(rows.order_by("-started_at")[: limited(limit) + 1])
    more = len(found) > limit
    return {"items": found[:limit], "next": found[limit - 1].started_at.isoformat() if more else None}


@router.get("/breakers/", response=BreakerList)
def list_breakers(request: HttpRequest) -> Any:
    """Breakers by route and model, with their state in each live client."""
    return {"items": breakers_seen_by(asker(request), timezone.now())}
