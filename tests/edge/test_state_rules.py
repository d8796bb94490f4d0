from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
import redis
from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone

from controlplane.edge.app import Edge
from controlplane.problems import Forbidden, Invalid, NotFound
from controlplane.state import lookup
from controlplane.state.actions.owners import erase_owner, retain
from controlplane.state.actions.rules import drop_rule, put_rule
from controlplane.state.queries import rule_of
from controlplane.state.sealing import Unsealable, seal, unseal
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import AuditEntry, Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tests.edge.conftest import Caller
from tests.edge.test_state import KINDS, do, op

VIEWER = Asker("vera", Role.VIEWER)
OPERATOR = Asker("otto", Role.OPERATOR)
Rule = Callable[..., Awaitable[None]]


@pytest.fixture
async def rule(edge: Edge, acme: Tenant) -> Rule:
    async def put(**document: Any) -> None:
        await sync_to_async(put_rule)(by=SYSTEM, tenant=acme, document=document)
        await edge._atlas.refresh(at_least=float("inf"))

    return put


async def outsider() -> Asker:
    return Asker("gus", Role.ADMIN, await sync_to_async(create_tenant)(by=SYSTEM, slug="globex", name="Globex"))


# Limits


async def test_limit__of_keys__refuses_one_more_and_lets_those_change_that_are_there(ask: Caller, rule: Rule) -> None:
    await rule(max_keys=3)

    await do(ask, *(op("set", kind, key="a", value=1) for kind in KINDS))
    refused, replaced = await do(ask, op("set", "user", key="b", value=1), op("set", "user", key="a", value=2))
    counted, deleted = await do(ask, op("incr", "shared", key="a"), op("delete", "session", key="a"))
    again = await do(ask, op("set", "user", key="b", value=1))

    assert refused["error"]["status"] == 507
    assert all("error" not in answer for answer in (replaced, counted, deleted, *again))


async def test_limit__of_bytes__refuses_what_is_too_much_and_takes_what_gets_smaller(ask: Caller, rule: Rule) -> None:
    await rule(max_bytes=1000)

    answers = await do(
        ask,
        op("set", key="a", value="x" * 900),
        op("set", key="b", value="x" * 200),
        op("set", key="a", value="x" * 950),
        op("set", key="a", value="x" * 100),
        op("set", key="b", value="x" * 200),
    )

    assert [answer.get("error", {}).get("status") for answer in answers] == [None, 507, None, None, None]


async def test_limit__of_one_tenant__is_nothing_to_another(ask: Caller, ask_everywhere: Caller, rule: Rule) -> None:
    await sync_to_async(create_tenant)(by=SYSTEM, slug="globex", name="Globex")
    await rule(max_keys=0)

    mine = await do(ask, op("set", key="a", value=1))
    theirs = await do(ask_everywhere, op("set", tenant="globex", key="a", value=1))

    assert mine[0]["error"]["status"] == 507
    assert theirs[0]["version"]


# Sealed at rest


async def test_encrypt__values_are_sealed_on_every_tier_and_read_as_before(ask: Caller, rule: Rule) -> None:
    await rule(encrypt=True, durable_sessions=True)
    ops = [op("set", kind, key="a", value="a very secret value") for kind in KINDS]
    ops += [op("append", kind, key="l", value="another secret") for kind in KINDS]
    await do(ask, *ops)

    found = await do(ask, *(op("get", kind) for kind in KINDS))
    with psycopg.connect(settings.DATABASE_URL) as connection:
        rows = connection.execute("SELECT value FROM state_entry").fetchall()
    with redis.Redis.from_url(settings.VALKEY_URL) as valkey:
        hashes = [valkey.hgetall(key) for key in valkey.scan_iter("tgs:*:s:*")]

    assert all(each["items"]["a"]["v"] == "a very secret value" for each in found)
    assert all(each["items"]["l"]["v"] == ["another secret"] for each in found)
    assert len(rows) == 6
    assert len(hashes) == 1
    assert b"secret" not in b"".join(value for (value,) in rows) + b"".join(hashes[0].values())


