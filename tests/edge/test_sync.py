from __future__ import annotations

import asyncio
import gzip
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.utils import timezone

from controlplane.budgets.actions.budgets import create_budget
from controlplane.budgets.actions.folding import fold_leases
from controlplane.budgets.actions.forgetting import end_clients
from controlplane.budgets.models import Account, Budget, Lease
from controlplane.edge.app import Edge
from controlplane.fleet.models import BreakerState, Instance, LimitDemand
from controlplane.telemetry.models import (
    CallWindow1m,
    CallWindow10s,
    DailyPricedUsage,
    DailyUsage,
    DailyUserUsage,
    Span,
)
from controlplane.tenancy.actions.keys import create_key
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.concurrency.ground import connect
from tests.edge.conftest import Caller
from tests.edge.waiting import eventually
from tidegate.core.window import Distribution
from tidegate.journal import Dead, LastWord
from tidegate.replaying import last_words


@pytest.fixture
def me() -> str:
    return str(uuid4())


@pytest.fixture
async def budget(acme: Tenant) -> Budget:
    return await sync_to_async(create_budget)(
        by=SYSTEM, tenant=acme, slug="all", amount_nusd=1000, period={"kind": "total"}, now=timezone.now()
    )


def packed(*values: int) -> list[int]:
    made = Distribution()
    for value in values:
        made.add(value)
    return made.packed()


def window(number: int, **more: Any) -> dict[str, Any]:
    row = {
        "tenant": "acme", "route": "chat", "model": "gpt-4o-mini", "category": "support", "calls": 2, "errors": 1,
        "input_tokens": 30, "output_tokens": 12, "cost_nusd": 500, "kinds": {"error.timeout": 1},
        "latency_us": packed(900, 1100), **more,
    }  # fmt: skip
    starts_ms = int(timezone.now().timestamp() * 1000)
    users = [{"tenant": row["tenant"], "user": "u-1", "calls": 2, "tokens": 42, "cost_nusd": 500}]
    return {"number": number, "starts_ms": starts_ms, "rows": [row], "users": users}


async def test_sync__windows_with_their_book__usage_is_kept_by_class_and_prices(ask: Caller, me: str) -> None:
    beyond = {"cached_input_tokens": 10, "usage": {"cache_write": 5, "reasoning": 4, "of_tomorrow": 1}}
    charged = [{**window(number, **beyond), "book": book} for number, book in ((1, "aa"), (2, "aa"), (3, "bb"))]

    await ask.sync(incarnation=me, windows=charged)

    rows = {row.book: row async for row in DailyPricedUsage.objects.all()}
    assert {book: (row.calls, row.cost_nusd) for book, row in rows.items()} == {"aa": (4, 1000), "bb": (2, 500)}
    assert rows["bb"].usage == {"input": 15, "cached_input": 10, "cache_write": 5, "output": 8, "reasoning": 4}
    assert rows["aa"].usage["input"] == 30


async def test_sync__usage_of_usual_and_of_other_classes__is_added_up_by_class(ask: Caller, me: str) -> None:
    for number, usage in enumerate(({"reasoning": 4}, {}, {"output_audio": 3}, {"reasoning": 2**53}), start=1):
        await ask.sync(incarnation=me, seq=number, windows=[window(number, usage=usage, output_tokens=2**53)])

    kept = await DailyPricedUsage.objects.aget()
    assert kept.usage == {"input": 120, "output": 3 * 2**53 - 7, "reasoning": 2**53 + 4, "output_audio": 3}


async def test_sync__usage_beyond_what_is_kept__stops_there(ask: Caller, me: str) -> None:
    await ask.sync(incarnation=me, windows=[window(1)])
    await DailyPricedUsage.objects.aupdate(usage={"input": 2**62 - 2, "output": 5})

    await ask.sync(incarnation=me, seq=2, windows=[window(2)])

    assert (await DailyPricedUsage.objects.aget()).usage == {"input": 2**62 - 1, "output": 17}


async def test_sync__windows__are_folded_into_every_rollup_once(ask: Caller, me: str) -> None:
    first = await ask.sync(incarnation=me, windows=[window(1)])
    again = await ask.sync(incarnation=me, seq=2, windows=[window(1), window(2)])

    assert (first.json()["windows_acked"], again.json()["windows_acked"]) == (1, 2)
    rows = [row async for row in CallWindow10s.objects.all()]
    assert sum(row.calls for row in rows) == 4
    merged = Distribution()
    for row in rows:
        merged.merge(Distribution.from_packed(row.latency_us))
    assert merged.packed() == packed(900, 1100, 900, 1100)
    assert sum(row.kinds["error.timeout"] for row in rows) == 2
    assert sum([row.cost_nusd async for row in CallWindow1m.objects.all()]) == 1000
    daily = await DailyUsage.objects.aget()
    assert (daily.calls, daily.input_tokens, daily.output_tokens, daily.cost_nusd) == (4, 60, 24, 1000)
    user = await DailyUserUsage.objects.aget()
    assert (user.user, user.calls, user.tokens, user.cost_nusd) == ("u-1", 4, 84, 1000)


