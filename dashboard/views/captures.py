"""Prompts and replies: kept, or not."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from controlplane.telemetry.actions import capture
from controlplane.tenancy import queries
from controlplane.tenancy.models import Role
from dashboard.forms import Form
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind


@acting
def put(request: HttpRequest, slug: str = "") -> HttpResponse:
    """Say whether what a tenant's callers say is kept, or what all of them do."""
    asker = asker_behind(request)
    asker.must(Role.ADMIN)
    tenant = queries.tenant_if_named(asker, slug)

    def do(form: Form) -> str:
        keeps = form.text("keeps")
        if keeps in ("yes", "no"):
            patterns = [line.strip() for line in form.text("redact").splitlines() if line.strip()]
            capture.put_capture(by=asker, tenant=tenant, keeps=keeps == "yes", redact=patterns)
        else:
            capture.drop_capture(by=asker, tenant=tenant)
        kept = {"yes": "are kept from now on, redacted", "no": "are not kept"}.get(
            keeps, "are kept as it is said further up"
        )
        say(request, f"Prompts and replies {kept}.")
        return reverse("tenant", kwargs={"slug": slug}) if slug else reverse("settings")

    page, params = ("tenant", {"slug": slug}) if slug else ("settings", {})
    return submit(request, do, page=page, params=params, form="capture_form")
