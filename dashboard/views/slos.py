"""Service levels: made, changed, taken away."""

from __future__ import annotations

from urllib.parse import urlencode

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from controlplane.alerting.actions import configuring
from controlplane.alerting.models import RuleKind, Slo
from controlplane.problems import Invalid
from controlplane.tenancy import queries as tenancy
from controlplane.tenancy.models import Role
from dashboard.forms import Form
from dashboard.pages.slos import named
from dashboard.rule_forms import number
from dashboard.views.acts import acting, say, submit
from dashboard.views.show import asker_behind


@acting
def put(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)
    asker.must(Role.OPERATOR)
    known = request.POST.get("slo", "")

    @transaction.atomic
    def do(form: Form) -> str:
        tenant = tenancy.tenant_if_named(asker, form.text("tenant"))
        before = named(asker, known) if known else None
        slug = before.slug if before else form.text("slug")
        if before is None and Slo.objects.filter(tenant=tenant, slug=slug, archived_at=None).exists():
            raise Invalid("There is a service level of that name already.", errors={"slug": "is taken"})
        slo = configuring.put_slo(
            by=asker,
            tenant=before.tenant if before else tenant,
            slug=slug,
            name=form.text("name"),
            kind=form.text("kind"),
            objective=number("objective", form.text("objective").replace("%", "")) / 100,
            threshold=number("threshold", form.text("threshold")) if form.text("threshold") else None,
            route=form.text("route"),
            model=form.text("model"),
            days=form.whole("days") or 0,
        )
        if before is None and form.text("rule") == "yes":
            configuring.put_rule(
                by=asker, tenant=tenant, slug=f"{slug}-burns"[:64], name=f"{slo.name} burns its error budget"[:120],
                kind=RuleKind.BURN_RATE, spec={"slo": slug}, severity="page", keep_firing_s=300, every_s=60,
            )  # fmt: skip
        say(request, f"{slo.name} is measured over the last {slo.days} days from now on.")
        return f"{reverse('slos')}?{urlencode({'slo': slo.full_name})}"

    return submit(request, do, page="slo-edit", params={"slo": known, "tenant": request.POST.get("tenant", "")})


@acting
def archive(request: HttpRequest) -> HttpResponse:
    asker = asker_behind(request)

    def do(form: Form) -> str:
        slo = named(asker, form.text("slo"))
        configuring.archive_slo(by=asker, slo=slo, now=timezone.now())
        say(request, f"{slo.name} is measured no more.")
        return reverse("slos")

    return submit(request, do, page="slos")
