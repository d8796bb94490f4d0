"""The audit trail: who did what, when, why, and what it was before."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import AuditEntry
from dashboard.asking import Asking
from dashboard.diffs import Line, lines_of
from dashboard.page import Context, Page, Params

SIZE = 50
KINDS = (
    "breaker",
    "budget",
    "capture",
    "channel",
    "deployment",
    "freeze",
    "key",
    "lease",
    "ledger",
    "operator",
    "policy",
    "price",
    "rollout",
    "rule",
    "silence",
    "slo",
    "state",
    "state-rule",
    "state-session",
    "state-shared",
    "state-user",
    "tenant",
    "token",
)


def build(asking: Asking, params: Params) -> Context:
    wanted = _wanted(tenancy.audit_seen_by(asking.asker), params)
    found = list(wanted[: SIZE + 1])
    chosen = _chosen(tenancy.audit_seen_by(asking.asker), params.value("entry"))
    return {
        "title": "Audit",
        "entries": found[:SIZE],
        "next": str(found[SIZE - 1].pk) if len(found) > SIZE else "",
        "kinds": KINDS,
        "chosen": chosen,
        "diff": _diff(chosen) if chosen else [],
        "filtered": any(params.value(name) for name in ("q", "kind", "actor", "tenant")),
    }


def _wanted(entries: QuerySet[AuditEntry], params: Params) -> QuerySet[AuditEntry]:
    filters: dict[str, Any] = {
        "target_kind": params.value("kind"),
        "actor": params.value("actor"),
        "tenant__slug": params.value("tenant"),
    }
    entries = entries.filter(**{name: value for name, value in filters.items() if value})
    text = params.value("q")
    if text:
        entries = entries.filter(Q(summary__icontains=text) | Q(target__icontains=text) | Q(reason__icontains=text))
    cursor = params.value("cursor")
    return entries.filter(pk__lt=int(cursor)) if cursor.isdecimal() and len(cursor) < 19 else entries


def _chosen(entries: QuerySet[AuditEntry], number: str) -> AuditEntry | None:
    return entries.filter(pk=int(number)).first() if number.isdecimal() and len(number) < 19 else None


def _diff(entry: AuditEntry) -> list[Line]:
    return lines_of(entry.before, entry.after)


PAGE = Page(
    name="audit",
    section="audit",
    template="pages/audit.html",
    parts={"audit_list": "audit/list.html", "audit_entry": "audit/entry.html"},
    build=build,
    params=frozenset({"q", "kind", "actor", "tenant", "cursor", "entry"}),
)
