"""Many clients that say they spent and counted as much as fits into the fields: nobody else comes to harm, and no sum fails."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from django.test import Client
from django.utils import timezone

from controlplane.budgets.actions import ledger
from controlplane.budgets.actions.budgets import create_budget
from controlplane.budgets.models import Account, AccountSlot, Budget, Lease, LedgerEntry
from controlplane.domain.excess import MOST_CLAIM_NUSD
from controlplane.domain.leases import MOST_NUSD
from controlplane.telemetry.actions.folding import fold_hours
from controlplane.telemetry.actions.ladder import climb
from controlplane.telemetry.models import CallWindow10s, DailyUsage
from controlplane.tenancy.actions.operators import create_operator
from controlplane.tenancy.actions.tokens import create_token
from controlplane.tenancy.models import Operator, Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.edge.conftest import Caller
from tidegate.core.window import Distribution

MOST_COUNT = 2**53
LIARS = 24
PERIODS: dict[str, dict[str, Any]] = {
    "all": {"kind": "total"},
    "hourly": {"kind": "calendar", "unit": "hour", "timezone": "UTC"},
    "rolling": {"kind": "rolling", "days": 1},
}
PAGES = ("/", "/tenants/", "/tenants/of/acme/", "/budgets/", "/accuracy/", "/prices/?model=gpt-4o", "/clients/", "/rollouts/",
         "/explore/", "/explore/?by=tenant&compare=1&metric=cost_usd", "/explore/?metric=request_latency_ms", "/slos/", "/alerts/",
         "/sessions/", "/limits/?policy=acme/chat")  # fmt: skip
APIS = ("/api/v1/budgets/", "/api/v1/usage/accuracy", "/api/v1/leases/", "/api/v1/usage/?by=tenant", "/api/v1/usage/?by=user",
        "/api/v1/usage/?by=model")  # fmt: skip


@pytest.fixture
async def budgets(acme: Tenant) -> dict[str, Budget]:
    def make() -> dict[str, Budget]:
        made = {}
        for slug, period in PERIODS.items():
            for on_exhausted in ("block", "warn"):
                made[f"{slug}-{on_exhausted}"] = create_budget(
                    by=SYSTEM, tenant=acme, slug=f"{slug}-{on_exhausted}", amount_nusd=MOST_NUSD, period=period,
                    on_exhausted=on_exhausted, now=timezone.now(),
                )  # fmt: skip
        return made

    return await sync_to_async(make)()


def lie(number: int, path: list[Budget], **more: int) -> dict[str, Any]:
    return {"number": number, "budgets": [each.pk for each in path], "want": MOST_NUSD, "denied": MOST_COUNT, **more}


def boast(number: int) -> dict[str, Any]:
    """Return a window whose every count is as great as its field."""
    full = (1 << 40) - 1
    spread = [full, full * 2**22, 1, 2**22, 64 * 22 << 40 | full]
    row = {
        "tenant": "acme", "route": "chat", "model": "gpt-4o", "kinds": {"error.timeout": MOST_COUNT, "unpriced": MOST_COUNT},
        "usage": {"cache_write": MOST_COUNT}, "latency_us": spread, "tokens": spread, "call_cost_nusd": spread,
        "queue_depth": spread,
        **dict.fromkeys(("calls", "errors", "refused", "fallbacks", "retries", "cost_nusd"), MOST_COUNT),
        **dict.fromkeys(("input_tokens", "cached_input_tokens", "output_tokens"), MOST_COUNT),
    }  # fmt: skip
    users = [{"tenant": "acme", "user": "u", "calls": MOST_COUNT, "tokens": MOST_COUNT, "cost_nusd": MOST_COUNT}]
    return {
        "number": number,
        "starts_ms": int(timezone.now().timestamp() * 1000),
        "rows": [row] * 700,
        "users": users * 700,
    }


async def test_sync__many_liars_with_counters_near_the_greatest__harm_no_sync_no_page_and_no_proof(
    ask: Caller, acme: Tenant, budgets: dict[str, Budget]
) -> None:
    paths = [[each] for each in budgets.values()] + [list(budgets.values())]
    for turn in range(3):
        said = []
        for liar in range(LIARS):
            claims = MOST_CLAIM_NUSD if liar % 2 else MOST_NUSD
            lines = [
                lie(
                    number, path, settled=claims, corrected=claims * (liar % 3 > 0), returned=MOST_NUSD * (liar % 4 > 2)
                )
                for number, path in enumerate(paths, 1)
            ]
            windows = [boast(1), boast(2)] if turn == 0 else []
            said.append(ask.sync(incarnation=str(UUID(int=1 + liar + turn * 1000)), leases=lines, windows=windows))
        for reply in await asyncio.gather(*said):
            assert reply.status == 200, reply.body
            answers = reply.json()["leases"]
            assert {answer["denied"] for answer in answers} <= {None, "excessive", "exhausted"}
    assert await Lease.objects.acount() == 3 * len(paths) * LIARS // 2  # of what was refused nothing was kept

    mine = await sync_to_async(create_budget)(
        by=SYSTEM, tenant=acme, slug="mine", amount_nusd=1000, period={"kind": "total"}, now=timezone.now()
    )
    path = [mine.pk, *(each.pk for slug, each in budgets.items() if slug.endswith("warn"))]
    honest = {"number": 1, "budgets": path, "settled": 70, "want": 100, "min_useful": 10}
    fine = Distribution()
    fine.add(1000)
    row = {
        "tenant": "acme",
        "route": "chat",
        "model": "gpt-4o",
        "calls": 1,
        "cost_nusd": 70,
        "latency_us": fine.packed(),
    }
    now_ms = int(timezone.now().timestamp() * 1000)
    reply = await ask.sync(
        incarnation=str(uuid4()), leases=[honest], windows=[{"number": 1, "starts_ms": now_ms, "rows": [row]}]
    )
    assert reply.status == 200, reply.body
    assert reply.json()["leases"][0]["granted"] == 170  # what it spent already, and what it wants
    assert (await Account.objects.aget(budget=mine)).settled_nusd == 70

    await sync_to_async(_prove)()
    await sync_to_async(_look)()


def _prove() -> None:
    comparison = ledger.rebuild()
    assert comparison.difference_count == 0, comparison.differences
    assert comparison.accounts == len(PERIODS) * 2 + 1
    for account in Account.objects.exclude(budget__slug="mine"):
        assert 0 < account.overage_nusd <= MOST_NUSD
        assert account.corrected_nusd <= MOST_NUSD
        assert account.denied_calls <= MOST_NUSD
    now = timezone.now()
    fold_hours("windows", now=now + timedelta(hours=3), kept_since=now - timedelta(hours=2))
    climb(now=now + timedelta(hours=3), kept_since=now - timedelta(hours=2))


def _look() -> None:
    anna: Operator = create_operator(
        by=SYSTEM, username="anna", password="correct horse battery", role="admin", tenant=None
    )
    client = Client()
    client.force_login(anna)
    for path in PAGES:
        assert client.get(path).status_code == 200, path
    _, text = create_token(by=SYSTEM, name="reader", role="admin", tenant=None)
    program = Client(headers={"Authorization": f"Bearer {text}"})
    for path in APIS:
        assert program.get(path).status_code == 200, path


async def test_sync__a_claim_of_far_more_than_was_leased__is_refused_with_a_reason_and_nothing_changes(
    ask: Caller, budgets: dict[str, Budget]
) -> None:
    me, path = str(uuid4()), [budgets["rolling-block"], budgets["all-block"]]
    await ask.sync(incarnation=me, leases=[{**lie(1, path), "want": 500, "denied": 0}])
    before = await sync_to_async(_everything)()

    reply = await ask.sync(
        incarnation=me, seq=2, leases=[lie(1, path, settled=501 + MOST_CLAIM_NUSD), lie(2, path, settled=MOST_NUSD)]
    )

    assert [answer["denied"] for answer in reply.json()["leases"]] == ["excessive", "excessive"]
    assert await sync_to_async(_everything)() == before
    again = await ask.sync(incarnation=me, seq=3, leases=[{**lie(1, path, settled=500), "denied": 0, "final": True}])
    assert again.json()["leases"][0]["closed"] is True


def _everything() -> tuple[list[Any], ...]:
    kept = ("updated_at",)
    accounts = [{k: v for k, v in row.items() if k not in kept} for row in Account.objects.order_by("pk").values()]
    return (
        accounts,
        list(Lease.objects.order_by("pk").values()),
        list(AccountSlot.objects.order_by("pk").values()),
        list(LedgerEntry.objects.order_by("id").values_list("id")),
    )


async def test_sync__a_bucket_beyond_all_numbers__is_refused_as_not_valid(ask: Caller) -> None:
    row = {"tenant": "acme", "route": "chat", "calls": 1, "latency_us": [1, 5, 5, 5, 5000 << 40 | 1]}
    window = {"number": 1, "starts_ms": int(timezone.now().timestamp() * 1000), "rows": [row]}

    reply = await ask.sync(incarnation=str(uuid4()), windows=[window])

    assert reply.status == 422
    assert not await CallWindow10s.objects.aexists()
    assert not await DailyUsage.objects.aexists()
