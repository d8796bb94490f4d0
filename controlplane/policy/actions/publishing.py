"""Publishing intent: a revision, and a new snapshot for every scope whose document differs, in the caller's transaction."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import orjson
from django.db import connection, transaction

from controlplane import live
from controlplane.domain.snapshots import Intent, TenantNode, compile_document
from controlplane.intent import Change
from controlplane.policy.models import Revision, Snapshot
from controlplane.policy.queries import current_intent
from controlplane.tenancy.models import SdkKey

# One publication at a time, so that revisions commit in the order of their numbers and no snapshot misses a change.
_LOCK = 7_365_201
SNAPSHOTS_KEPT = timedelta(days=35)


@transaction.atomic
def publish(change: Change) -> int:
    """Record ``change`` and store the snapshots that it alters; return the number of the revision."""
    _one_at_a_time()
    revision = Revision.objects.create(
        actor=change.actor,
        kind=change.kind,
        subject=change.subject,
        tenant_id=change.tenant_id,
        summary=change.summary,
        before=change.before,
        after=change.after,
    )
    intent = current_intent()
    for scope in _scopes_touched(intent, change.tenant_id):
        _store(intent, scope, revision)
    live.changed("intent")
    return revision.pk


@transaction.atomic
def ensure_snapshot(scope_id: int | None) -> None:
    """Store a snapshot for a scope that has none yet; ``None``: the installation. Does nothing for an archived tenant."""
    _one_at_a_time()
    if Snapshot.objects.filter(scope_id=scope_id).exists():
        return
    intent = current_intent()
    scopes = {tenant.id: tenant for tenant in intent.tenants}
    if scope_id is None or scope_id in scopes:
        _store(intent, scopes[scope_id] if scope_id else None, Revision.objects.order_by("-id").first())


def _one_at_a_time() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _scopes_touched(intent: Intent, tenant_id: int | None) -> list[TenantNode | None]:
    """Return the scopes with live keys that a change of ``tenant_id`` reaches: above it, itself, and below it."""
    keyed = set(SdkKey.objects.filter(revoked_at=None).values_list("tenant_id", flat=True))
    nodes = {tenant.id: tenant for tenant in intent.tenants}
    changed = nodes[tenant_id].lineage if tenant_id in nodes else ()
    touched: list[TenantNode | None] = [None]
    for node in intent.tenants:
        reached = tenant_id is None or tenant_id in node.lineage or node.id in changed or not changed
        if node.id in keyed and reached:
            touched.append(node)
    return touched


def _store(intent: Intent, scope: TenantNode | None, revision: Revision | None) -> None:
    """Store the snapshot of ``scope`` unless it is, but for the number of its revision, the one that is served already."""
    last = Snapshot.objects.filter(scope_id=scope.id if scope else None).order_by("-id").first()
    if last is not None:
        unchanged = orjson.dumps(compile_document(intent, scope, revision=last.revision_id or 0))
        if unchanged == bytes(last.body):
            return
    body = orjson.dumps(compile_document(intent, scope, revision=revision.pk if revision else 0))
    Snapshot.objects.create(
        scope_id=scope.id if scope else None, revision=revision, etag=hashlib.sha256(body).hexdigest(), body=body
    )


def forget_snapshots(*, now: datetime) -> int:
    """Delete snapshots that were replaced long ago; return how many. The newest of a scope is served however old it is."""
    newest = Snapshot.objects.order_by("scope_id", "-id").distinct("scope_id").values("pk")
    deleted, _ = Snapshot.objects.filter(created_at__lt=now - SNAPSHOTS_KEPT).exclude(pk__in=newest).delete()
    return deleted