async def test_sync__a_lease__is_granted_and_kept(ask: Caller, me: str, budget: Budget) -> None:
    lease = {"number": 1, "budgets": [budget.pk], "want": 200, "min_useful": 50}

    reply = await ask.sync(incarnation=me, leases=[lease])

    (answer,) = reply.json()["leases"]
    assert (answer["granted"], answer["ttl_ms"], answer["period_ms"]) == (200, 15000, None)
    assert (await Lease.objects.aget()).granted_nusd == 200


async def test_sync__the_last_words_of_a_killed_process__close_its_leases_at_what_they_may_have_cost(
    ask: Caller, me: str, budget: Budget
) -> None:
    lease = {"number": 1, "budgets": [budget.pk], "want": 200, "min_useful": 50, "settled": 10, "held": 60}
    await ask.sync(incarnation=me, seq=7, app="bot", leases=[lease])
    head = {"incarnation": me, "app": "bot", "host": "h1", "pid": 7, "sdk": "python/0.1.0"}
    dead = Dead(Path("unused"), -1, head, (LastWord(1, 95, (budget.pk,)),))

    reply = await ask.sync(**last_words(dead, dead.leases, final=True))

    assert [line["closed"] for line in reply.json()["leases"]] == [True]
    account = await Account.objects.aget()
    assert (account.outstanding_nusd, account.settled_nusd) == (0, 95)
    assert (await Instance.objects.aget()).closed_at is not None


async def test_sync__calls_of_another_tenant__count_for_the_key_s_own(
    ask: Caller, ask_everywhere: Caller, me: str
) -> None:
    await ask.sync(incarnation=me, windows=[window(1, tenant="globex")])
    await ask_everywhere.sync(incarnation=str(uuid4()), windows=[window(1, tenant="globex")])

    seen = {row.tenant: row.calls async for row in DailyUsage.objects.all()}
    assert seen == {"acme": 2, "globex": 2}


async def test_sync__an_incarnation_of_another_tenant__is_not_spoken_for(
    edge: Edge, ask: Caller, me: str, budget: Budget
) -> None:
    globex = await sync_to_async(create_tenant)(by=SYSTEM, slug="globex", name="Globex")
    _, text = await sync_to_async(create_key)(by=SYSTEM, tenant=globex, name="app")
    await edge._mirror.read()
    other = Caller(edge, text)
    lease = {"number": 1, "budgets": [budget.pk], "want": 400, "min_useful": 10}
    await ask.sync(incarnation=me, windows=[window(1)], leases=[lease])

    stolen, own = await asyncio.gather(
        other.sync(incarnation=me, seq=9, windows=[window(7)], leases=[{**lease, "settled": 10**9, "final": True}]),
        ask.sync(incarnation=str(uuid4()), windows=[window(1)]),
    )
    after = await ask.sync(incarnation=me, seq=2, windows=[window(2)], leases=[lease])

    assert (stolen.status, own.status, after.status) == (422, 200, 200)
    assert after.json()["windows_acked"] == 2
    assert not after.json()["leases"][0]["closed"]
    account = await Account.objects.aget()
    assert (account.outstanding_nusd, account.settled_nusd) == (400, 0)


async def test_sync__an_incarnation_that_was_given_up__is_refused_by_itself_and_changes_nothing(
    ask: Caller, me: str, budget: Budget
) -> None:
    lease = {"number": 1, "budgets": [budget.pk], "want": 100, "min_useful": 10}
    await ask.sync(incarnation=me, windows=[window(1)], leases=[{**lease, "settled": 100, "final": True}])
    much_later = timezone.now() + timedelta(days=40)
    await sync_to_async(fold_leases)(now=much_later, keep=timedelta(days=35))
    await sync_to_async(end_clients)(now=much_later, keep=timedelta(days=35))

    back, old, own = await asyncio.gather(
        ask.sync(incarnation=me, seq=2, windows=[window(1), window(2)], leases=[{**lease, "settled": 900}]),
        ask.sync(incarnation=me, seq=1, leases=[{**lease, "number": 2}]),
        ask.sync(incarnation=str(uuid4()), windows=[window(1)], leases=[lease]),
    )

    assert (back.status, old.status, own.status) == (410, 410, 200)
    assert back.json()["type"] == "urn:tidegate:problem:ended"
    assert own.json()["leases"][0]["granted"] == 100
    account = await Account.objects.aget()
    assert (account.outstanding_nusd, account.settled_nusd) == (100, 100)
    assert [row.calls async for row in DailyUsage.objects.all()] == [4]  # two in each window
    assert not await Instance.objects.filter(incarnation=me).aexists()