async def test_encrypt__set_later__what_was_plain_stays_readable(ask: Caller, rule: Rule) -> None:
    await do(ask, op("set", key="old", value=1))
    await rule(encrypt=True)
    await do(ask, op("set", key="new", value=2))

    found = await do(ask, op("get"))

    assert {key: item["v"] for key, item in found[0]["items"].items()} == {"old": 1, "new": 2}


def test_unseal__another_place_or_a_changed_byte__is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = seal(b"1", "acme", "user", "u-1", "balance")

    assert unseal(sealed, "acme", "user", "u-1", "balance") == b"1"
    for place in (("acme", "user", "u-2", "balance"), ("globex", "user", "u-1", "balance")):
        with pytest.raises(Unsealable):
            unseal(sealed, *place)
    with pytest.raises(Unsealable):
        unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), "acme", "user", "u-1", "balance")


def test_unseal__keys_have_been_changed__old_ones_are_still_read_while_they_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "STATE_KEYS", ["first"])
    sealed = seal(b"1", "acme")

    monkeypatch.setattr(settings, "STATE_KEYS", ["second", "first"])
    both = unseal(sealed, "acme"), unseal(seal(b"2", "acme"), "acme")
    monkeypatch.setattr(settings, "STATE_KEYS", ["second"])

    assert both == (b"1", b"2")
    with pytest.raises(Unsealable):
        unseal(sealed, "acme")


# Rules


async def test_rule__of_the_nearest_above__counts(acme: Tenant, edge: Edge) -> None:
    below = await sync_to_async(create_tenant)(by=SYSTEM, slug="acme-shop", name="Shop", parent=acme)
    await sync_to_async(put_rule)(by=SYSTEM, tenant=None, document={"session_ttl_s": 100})
    own = await sync_to_async(rule_of)(below)
    await sync_to_async(put_rule)(by=SYSTEM, tenant=acme, document={"session_ttl_s": 200})
    inherited = await sync_to_async(rule_of)(below)
    await edge._atlas.refresh(at_least=float("inf"))
    followed = edge._atlas.now.rules_of("acme-shop").session_ttl_s, edge._atlas.now.rules_of("nobody").session_ttl_s
    await sync_to_async(drop_rule)(by=SYSTEM, tenant=acme)
    dropped = await sync_to_async(rule_of)(below)

    assert [each[0].session_ttl_s for each in (own, inherited, dropped)] == [100, 200, 100]
    assert inherited[1] == acme
    assert followed == (200, 100)


