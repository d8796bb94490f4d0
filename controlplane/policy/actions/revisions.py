"""Going back to what was intended before."""

from __future__ import annotations

from django.db import transaction

from controlplane.policy.actions.policies import delete_policy, put_policy
from controlplane.policy.models import Revision
from controlplane.problems import Conflict
from controlplane.tenancy.queries import Asker


@transaction.atomic
def restore(*, by: Asker, revision: Revision) -> None:
    """Make the policy document that ``revision`` set the current one again, as a new revision."""
    if revision.kind != "policy":
        raise Conflict("Only policies can be restored; change the other things where they are shown.")
    route = revision.subject.partition("/")[2]
    reason = f"Restored revision {revision.pk}"
    if revision.after is None:
        delete_policy(by=by, tenant=revision.tenant, route=route, reason=reason)
    else:
        put_policy(by=by, tenant=revision.tenant, route=route, document=revision.after, reason=reason)
