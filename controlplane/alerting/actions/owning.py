"""What all who change something of alerts do: ask whose it is, and note what was done."""

from __future__ import annotations

from typing import Any

from controlplane.alerting.models import Channel, Rule, Silence, Slo
from controlplane.problems import Forbidden, Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import Asker

_WORDS = {"slo": "service level"}


def must_own(by: Asker, tenant: Tenant | None) -> None:
    """Let only those change what is a tenant's, or with ``None`` the installation's own, who may; ``Forbidden`` for others."""
    by.must(Role.OPERATOR)
    if tenant is None and by.tenant is not None:
        raise Forbidden("The installation's own are not yours to make: name a tenant.")


def noted(by: Asker, verb: str, kind: str, row: Rule | Channel | Silence | Slo, name: str, **more: Any) -> None:
    """Write an audit entry: ``kind`` and ``name`` say what was ``verb`` (created, changed, archived…)."""
    record(
        by=by,
        action=f"{kind}.{verb}",
        target_kind=kind,
        target=name,
        tenant=row.tenant,
        summary=f"{verb.replace('_', ' ').capitalize()} {_WORDS.get(kind, kind)} {name}"[:300],
        **more,
    )


def one_of(value: str, known: Any, field: str) -> str:
    """Return ``value`` when it is one of those ``known``; else ``Invalid`` names ``field``."""
    if value not in list(known):
        raise Invalid(
            "A choice is not known.", errors={field: f"must be one of {', '.join(str(each) for each in known)}"}
        )
    return value