async def test_sync__an_instance__is_known_with_what_it_runs(ask: Caller, me: str) -> None:
    breaker = {"route": "chat", "model": "m", "phase": "open", "since_ms": 1_790_000_000_000, "calls": 9, "failures": 8}
    config = {"etag": "ab" * 32, "refused": "queue.max_concurrent: must be a whole number"}

    await ask.sync(incarnation=me, app="bot", host="h1", pid=7, sdk="python/0.1.0", config=config, breakers=[breaker])

    instance = await Instance.objects.aget()
    assert (instance.app, instance.pid, instance.config_etag) == ("bot", 7, "ab" * 32)
    assert instance.refused_reason.startswith("queue.max_concurrent")
    assert (await BreakerState.objects.aget()).phase == "open"


class Divided:
    """Instances that ask of one limit and say which share they use."""

    def __init__(self, ask: Caller, **line: Any) -> None:
        self.ask = ask
        self.line = {"tenant": "acme", "route": "chat", "unit": "requests", **line}
        self.seq = 0

    async def share(self, who: str, per_s: float, used: float | None = None, **sync: Any) -> float:
        self.seq += 1
        demand = [{**self.line, "per_s": per_s, "share": used}]
        reply = await self.ask.sync(incarnation=who, seq=self.seq, demand=demand, **sync)
        (share,) = reply.json()["shares"]
        assert share["ttl_ms"] == 10_000
        return float(share["share"])


async def test_sync__another_instance_asks_of_a_limit__gets_its_share_once_the_first_has_given_way(ask: Caller) -> None:
    limit = Divided(ask)
    one, two = str(uuid4()), str(uuid4())

    assert await limit.share(one, 30.0, 0.0) == 1.0
    assert await limit.share(two, 10.0, 0.0) == 0.0
    assert await limit.share(one, 30.0, 1.0) == pytest.approx(0.725)
    assert await limit.share(two, 10.0, 0.0) == 0.0
    assert await limit.share(one, 30.0, 0.725) == pytest.approx(0.725)
    assert await limit.share(two, 10.0, 0.0) == pytest.approx(0.275)


async def test_sync__capacity_known__what_is_asked_for_is_divided_fairly_and_the_rest_evenly(ask: Caller) -> None:
    limit = Divided(ask, capacity=100.0)
    greedy, modest = str(uuid4()), str(uuid4())

    await limit.share(greedy, 1000.0, 0.0)
    await limit.share(modest, 20.0, 0.0)

    assert await limit.share(greedy, 1000.0, 1.0) == pytest.approx(0.8)
    assert await limit.share(greedy, 1000.0, 0.8) == pytest.approx(0.8)
    assert await limit.share(modest, 20.0, 0.0) == pytest.approx(0.2)


async def test_sync__slots_are_divided__whole_ones(ask: Caller) -> None:
    limit = Divided(ask, unit="calls", capacity=3.0)
    one, two = str(uuid4()), str(uuid4())

    assert await limit.share(one, 9.0, 0.0) == 1.0
    await limit.share(two, 9.0, 0.0)
    given = await limit.share(one, 9.0, 1.0)
    await limit.share(one, 9.0, given)

    assert sorted([given, await limit.share(two, 9.0, 0.0)]) == pytest.approx([1 / 3, 2 / 3])


async def test_sync__instance_says_goodbye__its_share_is_free_at_once(ask: Caller) -> None:
    limit = Divided(ask)
    one, two = str(uuid4()), str(uuid4())
    await limit.share(one, 30.0, 0.0)

    assert await limit.share(one, 30.0, 1.0, final=True) == 0.0

    assert await limit.share(two, 10.0, 0.0) == 1.0


async def test_sync__instance_is_silent__its_share_is_free_when_it_has_expired(ask: Caller) -> None:
    limit = Divided(ask)
    one, two = str(uuid4()), str(uuid4())
    await limit.share(one, 30.0, 0.0)
    await LimitDemand.objects.aupdate(updated_at=timezone.now() - timedelta(seconds=1))
    assert await limit.share(two, 10.0, 0.0) == 0.0

    await LimitDemand.objects.filter(instance_id=UUID(one)).aupdate(updated_at=timezone.now() - timedelta(seconds=11))

    assert await limit.share(two, 10.0, 0.0) == 1.0


