"""Management API: what is done with models that have no price, and what another price book would make of past usage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from controlplane.budgets.actions.unknown_models import set_unknown_models
from controlplane.budgets.models import PriceBook, UnknownModels
from controlplane.budgets.pricing import Change
from controlplane.budgets.repricing import Repriced, reprice
from controlplane.tenancy.bearer import asker
from tidegate.core.price import format_usd

router = Router(tags=["budgets"])


class Family(Schema):
    pattern: str | dict[str, Any]
    rates: dict[str, str]


class UnknownModelsIn(Schema):
    policy: str
    rates: dict[str, str] = Field(default_factory=dict)
    families: list[Family] = Field(default_factory=list)


class UnknownModelsOut(UnknownModelsIn):
    set_by: str = ""


class RepricedOut(Schema):
    """One model: what was charged, what the other book would have charged, and how exact that is."""

    model: str
    calls: int
    usage: dict[str, int]
    charged_usd: str
    repriced_usd: str
    difference_usd: str
    tiers: bool
    unpriced: bool


class RepricingOut(Schema):
    book: str
    source: str
    first_day: date
    last_day: date
    charged_usd: str
    repriced_usd: str
    difference_usd: str
    items: list[RepricedOut]


class BookOut(Schema):
    etag: str
    source: str
    created_at: datetime


class BookList(Schema):
    items: list[BookOut]


class ChangedOut(Schema):
    """One model whose price an upload changes, and what that would have made of the calls of the last 30 days."""

    model: str
    kind: str
    before: dict[str, str] | None
    after: dict[str, str] | None
    calls: int
    charged_usd: str
    repriced_usd: str
    difference_usd: str
    vanishes: bool


class UploadOut(Schema):
    applied: bool
    changed: int
    difference_usd: str
    items: list[ChangedOut]


_ROWS = {"type": "array", "items": {"type": "object", "properties": {
    "model": {"type": "string"}, "rates": {"type": "object", "additionalProperties": {"type": "string"}}}}}  # fmt: skip
UPLOAD = {"requestBody": {"required": True, "content": {
    "application/json": {"schema": _ROWS}, "text/csv": {"schema": {"type": "string"}}}}}  # fmt: skip


def told(changes: Sequence[Change], *, applied: bool) -> dict[str, Any]:
    """Return what an upload changes, as it is told: the costliest change first."""
    items = [
        {
            "model": each.model,
            "kind": each.kind,
            "before": each.before,
            "after": each.after,
            "calls": each.calls,
            "charged_usd": format_usd(each.charged_nusd),
            "repriced_usd": format_usd(each.repriced_nusd),
            "difference_usd": format_usd(each.difference_nusd),
            "vanishes": each.vanishes,
        }
        for each in changes
    ]
    difference = sum(each.difference_nusd for each in changes)
    return {"applied": applied, "changed": len(items), "difference_usd": format_usd(difference), "items": items}


@router.get("/unknown-models/", response=UnknownModelsOut)
def get_unknown_models(request: HttpRequest) -> Any:
    """What is done with calls whose model has no price."""
    asker(request)
    rule = UnknownModels.objects.first() or UnknownModels()
    return {**rule.document, "set_by": rule.set_by}


@router.put("/unknown-models/", response=UnknownModelsOut)
def put_unknown_models(request: HttpRequest, body: UnknownModelsIn) -> Any:
    """Charge calls of models without a price an estimate, refuse them, or let them cost nothing."""
    families = [family.dict() for family in body.families]
    rule = set_unknown_models(by=asker(request), policy=body.policy, rates=body.rates, families=families)
    return {**rule.document, "set_by": rule.set_by}


@router.get("/price-books/", response=BookList)
def list_price_books(request: HttpRequest) -> Any:
    """The last fifty price books, the newest first."""
    asker(request)
    return {"items": list(PriceBook.objects.order_by("-id").defer("body")[:50])}


@router.get("/prices/reprice", response=RepricingOut)
def reprice_usage(
    request: HttpRequest,
    book: str = "newest",
    days: Annotated[int, Query(ge=1, le=3660)] = 30,
    tenant: str = "",
    charged_by: str = "",
) -> Any:
    """What another price book (its etag, or the start of it) would make of the usage of past days, by model. Changes nothing."""
    made = reprice(
        asker(request),
        book=book,
        today=timezone.now().date(),
        days=days,
        tenant=tenant or None,
        charged_by=charged_by or None,
    )
    charged = sum(each.charged_nusd for each in made.models)
    repriced = sum(each.repriced_nusd for each in made.models)
    return {
        "book": made.book,
        "source": made.source,
        "first_day": made.first_day,
        "last_day": made.last_day,
        "charged_usd": format_usd(charged),
        "repriced_usd": format_usd(repriced),
        "difference_usd": format_usd(repriced - charged),
        "items": [_out(each) for each in made.models],
    }


def _out(each: Repriced) -> dict[str, Any]:
    return {
        "model": each.model,
        "calls": each.calls,
        "usage": each.usage,
        "charged_usd": format_usd(each.charged_nusd),
        "repriced_usd": format_usd(each.repriced_nusd),
        "difference_usd": format_usd(each.difference_nusd),
        "tiers": each.tiers,
        "unpriced": each.unpriced,
    }
