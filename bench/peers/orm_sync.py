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

from datetime import UTC, datetime
from itertools import count
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import timezone
from ninja import NinjaAPI, Schema

from controlplane.budgets.models import Account, Budget, Lease, LedgerEntry
from controlplane.fleet.models import Instance
from controlplane.telemetry.models import CallWindow1m, CallWindow10s, DailyPricedUsage, DailyUsage
from controlplane.tenancy.models import SdkKey
from controlplane.tenancy.secrets import proves, sdk_selector

NAMES = ("tenant", "route", "model", "category")
DAILY = ("calls", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nusd")
SUMS = (*DAILY, "errors", "refused", "fallbacks", "retries")


class LeaseIn(Schema):
    number: int
    budgets: list[int]
    settled: int
    returned: int
    held: int
    want: int
    min_useful: int


class RowIn(Schema):
    tenant: str
    route: str
    model: str
    category: str
    calls: int
    errors: int
    refused: int
    fallbacks: int
    retries: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_nusd: int


class WindowIn(Schema):
    number: int
    starts_ms: int
    rows: list[RowIn]


class SyncIn(Schema):
    incarnation: UUID
    seq: int
    sent_ms: int
    app: str
    host: str
    pid: int
    sdk: str
    leases: list[LeaseIn]
    windows: list[WindowIn]


_entries = count(10**12)  # the column's own default is not part of the model
api = NinjaAPI(docs_url=None, openapi_url=None)


@api.post("/sync")
def sync(request: HttpRequest, body: SyncIn) -> dict[str, object]:
    text = request.headers.get("Authorization", "")[7:]
    key = SdkKey.objects.get(selector=sdk_selector(text), revoked_at=None)
    if not proves(text, bytes(key.digest)):
        raise PermissionError
    with transaction.atomic():
        acked = note(body, key)
        # In the order of their keys, so that two requests never wait for each other.
        for window in body.windows:
            if window.number > acked:
                for row in sorted(window.rows, key=lambda row: [getattr(row, name) for name in NAMES]):
                    fold(window, row)
                acked = window.number
        Instance.objects.filter(pk=body.incarnation).update(windows_acked=acked)
        answers = [merge(body, line) for line in body.leases]
    return {"seq": body.seq, "windows_acked": acked, "leases": answers}


def note(body: SyncIn, key: SdkKey) -> int:
    """Note who reported; return the last window acknowledged to it."""
    now = timezone.now()
    instance, _ = Instance.objects.select_for_update().get_or_create(
        pk=body.incarnation,
        defaults={
            "key": key,
            "scope_id": key.tenant_id,
            "app": body.app,
            "host": body.host,
            "pid": body.pid,
            "sdk": body.sdk,
        },
    )
    instance.seq, instance.seen_at = max(instance.seq, body.seq), now
    instance.clock_skew_ms = body.sent_ms - int(now.timestamp() * 1000)
    instance.save(update_fields=["seq", "seen_at", "clock_skew_ms"])
    return instance.windows_acked


def fold(window: WindowIn, row: RowIn) -> None:
    """Add a row to the rollups."""
    at = datetime.fromtimestamp(window.starts_ms / 1000, UTC)
    names = {name: getattr(row, name) for name in NAMES}
    sums = {name: F(name) + getattr(row, name) for name in SUMS}
    ten_s = at.replace(second=at.second - at.second % 10, microsecond=0)
    for model, start in ((CallWindow10s, ten_s), (CallWindow1m, at.replace(second=0, microsecond=0))):
        model.objects.get_or_create(starts_at=start, **names)
        model.objects.filter(starts_at=start, **names).update(**sums)
    DailyUsage.objects.get_or_create(day=at.date(), **names)
    DailyUsage.objects.filter(day=at.date(), **names).update(**{name: sums[name] for name in DAILY})
    priced, _ = DailyPricedUsage.objects.select_for_update().get_or_create(
        day=at.date(), tenant=row.tenant, model=row.model, book=""
    )
    fresh = row.input_tokens - row.cached_input_tokens
    used = {"input": fresh, "cached_input": row.cached_input_tokens, "output": row.output_tokens}
    for name, used_now in used.items():
        if used_now:
            priced.usage[name] = priced.usage.get(name, 0) + used_now
    priced.calls, priced.cost_nusd = priced.calls + row.calls, priced.cost_nusd + row.cost_nusd
    priced.save(update_fields=["calls", "cost_nusd", "usage"])


def merge(body: SyncIn, line: LeaseIn) -> dict[str, int]:
    """Merge one lease report into its accounts, grant, and enter it in the ledger."""
    now = timezone.now()
    lease, _ = Lease.objects.select_for_update().get_or_create(
        incarnation=body.incarnation, number=line.number, defaults={"path": []}
    )
    for budget in Budget.objects.filter(pk__in=line.budgets):
        Account.objects.get_or_create(budget=budget, period_key="total")
    accounts = list(Account.objects.select_for_update().filter(budget__in=line.budgets).order_by("pk"))
    amounts = dict(Budget.objects.filter(pk__in=line.budgets).values_list("pk", "amount_nusd"))
    before = (lease.granted_nusd, lease.settled_nusd, lease.returned_nusd)
    outstanding = max(0, lease.granted_nusd - lease.settled_nusd - lease.returned_nusd)
    lease.settled_nusd = max(lease.settled_nusd, line.settled)
    lease.returned_nusd = max(lease.returned_nusd, line.returned)
    room = min(amounts[a.budget_id] - a.outstanding_nusd - a.settled_nusd for a in accounts)
    left = max(0, lease.granted_nusd - lease.settled_nusd - lease.returned_nusd)
    lease.granted_nusd += max(0, min(line.want - left, room))
    lease.seq, lease.held_nusd, lease.seen_at, lease.path = body.seq, line.held, now, [a.pk for a in accounts]
    lease.save()
    for account in accounts:
        account.outstanding_nusd += max(0, lease.granted_nusd - lease.settled_nusd - lease.returned_nusd) - outstanding
        account.settled_nusd += lease.settled_nusd - before[1]
        account.updated_at = now
        account.save()
    enter(lease, before, now)
    return {"number": line.number, "granted": lease.granted_nusd}


def enter(lease: Lease, before: tuple[int, int, int], now: datetime) -> None:
    LedgerEntry.objects.create(
        at=now,
        id=next(_entries),
        incarnation=lease.incarnation,
        number=lease.number,
        path=lease.path,
        kind="settle",
        opened_at=lease.created_at,
        counts_at=now,
        granted_nusd=lease.granted_nusd - before[0],
        settled_nusd=lease.settled_nusd - before[1],
        returned_nusd=lease.returned_nusd - before[2],
    )


def healthz(_: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urls = ModuleType("bench_orm_urls")
urls.urlpatterns = [path("healthz", healthz), path("", api.urls)]  # type: ignore[attr-defined]
sys.modules["bench_orm_urls"] = urls
