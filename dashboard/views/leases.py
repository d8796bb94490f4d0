"""Leases: revoked, and resolved when their holders are lost."""

from __future__ import annotations

from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from controlplane.budgets.actions.lease_acts import resolve_lease, revoke_lease, revoke_leases_of
from controlplane.budgets.actions.ledger import prove_now
from controlplane.problems import NotFound
from dashboard.forms import Form
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind


def _key(name: str) -> tuple[UUID, int]:
    incarnation, _, number = name.partition("/")
    try:
        return UUID(incarnation), int(number[:18])
    except ValueError:
        raise NotFound("There is no such lease.") from None


@acting
def prove(request: HttpRequest) -> HttpResponse:
    """Prove the ledger now."""
    asker = asker_behind(request)

    def do(_form: Form) -> str:
        proof = prove_now(by=asker, now=timezone.now())
        found = f"{proof.difference_count} counters differ" if proof.difference_count else "all counters agree"
        say(request, f"Proved in {proof.took_ms} ms: {found} with what {proof.entries:,} entries come to.")
        return reverse("accuracy") + "#accuracy_proof"

    return submit(request, do, page="accuracy", form="proof_form")


@acting
def revoke(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    name = request.POST.get("lease", "")

    def do(form: Form) -> str:
        incarnation, number = _key(name)
        revoke_lease(by=asker, incarnation=incarnation, number=number, reason=form.text("reason"), now=timezone.now())
        say(request, "The lease is revoked. Its holder gives back what is left with its next sync.")
        return reverse("accuracy")

    return submit(request, do, page="accuracy", params={"lease": name}, form="lease_form")


@acting
def revoke_client(request: HttpRequest) -> HttpResponse:
    """Revoke all leases of one client."""
    asker = asker_behind(request)
    client = request.POST.get("client", "")

    def do(form: Form) -> str:
        try:
            incarnation = UUID(client)
        except ValueError:
            raise NotFound("There is no such client.") from None
        count = revoke_leases_of(by=asker, incarnation=incarnation, reason=form.text("reason"), now=timezone.now())
        say(
            request,
            f"{count} lease{'s are' if count != 1 else ' is'} revoked. The client gives back what is left with its next sync.",
        )
        return f"{reverse('clients')}?{urlencode({'client': client})}#client_detail"

    return submit(request, do, page="clients", params={"client": client}, form="revoke_form")


@acting
def resolve(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    name = request.POST.get("lease", "")

    def do(form: Form) -> str:
        incarnation, number = _key(name)
        spent = form.nusd("spent_usd") if form.text("spent_usd") else None
        reason = form.text("reason")
        resolve_lease(
            by=asker, incarnation=incarnation, number=number, spent_nusd=spent, reason=reason, now=timezone.now()
        )
        say(request, "The lease is resolved: it is neither leased nor unverified any more.")
        return reverse("accuracy")

    return submit(request, do, page="accuracy", params={"lease": name}, form="lease_form")
