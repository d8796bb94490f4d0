"""Making deployments and releases. A release never changes: the same content is the same release."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from controlplane import intent
from controlplane.domain.config_schema import config_faults, schema_faults
from controlplane.domain.rollout import OPEN
from controlplane.problems import Conflict, Forbidden, Invalid
from controlplane.rollouts.models import Deployment, Release
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker
from tidegate.core.bucketing import METHODS
from tidegate.core.policy import route_fault
from tidegate.core.release import UNITS

MAX_CONFIG = 64 * 1024
MAX_ROUTES = 32
MAX_CHANNELS = 16
_LISTS = ("notify", "routes")


class Description(NamedTuple):
    """What a deployment is like. ``method`` and ``salt`` place units where another vendor's hash does; empty: our own.

    ``notify`` names the channels that are told when a rollout of it waits for a person, goes back or is complete.
    """

    routes: tuple[str, ...] = ()
    unit: str = "session"
    method: str = "tidegate"
    salt: str = ""
    window_s: int = 30
    schema: Any = None
    needs_approval: bool = False
    notify: tuple[str, ...] = ()


def may_change(by: Asker, tenant: Tenant | None) -> None:
    """Raise ``Forbidden`` unless ``by`` may change what belongs to ``tenant``; ``None``: the installation."""
    by.must(Role.OPERATOR)
    if tenant is None and by.tenant is not None:
        raise Forbidden(f"The installation's own deployments are not {by.name}'s to change.")
    if tenant is not None and tenant.archived_at is not None:
        raise Conflict(f"{tenant.slug} is archived.")


@transaction.atomic
def create_deployment(*, by: Asker, slug: str, tenant: Tenant | None, description: Description) -> Deployment:
    """Make a deployment. It says nothing to SDKs before it has a release."""
    may_change(by, tenant)
    faults = _faults(slug, description)
    if faults:
        raise Invalid("The deployment is not valid: nothing was changed.", errors=faults)
    if Deployment.objects.filter(slug=slug).exists():
        raise Conflict(f"There is a deployment {slug!r} already, or was one.")
    salt = description.salt or (slug if description.method != "tidegate" else secrets.token_hex(8))
    lists = {name: sorted(set(getattr(description, name))) for name in _LISTS}
    made = Deployment.objects.create(slug=slug, tenant=tenant, **{**description._asdict(), **lists, "salt": salt})
    _record(by, "deployment.created", made, f"Created the deployment {slug}", after=description._asdict())
    return made


def _faults(slug: str, description: Description) -> dict[str, str]:
    faults: dict[str, str] = {}
    if not 1 <= len(slug) <= 64 or not all(
        letter.isascii() and (letter.isalnum() or letter in "-_") for letter in slug
    ):
        faults["slug"] = "has 1 to 64 letters, digits, - and _"
    faults |= _names_faults(description)
    if description.unit not in UNITS:
        faults["unit"] = f"must be one of {', '.join(UNITS)}"
    if description.method not in METHODS:
        faults["method"] = f"must be one of {', '.join(METHODS)}"
    if len(description.salt) > 128:
        faults["salt"] = "has at most 128 characters"
    if not 1 <= description.window_s <= 3600:
        faults["window_s"] = "must be a whole number from 1 to 3600"
    if description.schema is not None:
        faults |= schema_faults(description.schema)
    return faults


def _names_faults(description: Description) -> dict[str, str]:
    faults: dict[str, str] = {}
    for number, route in enumerate(description.routes):
        fault = route_fault(route, wildcard=True)
        if fault:
            faults[f"routes[{number}]"] = fault
    if len(description.routes) > MAX_ROUTES:
        faults["routes"] = f"has at most {MAX_ROUTES} names"
    if len(description.notify) > MAX_CHANNELS or not all(1 <= len(name) <= 64 for name in description.notify):
        faults["notify"] = f"has at most {MAX_CHANNELS} names of channels"
    return faults


@transaction.atomic
def change_deployment(*, by: Asker, deployment: Deployment, description: Description) -> Deployment:
    """Describe a deployment anew. What places units (unit, method, salt) can't change while a rollout is on its way."""
    may_change(by, deployment.tenant)
    deployment = Deployment.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=deployment.pk)
    faults = _faults(deployment.slug, description)
    if faults:
        raise Invalid("The deployment is not valid: nothing was changed.", errors=faults)
    before = description_of(deployment)
    lists: dict[str, Any] = {name: tuple(sorted(set(getattr(description, name)))) for name in _LISTS}
    after = description._replace(**lists, salt=description.salt or before.salt)
    if after == before:
        return deployment
    moves = (after.unit, after.method, after.salt) != (before.unit, before.method, before.salt)
    if moves and deployment.rollouts.filter(phase__in=OPEN).exists():
        raise Conflict(f"{deployment.slug} has a rollout that is not over: its units would change sides.")
    for name, value in after._asdict().items():
        setattr(deployment, name, list(value) if name in _LISTS else value)
    deployment.save()
    summary = f"Changed the deployment {deployment.slug}"
    publish(by=by, deployment=deployment, summary=summary, before=before._asdict(), after=after._asdict())
    _record(by, "deployment.changed", deployment, summary, after=after._asdict())
    return deployment


