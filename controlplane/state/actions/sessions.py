"""What operators do to one session: end it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from controlplane import live
from controlplane.state.actions.owners import erase_owner
from controlplane.state.lookup import space_of
from controlplane.state.models import EndedSession
from controlplane.state.queries import rule_of
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker


def end_session(*, by: Asker, tenant: str, session: str, now: datetime, reason: str = "") -> int:
    """End a session: what it has is erased on every tier, and whoever uses it next is told that it starts afresh.

    Return how many values it had. For as long as it would have lived unused, its next uses are told so.
    """
    by.must(Role.OPERATOR)
    space_of(by, tenant, "session", session)
    rule, _ = rule_of(Tenant.objects.filter(slug=tenant).first())
    with transaction.atomic():
        EndedSession.objects.filter(tenant=tenant, session=session).delete()
        EndedSession.objects.create(
            tenant=tenant, session=session, ended_at=now, until=now + timedelta(seconds=rule.session_ttl_s)
        )
        live.changed("state")
    return erase_owner(by=by, tenant=tenant, kind="session", owner=session, reason=reason or "the session was ended")


def forget_ended(*, now: datetime) -> None:
    """Forget ends that nobody needs to be told of any more."""
    EndedSession.objects.filter(until__lt=now).delete()
