"""Management API: how accurate budgets are, and the leases that make them so."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Schema, Status

from controlplane.budgets.accuracy import Accuracy, Holding, accuracy, last_proof, leases_seen_by
from controlplane.budgets.actions import budgets, lease_acts, ledger
from controlplane.paging import limited
from controlplane.problems import Invalid
from controlplane.tenancy.bearer import asker
from controlplane.tenancy.queries import tenant_seen_by
from tidegate.core.price import format_usd, parse_usd

router = Router(tags=["budgets"])


class AccuracyOut(Schema):
    """Where a budget's money stands in its present period, and every way in which that could be wrong."""

    slug: str
    tenant: str | None
    guaranteed: bool
    amount_usd: str
    settled_usd: str
    presumed_usd: str
    in_flight_usd: str
    idle_usd: str
    unverified_usd: str
    free_usd: str
    stranded_usd: str
    overspend_usd: str
    overage_usd: str
    denied_calls: int
    false_refusals: int
    holders: int
    lost: int
    staleness_s: float | None


class ProofOut(Schema):
    """The last comparison of all counters with the ledger, of all tenants together."""

    at: datetime
    entries: int
    differences: int
    took_ms: int


class AccuracyList(Schema):
    items: list[AccuracyOut]
    proof: ProofOut | None
    next: str | None = None


class LeaseOut(Schema):
    """An open lease. ``budget`` is the leaf of its path."""

    incarnation: UUID
    number: int
    budget: str
    outstanding_usd: str
    in_flight_usd: str
    settled_usd: str
    lost: bool
    revoked: bool
    seen_at: datetime


class LeaseList(Schema):
    items: list[LeaseOut]
    next: str | None = None


class ReasonIn(Schema):
    reason: str


class ResolveIn(ReasonIn):
    spent_usd: str | None = None


def as_nusd(text: str, field: str = "amount_usd") -> int:
    """Read dollars of a request; ``Invalid`` names the field."""
    try:
        return parse_usd(text)
    except ValueError as error:
        raise Invalid("The amount is not one.", errors={field: str(error)}) from None


def _accurate(each: Accuracy, now: datetime) -> dict[str, Any]:
    document = budgets.document_of(each.budget)
    return {
        **{name: document[name] for name in ("slug", "tenant", "amount_usd")},
        "guaranteed": each.guaranteed,
        "settled_usd": format_usd(each.settled_nusd),
        "presumed_usd": format_usd(each.presumed_nusd),
        "in_flight_usd": format_usd(each.held_nusd),
        "idle_usd": format_usd(each.idle_nusd),
        "unverified_usd": format_usd(each.unverified_nusd),
        "free_usd": format_usd(each.free_nusd),
        "stranded_usd": format_usd(each.stranded_nusd),
        "overspend_usd": format_usd(each.overspend_nusd),
        "overage_usd": format_usd(each.overage_nusd),
        "denied_calls": each.denied_calls,
        "false_refusals": each.false_refusals,
        "holders": each.holders,
        "lost": each.lost,
        "staleness_s": (now - each.reported_at).total_seconds() if each.reported_at else None,
    }


@router.get("/usage/accuracy", response=AccuracyList)
def get_accuracy(request: HttpRequest, tenant: str | None = None) -> Any:
    """How accurate budgets are: what is proved, in flight, unverified, overspent or refused by mistake."""
    who, now = asker(request), timezone.now()
    if tenant is not None:
        tenant = tenant_seen_by(who, tenant).slug
    proof = last_proof()
    return {
        "items": [_accurate(each, now) for each in accuracy(who, now, tenant)],
        "proof": proof
        and {"at": proof.at, "entries": proof.entries, "differences": proof.difference_count, "took_ms": proof.took_ms},
    }


@router.post("/usage/accuracy/proof", response={201: ProofOut})
def prove_now(request: HttpRequest) -> Any:
    """Compare every counter with the ledger now, not only every night."""
    proof = ledger.prove_now(by=asker(request), now=timezone.now())
    return Status(
        201,
        {"at": proof.at, "entries": proof.entries, "differences": proof.difference_count, "took_ms": proof.took_ms},
    )


def _held(each: Holding) -> dict[str, Any]:
    return {
        "incarnation": each.lease.incarnation,
        "number": each.lease.number,
        "budget": each.budget.name,
        "outstanding_usd": format_usd(each.outstanding_nusd),
        "in_flight_usd": format_usd(each.lease.held_nusd),
        "settled_usd": format_usd(each.lease.settled_nusd),
        "lost": each.lost,
        "revoked": each.lease.revoked,
        "seen_at": each.lease.seen_at,
    }


@router.get("/leases/", response=LeaseList)
def list_leases(request: HttpRequest, limit: int = 50) -> Any:
    """Open leases with something left: those of lost holders first, then the greatest."""
    held = leases_seen_by(asker(request), timezone.now(), most=limited(limit))
    return {"items": [_held(each) for each in held]}


@router.post("/leases/{uuid:incarnation}/{int:number}/revoke", response={204: None})
def revoke_lease(request: HttpRequest, incarnation: UUID, number: int, body: ReasonIn) -> Any:
    """Close a lease: it grants no more; what its holder may still spend stays exposed until it reports."""
    now = timezone.now()
    lease_acts.revoke_lease(by=asker(request), incarnation=incarnation, number=number, reason=body.reason, now=now)
    return Status(204, None)


@router.post("/leases/{uuid:incarnation}/revoke", response={204: None})
def revoke_leases_of(request: HttpRequest, incarnation: UUID, body: ReasonIn) -> Any:
    """Close every lease of one client that you may see: they grant no more."""
    lease_acts.revoke_leases_of(by=asker(request), incarnation=incarnation, reason=body.reason, now=timezone.now())
    return Status(204, None)


@router.post("/leases/{uuid:incarnation}/{int:number}/resolve", response={204: None})
def resolve_lease(request: HttpRequest, incarnation: UUID, number: int, body: ResolveIn) -> Any:
    """End the lease of a lost holder: charge what it spent, all that is left if you don't know, and free the rest."""
    spent = None if body.spent_usd is None else as_nusd(body.spent_usd, "spent_usd")
    lease_acts.resolve_lease(
        by=asker(request),
        incarnation=incarnation,
        number=number,
        spent_nusd=spent,
        reason=body.reason,
        now=timezone.now(),
    )
    return Status(204, None)