def description_of(deployment: Deployment) -> Description:
    """Return how a deployment is described now."""
    said = {name: getattr(deployment, name) for name in Description._fields}
    return Description(**{**said, **{name: tuple(said[name]) for name in _LISTS}})


@transaction.atomic
def archive_deployment(*, by: Asker, deployment: Deployment, reason: str = "") -> None:
    """Take a deployment out of the snapshots. Its calls go on, without a release."""
    may_change(by, deployment.tenant)
    if deployment.rollouts.filter(phase__in=OPEN).exists():
        raise Conflict(f"{deployment.slug} has a rollout that is not over: abort it first.")
    deployment.archived_at = timezone.now()
    deployment.save(update_fields=["archived_at"])
    summary = f"Archived the deployment {deployment.slug}"
    publish(by=by, deployment=deployment, summary=summary)
    _record(by, "deployment.archived", deployment, summary, reason=reason)


@transaction.atomic
def create_release(*, by: Asker, deployment: Deployment, config: Any, version: str = "", notes: str = "") -> Release:
    """Make a release; the one that has the same content already, if there is one. The first is everybody's at once."""
    may_change(by, deployment.tenant)
    deployment = Deployment.objects.select_for_update().get(pk=deployment.pk)
    text = _canonical(config)
    faults = release_faults(deployment, config, version)
    if faults:
        raise Invalid("The release is not valid: nothing was changed.", errors=faults)
    digest = hashlib.sha256(text.encode()).hexdigest()
    same = deployment.releases.filter(digest=digest).first()
    if same is not None:
        if version and same.version != version:
            raise Conflict(f"Release {same.version} has this very config: a second name for it would only confuse.")
        return same
    version = version or _next_version(deployment)
    if deployment.releases.filter(version=version).exists():
        raise Conflict(f"{deployment.slug} has a release {version!r} with another config: releases never change.")
    made = Release.objects.create(
        deployment=deployment, version=version, digest=digest, config=config, notes=notes[:2000], author=by.name
    )
    summary = f"Made release {version} of {deployment.slug}"
    if deployment.stable_id is None:
        deployment.stable, deployment.step = made, deployment.step + 1
        deployment.save(update_fields=["stable", "step"])
        publish(by=by, deployment=deployment, summary=summary, after=config)
    _record(by, "release.created", deployment, summary, after=config)
    return made


@transaction.atomic
def create_with_release(
    *, by: Asker, slug: str, tenant: Tenant | None, description: Description, config: Any, version: str = ""
) -> Deployment:
    """Make a deployment and its first release, both or neither."""
    made = create_deployment(by=by, slug=slug, tenant=tenant, description=description)
    create_release(by=by, deployment=made, config=config, version=version)
    return made


def _next_version(deployment: Deployment) -> str:
    taken = set(deployment.releases.values_list("version", flat=True))
    number = len(taken) + 1
    while str(number) in taken:
        number += 1
    return str(number)


def _canonical(config: Any) -> str:
    try:
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise Invalid("The config is not JSON.", errors={"config": str(error)}) from None
    return text


def release_faults(deployment: Deployment, config: Any, version: str = "") -> dict[str, str]:
    """Return what is wrong with a config, by path, and with its version; ``Invalid`` when it is not JSON at all."""
    return _config_faults(config, _canonical(config), deployment) | _version_faults(version)


def _config_faults(config: Any, text: str, deployment: Deployment) -> dict[str, str]:
    if not isinstance(config, dict):
        return {"config": "must be an object"}
    if len(text) > MAX_CONFIG:
        return {"config": f"has {len(text):,} characters, at most {MAX_CONFIG:,} are allowed"}
    if "\\u0000" in text:
        return {"config": "has a NUL character"}
    return config_faults(config, deployment.schema) if deployment.schema is not None else {}


def _version_faults(version: str) -> dict[str, str]:
    fits = len(version) <= 40 and all(letter.isascii() and (letter.isalnum() or letter in "-_.+") for letter in version)
    return {} if fits else {"version": "has at most 40 letters, digits, and - _ . +"}


def publish(*, by: Asker, deployment: Deployment, summary: str, before: Any = None, after: Any = None) -> int:
    """Publish the snapshots that show a deployment; return the number of the revision."""
    return intent.publish(
        intent.Change(
            actor=by.name,
            kind="deployment",
            subject=deployment.slug,
            summary=summary,
            tenant_id=deployment.tenant_id,
            before=before,
            after=after,
        )
    )


def _record(
    by: Asker, action: str, deployment: Deployment, summary: str, *, after: Any = None, reason: str = ""
) -> None:
    record(
        by=by,
        action=action,
        target_kind="deployment",
        target=deployment.slug,
        tenant=deployment.tenant,
        summary=summary,
        after=after,
        reason=reason,
    )
