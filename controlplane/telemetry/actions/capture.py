"""Whether prompts and replies are kept, and what is masked in them: said for a tenant and those below it, or for all."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from controlplane.problems import Forbidden, Invalid
from controlplane.telemetry.models import Capture
from controlplane.telemetry.redaction import MAX_RULES, fault_of
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker


def _may(by: Asker, tenant: Tenant | None) -> None:
    by.must(Role.ADMIN)
    if tenant is None and by.tenant is not None:
        raise Forbidden("What holds for the whole installation is not yours to say: name a tenant.")


@transaction.atomic
def put_capture(*, by: Asker, tenant: Tenant | None, keeps: bool, redact: Sequence[str] = ()) -> Capture:
    """Keep what is said from now on, with what ``redact`` matches masked, or keep nothing of it.

    Edges know within seconds. What was kept before stays until its time is over. ``Invalid`` names a pattern that can't be used.
    """
    _may(by, tenant)
    patterns = list(dict.fromkeys(redact))
    if len(patterns) > MAX_RULES:
        raise Invalid("There are too many patterns.", errors={"redact": f"may have {MAX_RULES}"})
    for pattern in patterns:
        fault = fault_of(pattern)
        if fault is not None:
            raise Invalid("A pattern can't be used.", errors={"redact": f"{pattern[:60]!r} {fault}"})
    found = Capture.objects.select_for_update().filter(tenant=tenant).first()
    before = None if found is None else {"keeps": found.keeps, "redact": found.redact}
    capture, _ = Capture.objects.update_or_create(tenant=tenant, defaults={"keeps": keeps, "redact": patterns})
    _noted(by, tenant, "Keep" if keeps else "Don't keep", before, {"keeps": keeps, "redact": patterns})
    return capture


@transaction.atomic
def drop_capture(*, by: Asker, tenant: Tenant | None) -> None:
    """Let what is said further up hold again; at the top: nothing is kept."""
    _may(by, tenant)
    found = Capture.objects.select_for_update().filter(tenant=tenant).first()
    if found is None:
        return
    before = {"keeps": found.keeps, "redact": found.redact}
    found.delete()
    _noted(by, tenant, "No longer say whether to keep", before, None)


def _noted(by: Asker, tenant: Tenant | None, what: str, before: object, after: object) -> None:
    whose = tenant.slug if tenant else "all tenants"
    record(
        by=by,
        action="capture.changed",
        target_kind="capture",
        target=whose,
        tenant=tenant,
        summary=f"{what} prompts and replies of {whose}",
        before=before,
        after=after,
    )
