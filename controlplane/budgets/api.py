"""Management API: budgets and prices. Money is decimal dollars as text."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from controlplane.budgets import queries
from controlplane.budgets.actions import budgets, prices
from controlplane.budgets.actions.corrections import take_back
from controlplane.budgets.api_accuracy import as_nusd
from controlplane.budgets.api_accuracy import router as accuracy_router
from controlplane.budgets.api_prices import UPLOAD, UploadOut, told
from controlplane.budgets.models import PriceOverride
from controlplane.budgets.price_rows import read_prices
from controlplane.budgets.queries import Standing
from controlplane.domain.carry import CarryRule
from controlplane.paging import by_name
from controlplane.tenancy.bearer import asker
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import Asker, tenant_seen_by
from tidegate.core.price import format_usd

router = Router(tags=["budgets"])
router.add_router("", accuracy_router)


class Said(Schema):
    """What somebody says of money: a part whose name is not known is refused, or it would go unheard."""

    model_config = ConfigDict(extra="forbid")


class CarryIn(Said):
    """What a calendar budget takes along: unused up to a cap, and overspend as a debt."""

    unused_up_to_usd: str = "0"
    debt: bool = False


class BudgetIn(Said):
    slug: str
    amount_usd: str
    period: dict[str, Any]
    match: dict[str, Any] = Field(default_factory=dict)
    on_exhausted: str = "block"
    on_disconnect: str = "stop"
    carry: CarryIn = Field(default_factory=CarryIn)
    strict: bool = True
    on_overrun: str = "finish"
    thresholds: list[int] = Field(default_factory=list)


class AmountIn(Said):
    amount_usd: str
    reason: str = ""


class TakeBackIn(Said):
    """What was charged by mistake, and why it is one."""

    amount_usd: str
    reason: str


class BudgetOut(Schema):
    """A budget and how it stands in its present period."""

    slug: str
    tenant: str | None
    amount_usd: str
    period: dict[str, Any]
    match: dict[str, str]
    on_exhausted: str
    on_disconnect: str
    carry: CarryIn
    strict: bool
    on_overrun: str
    thresholds: list[int]
    carried_usd: str
    spent_usd: str
    leased_usd: str
    free_usd: str
    ends_at: datetime | None
    exhausted_at: datetime | None


class BudgetList(Schema):
    items: list[BudgetOut]
    next: str | None = None


class EffectOut(Schema):
    """What a change of the amount would do."""

    amount_usd: str
    free_usd: str
    over_usd: str
    at_risk_usd: str
    drains_within_s: float
    clients: int


class ReservationIn(Said):
    """``strict``: calls hold the worst case. ``on_overrun``: what becomes of a call that needs more than is left."""

    strict: bool
    on_overrun: str = "finish"


class OptionsIn(Said):
    """What is left out stays as it is."""

    on_exhausted: str | None = None
    on_disconnect: str | None = None
    carry: CarryIn | None = None
    strict: bool | None = None
    on_overrun: str | None = None
    thresholds: list[int] | None = None
    reason: str = ""


class PriceIn(Said):
    rates: dict[str, str]


class PriceOut(Schema):
    model: str
    rates: dict[str, str]
    created_by: str
    created_at: datetime


class PricePage(Schema):
    items: list[PriceOut]
    next: str | None


def _out(standing: Standing) -> dict[str, Any]:
    free = standing.amount_nusd - standing.spent_nusd - standing.leased_nusd
    return {
        **budgets.document_of(standing.budget),
        "carried_usd": format_usd(standing.carried_nusd),
        "spent_usd": format_usd(standing.spent_nusd),
        "leased_usd": format_usd(standing.leased_nusd),
        "free_usd": format_usd(free),
        "ends_at": standing.period.ends_at,
        "exhausted_at": standing.exhausted_at,
    }


def _list(who: Asker, tenant: Tenant | None) -> dict[str, Any]:
    standings = queries.standings(who, timezone.now())
    wanted = tenant.pk if tenant else None
    return {"items": [_out(standing) for standing in standings if standing.budget.tenant_id == wanted]}


def _create(who: Asker, tenant: Tenant | None, body: BudgetIn) -> dict[str, Any]:
    now = timezone.now()
    budget = budgets.create_budget(
        by=who,
        tenant=tenant,
        slug=body.slug,
        amount_nusd=as_nusd(body.amount_usd),
        period=body.period,
        match=body.match,
        on_exhausted=body.on_exhausted,
        on_disconnect=body.on_disconnect,
        carry=CarryRule(as_nusd(body.carry.unused_up_to_usd, "carry.unused_up_to_usd"), body.carry.debt),
        strict=body.strict,
        on_overrun=body.on_overrun,
        thresholds=body.thresholds,
        now=now,
    )
    return _out(queries.standing_of(budget, now))


def _change(who: Asker, slug: str | None, name: str, body: AmountIn) -> dict[str, Any]:
    budget = queries.budget_seen_by(who, slug, name)
    now = timezone.now()
    budgets.change_amount(by=who, budget=budget, amount_nusd=as_nusd(body.amount_usd), reason=body.reason, now=now)
    return _out(queries.standing_of(budget, now))


def _take_back(who: Asker, slug: str | None, name: str, body: TakeBackIn) -> dict[str, Any]:
    budget = queries.budget_seen_by(who, slug, name)
    now = timezone.now()
    take_back(by=who, budget=budget, amount_nusd=as_nusd(body.amount_usd), reason=body.reason, now=now)
    return _out(queries.standing_of(budget, now))


def _reserve(who: Asker, slug: str | None, name: str, body: ReservationIn) -> dict[str, Any]:
    budget = queries.budget_seen_by(who, slug, name)
    budgets.change_reservation(by=who, budget=budget, strict=body.strict, on_overrun=body.on_overrun)
    return _out(queries.standing_of(budget, timezone.now()))


def _options(who: Asker, slug: str | None, name: str, body: OptionsIn) -> dict[str, Any]:
    budget = queries.budget_seen_by(who, slug, name)
    now = timezone.now()
    said = body.dict(exclude_none=True, exclude={"carry", "reason"})
    kept = {
        field: getattr(budget, field)
        for field in ("on_exhausted", "on_disconnect", "strict", "on_overrun", "thresholds")
    }
    carry = budget.carry
    if body.carry is not None:
        carry = CarryRule(as_nusd(body.carry.unused_up_to_usd, "carry.unused_up_to_usd"), body.carry.debt)
    budgets.change_options(by=who, budget=budget, carry=carry, reason=body.reason, now=now, **{**kept, **said})
    return _out(queries.standing_of(budget, now))


def _effect(who: Asker, slug: str | None, name: str, amount_usd: str) -> dict[str, Any]:
    budget = queries.budget_seen_by(who, slug, name)
    effect = queries.preview_amount(budget, as_nusd(amount_usd), timezone.now())
    return {
        "amount_usd": format_usd(effect.amount_nusd),
        "free_usd": format_usd(effect.free_nusd),
        "over_usd": format_usd(effect.over_nusd),
        "at_risk_usd": format_usd(effect.at_risk_nusd),
        "drains_within_s": effect.drains_within_s,
        "clients": effect.clients,
    }


@router.get("/tenants/{slug}/budgets/", response=BudgetList)
def list_budgets(request: HttpRequest, slug: str) -> Any:
    """A tenant's own budgets and how they stand."""
    who = asker(request)
    return _list(who, tenant_seen_by(who, slug))


