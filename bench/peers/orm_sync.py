"""What a careful team writes first: a django-ninja endpoint, the ORM, one transaction and row locks per sync."""

from __future__ import annotations

import os
import sys
from types import ModuleType

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

from django.conf import settings

settings.MIDDLEWARE = []
settings.ROOT_URLCONF = "bench_orm_urls"
settings.ALLOWED_HOSTS = ["*"]

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import timezone
from ninja import NinjaAPI, Schema

from controlplane.budgets.models import Account, Budget, Lease
from controlplane.tenancy.models import SdkKey
from controlplane.tenancy.secrets import proves, sdk_selector


class LeaseIn(Schema):
    number: int
    budgets: list[int]
    settled: int
    returned: int
    held: int
    want: int
    min_useful: int


class SyncIn(Schema):
    incarnation: UUID
    seq: int
    leases: list[LeaseIn]


api = NinjaAPI(docs_url=None, openapi_url=None)


@api.post("/sync")
def sync(request: HttpRequest, body: SyncIn) -> dict[str, object]:
    text = request.headers.get("Authorization", "")[7:]
    key = SdkKey.objects.get(selector=sdk_selector(text), revoked_at=None)
    if not proves(text, bytes(key.digest)):
        raise PermissionError
    answers = []
    with transaction.atomic():
        for line in body.leases:
            lease, _ = Lease.objects.select_for_update().get_or_create(
                incarnation=body.incarnation, number=line.number, defaults={"path": []}
            )
            for budget in Budget.objects.filter(pk__in=line.budgets):
                Account.objects.get_or_create(budget=budget, period_key="total")
            accounts = list(Account.objects.select_for_update().filter(budget__in=line.budgets).order_by("pk"))
            amounts = dict(Budget.objects.filter(pk__in=line.budgets).values_list("pk", "amount_nusd"))
            before = lease.granted_nusd - lease.settled_nusd - lease.returned_nusd
            spent = max(0, line.settled - lease.settled_nusd)
            lease.settled_nusd = max(lease.settled_nusd, line.settled)
            lease.returned_nusd = max(lease.returned_nusd, line.returned)
            room = min(amounts[a.budget_id] - a.outstanding_nusd - a.settled_nusd for a in accounts)
            outstanding = max(0, lease.granted_nusd - lease.settled_nusd - lease.returned_nusd)
            lease.granted_nusd += max(0, min(line.want - outstanding, room))
            lease.seq, lease.held_nusd, lease.seen_at = body.seq, line.held, timezone.now()
            lease.save()
            after = lease.granted_nusd - lease.settled_nusd - lease.returned_nusd
            for account in accounts:
                account.outstanding_nusd += after - before
                account.settled_nusd += spent
                account.save()
            answers.append({"number": line.number, "granted": lease.granted_nusd})
    return {"seq": body.seq, "leases": answers}


def healthz(_: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urls = ModuleType("bench_orm_urls")
urls.urlpatterns = [path("healthz", healthz), path("", api.urls)]  # type: ignore[attr-defined]
sys.modules["bench_orm_urls"] = urls