async def test_sync__demand_in_another_tenants_name__gets_nothing(ask: Caller) -> None:
    demand = [{"tenant": "globex", "route": "chat", "unit": "requests", "per_s": 5.0, "share": 0.0}]

    reply = await ask.sync(incarnation=str(uuid4()), demand=demand)

    assert reply.json()["shares"] == []
    assert not await LimitDemand.objects.aexists()


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"incarnation": "me"}, "incarnation"),
        (
            {"incarnation": str(uuid4()), "leases": [{"number": 1, "budgets": [1], "settled": -1}]},
            "leases[0].settled",
        ),
        ({"incarnation": str(uuid4()), "leases": [{"number": 1, "budgets": [1]}] * 2}, "leases"),
        ({"incarnation": str(uuid4()), "app": "a\x00b"}, "app"),
    ],
)
async def test_sync__a_wrong_field__is_refused_by_its_name(ask: Caller, said: dict[str, Any], field: str) -> None:
    reply = await ask.sync(**said)

    assert reply.status == 422
    assert list(reply.json()["errors"]) == [field]


async def test_sync__a_broken_distribution__harms_only_its_own_sync(ask: Caller, me: str) -> None:
    broken = window(1, latency_us=[5, 1, 1, 1, 1])
    good, bad = await asyncio.gather(
        ask.sync(incarnation=me, windows=[window(1)]), ask.sync(incarnation=str(uuid4()), windows=[broken])
    )

    assert (good.status, bad.status) == (200, 422)
    assert (await DailyUsage.objects.aget()).calls == 2


async def test_sync__not_json__is_refused(ask: Caller) -> None:
    reply = await ask("POST", "/sdk/v1/sync", b"{")

    assert reply.status == 422


async def test_sync__many_at_once__are_written_in_few_groups(ask: Caller, budget: Budget) -> None:
    lease = {"number": 1, "budgets": [budget.pk], "want": 10, "min_useful": 10}
    replies = await asyncio.gather(*(ask.sync(incarnation=str(uuid4()), leases=[lease]) for _ in range(50)))

    granted = sum(reply.json()["leases"][0]["granted"] for reply in replies)
    assert {reply.status for reply in replies} == {200}
    assert granted == 500
    assert ask.edge._batcher.groups <= 3


async def test_sync__the_last_group_is_not_durable_yet__is_written_beside_it(ask: Caller, me: str) -> None:
    await ask.sync(incarnation=me, windows=[window(1)])
    async with await connect() as other:
        await other.execute("SELECT FROM telemetry_usage_daily FOR UPDATE")
        waits = asyncio.create_task(ask.sync(incarnation=me, seq=2, windows=[window(1), window(2)]))

        async def blocked() -> bool:
            return bool(await (await other.execute(b"SELECT FROM pg_locks WHERE NOT granted")).fetchall())

        await eventually(blocked)
        beside = await ask.sync(incarnation=str(uuid4()))

        assert beside.status == 200
        assert not waits.done()
    assert (await waits).json()["windows_acked"] == 2
    assert (await DailyUsage.objects.aget()).calls == 4


async def test_sync__its_connection_to_the_database_was_lost__is_written_over_a_new_one(ask: Caller, me: str) -> None:
    await ask.sync(incarnation=me)
    await sync_to_async(_end_connections)()

    reply = await ask.sync(incarnation=me, seq=2)

    assert reply.status == 200
    assert (await Instance.objects.aget()).seq == 2


def _end_connections() -> None:
    """End all connections to the database but the one that says so."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_traces__json_and_gzip__are_in_the_table_once(ask: Caller) -> None:
    span = {
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "chat", "kind": 3,
        "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000001500000000",
        "attributes": [
            {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-4o-mini"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "30"}},
        ],
    }  # fmt: skip
    lost = {**span, "traceId": "0" * 32}
    body = orjson.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [span, lost]}]}]})
    headers = {"content-type": "application/json", "content-encoding": "gzip"}

    reply = await ask("POST", "/v1/traces", gzip.compress(body), headers)
    await ask("POST", "/v1/traces", gzip.compress(body), headers)

    kept = await Span.objects.aget()
    assert reply.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert (kept.tenant, kept.model, kept.input_tokens, kept.duration_us) == ("acme", "gpt-4o-mini", 30, 1_500_000)
