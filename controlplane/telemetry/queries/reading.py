"""What all reads of telemetry share: which tenants an asker reads, and rows out of SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connection

from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import Asker, slugs_seen_by


def slugs_read(asker: Asker, tenant: str | None) -> list[str] | None:
    """Return the slugs to read: those of ``tenant``'s subtree within the asker's scope; ``None`` for all there are."""
    seen = slugs_seen_by(asker)
    if not tenant:
        return seen
    root = Tenant.objects.filter(slug=tenant).values_list("pk", flat=True).first()
    under = list(Tenant.objects.filter(lineage__contains=[root]).values_list("slug", flat=True)) if root else [tenant]
    return under if seen is None else [slug for slug in under if slug in set(seen)]


def where(slugs: list[str] | None, **equal: str | None) -> tuple[str, list[Any]]:
    """Return the rest of a WHERE clause and its parameters."""
    clauses, values = [], list[Any]()
    if slugs is not None:
        clauses.append("AND tenant = ANY(%s)")
        values.append(slugs)
    for column, value in equal.items():
        if value:
            clauses.append(f"AND {column} = %s")
            values.append(value)
    return " ".join(clauses), values


def rows(sql: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values))
        return list(cursor.fetchall())
