"""Pages of lists for programs: a cursor says where the next page goes on, whatever was added in the meantime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from controlplane.problems import Invalid

MOST = 200
Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True)
class Page:
    """Some items, and the cursor of the page after them, ``None`` at the end."""

    items: list[Any]
    next: str | None


def limited(limit: int) -> int:
    """Return ``limit``; ``Invalid`` when it is out of bounds."""
    if not 1 <= limit <= MOST:
        raise Invalid("The page can't be that long.", errors={"limit": f"must be from 1 to {MOST}"})
    return limit


def newest_first(rows: QuerySet[Row], *, cursor: str, limit: int) -> Page:
    """Return a page of ``rows`` by falling primary key."""
    if cursor:
        if not cursor.isdecimal():
            raise Invalid("Pass the cursor as it was given.", errors={"cursor": "is not one of ours"})
        rows = rows.filter(pk__lt=int(cursor))
    found = list(rows.order_by("-pk")[: limited(limit) + 1])
    more = len(found) > limit
    return Page(found[:limit], str(found[limit - 1].pk) if more else None)


def by_name(rows: QuerySet[Row], field: str, *, cursor: str, limit: int) -> Page:
    """Return a page of ``rows`` by rising ``field``, which must be unique among them."""
    if cursor:
        rows = rows.filter(**{f"{field}__gt": cursor})
    found = list(rows.order_by(field)[: limited(limit) + 1])
    more = len(found) > limit
    return Page(found[:limit], str(getattr(found[limit - 1], field)) if more else None)