@router.post("/tenants/{slug}/budgets/", response={201: BudgetOut})
def create_budget(request: HttpRequest, slug: str, body: BudgetIn) -> Any:
    """Create a budget for a tenant and everything below it."""
    who = asker(request)
    return Status(201, _create(who, tenant_seen_by(who, slug), body))


@router.get("/tenants/{slug}/budgets/{budget}/", response=BudgetOut)
def get_budget(request: HttpRequest, slug: str, budget: str) -> Any:
    """One budget and how it stands."""
    return _out(queries.standing_of(queries.budget_seen_by(asker(request), slug, budget), timezone.now()))


@router.delete("/tenants/{slug}/budgets/{budget}/", response={204: None})
def archive_budget(request: HttpRequest, slug: str, budget: str) -> Any:
    """Archive a budget: it stops governing calls."""
    who = asker(request)
    budgets.archive_budget(by=who, budget=queries.budget_seen_by(who, slug, budget), now=timezone.now())
    return Status(204, None)


@router.post("/tenants/{slug}/budgets/{budget}/amount", response=BudgetOut)
def change_amount(request: HttpRequest, slug: str, budget: str, body: AmountIn) -> Any:
    """Raise or lower a budget; callers obey with their next sync."""
    return _change(asker(request), slug, budget, body)


@router.post("/tenants/{slug}/budgets/{budget}/take-back", response=BudgetOut)
def take_back_charge(request: HttpRequest, slug: str, budget: str, body: TakeBackIn) -> Any:
    """Take back what was charged by mistake in the present period, from every budget that was charged with it."""
    return _take_back(asker(request), slug, budget, body)


@router.post("/budgets/{budget}/take-back", response=BudgetOut)
def take_back_installation_charge(request: HttpRequest, budget: str, body: TakeBackIn) -> Any:
    """The same for one of the installation's own budgets."""
    return _take_back(asker(request), None, budget, body)