@pytest.mark.parametrize(
    "document",
    [
        {"session_ttl_s": 59},
        {"max_keys": -1},
        {"encrypt": "yes"},
        {"user_days": 0},
        {"nonsense": 1},
        {"session_ttl_s": None},
    ],
)
async def test_rule__a_part_that_is_wrong__is_named(acme: Tenant, document: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as invalid:
        await sync_to_async(put_rule)(by=SYSTEM, tenant=acme, document=document)

    assert set(invalid.value.errors) == set(document)


async def test_rule__who_may_not__is_refused(acme: Tenant) -> None:
    with pytest.raises(Forbidden):
        await sync_to_async(put_rule)(by=OPERATOR, tenant=acme, document={})
    with pytest.raises(Forbidden):
        await sync_to_async(put_rule)(by=await outsider(), tenant=None, document={})


# Export, erase, retention, sessions


async def test_everything__of_a_user__has_values_history_and_where_they_are(ask: Caller) -> None:
    await do(ask, *(op("set", key="a", value=number) for number in range(13)), op("set", key="b", value={"x": 1}))

    found = await sync_to_async(lookup.everything)(OPERATOR, "acme", "user", "u-1")

    assert [(held.key, held.value) for held in found.values] == [("a", 12), ("b", {"x": 1})]
    assert [value for _, _, value in found.values[0].history] == list(range(11, 1, -1))
    assert found.nodes == {"database": "main"}


async def test_everything__a_viewer_or_somebody_else__gets_nothing(ask: Caller) -> None:
    await do(ask, op("set", key="a", value=1))

    with pytest.raises(Forbidden):
        await sync_to_async(lookup.everything)(VIEWER, "acme", "user", "u-1")
    with pytest.raises(NotFound):
        await sync_to_async(lookup.everything)(await outsider(), "acme", "user", "u-1")


@pytest.mark.parametrize("kind", KINDS)
async def test_erase__by_an_operator__leaves_nothing_anywhere_and_an_entry(ask: Caller, rule: Rule, kind: str) -> None:
    await rule(durable_sessions=True)
    await do(
        ask, op("set", kind, key="a", value=1), op("set", kind, key="a", value=2), op("set", kind, key="b", value=1)
    )

    erased = await sync_to_async(erase_owner)(by=OPERATOR, tenant="acme", kind=kind, owner="u-1", reason="asked to")
    found = await do(ask, op("get", kind))
    with psycopg.connect(settings.DATABASE_URL) as connection:
        left = connection.execute("SELECT (SELECT count(*) FROM state_entry) + (SELECT count(*) FROM state_version)")
        rows = left.fetchone()

    assert erased == 2
    assert found[0]["items"] == {}
    assert rows == (0,)
    assert await AuditEntry.objects.filter(action="state.erased", reason="asked to").acount() == 1


async def test_erase__somebody_elses_or_by_a_viewer__is_refused(ask: Caller) -> None:
    await do(ask, op("set", key="a", value=1))

    with pytest.raises(NotFound):
        await sync_to_async(erase_owner)(by=await outsider(), tenant="acme", kind="user", owner="u-1")
    with pytest.raises(Forbidden):
        await sync_to_async(erase_owner)(by=VIEWER, tenant="acme", kind="user", owner="u-1")
    assert (await do(ask, op("get")))[0]["items"]["a"]["v"] == 1


async def test_retain__older_than_the_rule_allows__is_deleted_and_nothing_else(ask: Caller, rule: Rule) -> None:
    await rule(user_days=30)
    await do(ask, op("set", key="old", value=1), op("set", key="new", value=1), op("set", "shared", key="old", value=1))
    with psycopg.connect(settings.DATABASE_URL) as connection:
        connection.execute("UPDATE state_entry SET written_at = now() - interval '31 days' WHERE key = 'old'")

    deleted = await sync_to_async(retain)(now=timezone.now())
    found = await do(ask, op("get"), op("get", "shared"))

    assert deleted == 1
    assert [set(each["items"]) for each in found] == [{"new"}, {"old"}]


async def test_alive_sessions__of_those_one_may_see__the_last_seen_first(ask: Caller, ask_everywhere: Caller) -> None:
    gus = await outsider()
    await do(ask_everywhere, op("set", "session", "s-1", tenant="acme", key="a", value=1))
    await asyncio.sleep(0.002)
    await do(ask_everywhere, op("set", "session", "s-2", tenant="acme", key="a", value=1))
    await do(ask_everywhere, op("set", "session", "s-3", tenant="globex", key="a", value=1))

    everyone = await sync_to_async(lookup.alive_sessions)(VIEWER, tenant="acme")
    theirs = await sync_to_async(lookup.alive_sessions)(gus)
    counts = await sync_to_async(lookup.count_alive)(VIEWER)

    assert [each.session for each in everyone] == ["s-2", "s-1"]
    assert [each.session for each in theirs] == ["s-3"]
    assert counts == {"acme": 2, "globex": 1}
    assert everyone[0].keys == 1


async def test_keeper__after_traffic__has_written_down_who_answered_and_what_is_kept(ask: Caller, edge: Edge) -> None:
    from controlplane.state.queries import hits, kept_by_tenant

    await do(ask, op("set", "session", "s-1", key="a", value=1), op("get", "session", "s-1", keys=["a", "b"]))
    await do(ask, op("set", key="a", value=1), op("get", keys=["a"]))
    await edge._keeper.work()

    found = await sync_to_async(hits)(VIEWER, timezone.now())
    kept = await sync_to_async(kept_by_tenant)(VIEWER)

    assert (found.l2, found.database, found.missing, found.writes) == (1, 1, 1, 2)
    assert [(each.tenant, each.sessions, each.session_keys, each.user_keys) for each in kept] == [("acme", 1, 1, 1)]
