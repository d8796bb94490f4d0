"""Management API: deployments, their releases, and freezes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Router, Schema, Status

from controlplane.paging import newest_first
from controlplane.rollouts import queries
from controlplane.rollouts.actions import deployments, freezes
from controlplane.rollouts.models import Deployment, Freeze
from controlplane.tenancy.bearer import asker
from controlplane.tenancy.queries import tenant_if_named

router = Router(tags=["rollouts"])


class DeploymentIn(Schema):
    """``unit``: what gets one release, and counts once: request, session, user or tenant. ``notify``: names of channels."""

    slug: str
    tenant: str | None = None
    routes: tuple[str, ...] = ()
    unit: str = "session"
    method: str = "tidegate"
    salt: str = ""
    window_s: int = 30
    config_schema: Any = Field(None, alias="schema")
    needs_approval: bool = False
    notify: tuple[str, ...] = ()


class DeploymentPatch(Schema):
    routes: tuple[str, ...] = ()
    unit: str = ""
    window_s: int = 0
    config_schema: Any = Field(None, alias="schema")
    needs_approval: bool = False
    notify: tuple[str, ...] = ()


class DeploymentOut(Schema):
    slug: str
    tenant: str | None
    routes: list[str]
    unit: str
    method: str
    window_s: int
    needs_approval: bool
    notify: list[str]
    stable: str | None
    created_at: datetime

    @staticmethod
    def resolve_tenant(row: Deployment) -> str | None:
        return row.tenant.slug if row.tenant else None

    @staticmethod
    def resolve_stable(row: Deployment) -> str | None:
        return row.stable.version if row.stable else None


class ReleaseIn(Schema):
    config: Any
    version: str = ""
    notes: str = ""


class ReleaseOut(Schema):
    version: str
    digest: str
    config: Any
    notes: str
    author: str
    created_at: datetime
    bad_at: datetime | None
    bad_reason: str


class ReleasePage(Schema):
    items: list[ReleaseOut]
    next: str | None


class FreezeIn(Schema):
    starts_at: datetime
    ends_at: datetime
    tenant: str | None = None
    reason: str = ""


class FreezeOut(Schema):
    id: int
    tenant: str | None
    starts_at: datetime
    ends_at: datetime
    reason: str
    created_by: str

    @staticmethod
    def resolve_tenant(row: Freeze) -> str | None:
        return row.tenant.slug if row.tenant else None


@router.get("/deployments/", response=list[DeploymentOut])
def list_deployments(request: HttpRequest) -> Any:
    """All deployments, by name."""
    return queries.deployments_seen_by(asker(request))


@router.post("/deployments/", response={201: DeploymentOut})
def create_deployment(request: HttpRequest, body: DeploymentIn) -> Any:
    """Make a deployment. Its first release will be everybody's at once."""
    who = asker(request)
    description = deployments.Description(
        routes=tuple(body.routes), unit=body.unit, method=body.method, salt=body.salt, window_s=body.window_s,
        schema=body.config_schema, needs_approval=body.needs_approval, notify=tuple(body.notify),
    )  # fmt: skip
    tenant = tenant_if_named(who, body.tenant)
    return Status(201, deployments.create_deployment(by=who, slug=body.slug, tenant=tenant, description=description))


@router.get("/deployments/{slug}/", response=DeploymentOut)
def get_deployment(request: HttpRequest, slug: str) -> Any:
    """One deployment with its stable release."""
    return queries.deployment_seen_by(asker(request), slug)


@router.patch("/deployments/{slug}/", response=DeploymentOut)
def change_deployment(request: HttpRequest, slug: str, body: DeploymentPatch) -> Any:
    """Change what is named. The unit and its hash stay as they are while a rollout is on its way."""
    who = asker(request)
    deployment = queries.deployment_seen_by(who, slug)
    named = body.model_dump(exclude_unset=True)
    if "config_schema" in named:
        named["schema"] = named.pop("config_schema")
    described = deployments.description_of(deployment)._replace(**named)
    return deployments.change_deployment(by=who, deployment=deployment, description=described)


@router.delete("/deployments/{slug}/", response={204: None})
def archive_deployment(request: HttpRequest, slug: str) -> Any:
    """Take a deployment out of service. Its calls go on, without a release."""
    who = asker(request)
    deployments.archive_deployment(by=who, deployment=queries.deployment_seen_by(who, slug))
    return Status(204, None)


@router.get("/deployments/{slug}/releases/", response=ReleasePage)
def list_releases(request: HttpRequest, slug: str, cursor: str = "", limit: int = 50) -> Any:
    """The releases of a deployment, the newest first."""
    return newest_first(queries.deployment_seen_by(asker(request), slug).releases.all(), cursor=cursor, limit=limit)


@router.post("/deployments/{slug}/releases/", response={201: ReleaseOut})
def create_release(request: HttpRequest, slug: str, body: ReleaseIn) -> Any:
    """Make a release, which never changes; the same content again is the same release."""
    who = asker(request)
    deployment = queries.deployment_seen_by(who, slug)
    made = deployments.create_release(
        by=who, deployment=deployment, config=body.config, version=body.version, notes=body.notes
    )
    return Status(201, made)


@router.get("/deployments/{slug}/releases/{version}/", response=ReleaseOut)
def get_release(request: HttpRequest, slug: str, version: str) -> Any:
    """One release."""
    return queries.release_of(queries.deployment_seen_by(asker(request), slug), version)


@router.get("/freezes/", response=list[FreezeOut])
def list_freezes(request: HttpRequest) -> Any:
    """The freezes that are on or to come."""
    return queries.freezes_seen_by(asker(request), now=timezone.now())


@router.post("/freezes/", response={201: FreezeOut})
def create_freeze(request: HttpRequest, body: FreezeIn) -> Any:
    """Let no rollout go on for a while. Rolling back always may."""
    who = asker(request)
    tenant = tenant_if_named(who, body.tenant)
    made = freezes.add_freeze(by=who, tenant=tenant, starts_at=body.starts_at, ends_at=body.ends_at, reason=body.reason)
    return Status(201, made)


@router.delete("/freezes/{int:number}/", response={204: None})
def end_freeze(request: HttpRequest, number: int) -> Any:
    """End a freeze now."""
    who, now = asker(request), timezone.now()
    freezes.end_freeze(by=who, freeze=queries.freeze_seen_by(who, number, now=now), now=now)
    return Status(204, None)