@router.put("/tenants/{slug}/budgets/{budget}/reservation", response=BudgetOut)
def change_reservation(request: HttpRequest, slug: str, budget: str, body: ReservationIn) -> Any:
    """Say what calls hold of a budget: the worst case, or what such calls used to need and more as they stream."""
    return _reserve(asker(request), slug, budget, body)


@router.put("/budgets/{budget}/reservation", response=BudgetOut)
def change_installation_reservation(request: HttpRequest, budget: str, body: ReservationIn) -> Any:
    """The same for one of the installation's own budgets."""
    return _reserve(asker(request), None, budget, body)


@router.patch("/tenants/{slug}/budgets/{budget}/", response=BudgetOut)
def change_options(request: HttpRequest, slug: str, budget: str, body: OptionsIn) -> Any:
    """Change everything of a budget but its amount, its period and what it matches."""
    return _options(asker(request), slug, budget, body)


@router.patch("/budgets/{budget}/", response=BudgetOut)
def change_installation_options(request: HttpRequest, budget: str, body: OptionsIn) -> Any:
    """The same for one of the installation's own budgets."""
    return _options(asker(request), None, budget, body)


@router.get("/tenants/{slug}/budgets/{budget}/effect", response=EffectOut)
def preview_amount(request: HttpRequest, slug: str, budget: str, amount_usd: str) -> Any:
    """What a change of the amount would do, without doing it."""
    return _effect(asker(request), slug, budget, amount_usd)


@router.get("/budgets/", response=BudgetList)
def list_installation_budgets(request: HttpRequest) -> Any:
    """The installation's own budgets."""
    return _list(asker(request), None)


@router.post("/budgets/", response={201: BudgetOut})
def create_installation_budget(request: HttpRequest, body: BudgetIn) -> Any:
    """Create a budget for all tenants together."""
    return Status(201, _create(asker(request), None, body))


@router.get("/budgets/{budget}/", response=BudgetOut)
def get_installation_budget(request: HttpRequest, budget: str) -> Any:
    """One of the installation's own budgets."""
    return _out(queries.standing_of(queries.budget_seen_by(asker(request), None, budget), timezone.now()))


@router.delete("/budgets/{budget}/", response={204: None})
def archive_installation_budget(request: HttpRequest, budget: str) -> Any:
    """Archive one of the installation's own budgets."""
    who = asker(request)
    budgets.archive_budget(by=who, budget=queries.budget_seen_by(who, None, budget), now=timezone.now())
    return Status(204, None)


@router.post("/budgets/{budget}/amount", response=BudgetOut)
def change_installation_amount(request: HttpRequest, budget: str, body: AmountIn) -> Any:
    """Raise or lower one of the installation's own budgets."""
    return _change(asker(request), None, budget, body)


@router.get("/prices/", response=PricePage)
def list_prices(request: HttpRequest, cursor: str = "", limit: int = 50) -> Any:
    """The operators' own prices, which go before the price list's."""
    asker(request)
    return by_name(PriceOverride.objects.all(), "model", cursor=cursor, limit=limit)


@router.post("/prices/", response=UploadOut, openapi_extra=UPLOAD)
def upload_prices(
    request: HttpRequest, mode: Literal["merge", "replace"] = "merge", preview: bool = False, free: bool = False
) -> Any:
    """Set the prices of many models at once, all or none: rows of JSON or CSV.

    ``preview`` tells what they would change, and what they would have made of the calls of the last 30 days, and changes nothing.
    ``replace``: models that are not named lose their own price. ``free``: a price of nothing is meant.
    """
    wanted = read_prices(request.body, request.content_type or "", free=free)
    by, now, replace = asker(request), timezone.now(), mode == "replace"
    if preview:
        return told(prices.preview_prices(by=by, prices=wanted, replace=replace, now=now), applied=False)
    if replace:
        return told(prices.replace_overrides(by=by, prices=wanted, now=now), applied=True)
    return told(prices.merge_overrides(by=by, prices=wanted, now=now), applied=True)


@router.put("/prices/{path:model}", response=PriceOut)
def set_price(request: HttpRequest, model: str, body: PriceIn) -> Any:
    """Set the price of a model in dollars by class of usage: input, cached_input, output, cache_write, … (docs/protocol.md)."""
    return prices.set_override(by=asker(request), model=model, rates=body.rates)


@router.delete("/prices/{path:model}", response={204: None})
def delete_price(request: HttpRequest, model: str) -> Any:
    """Let the list price of a model count again."""
    prices.delete_override(by=asker(request), model=model)
    return Status(204, None)
