from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async

from controlplane.state.stores.valkey import MOST_CONNECTIONS
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.queries import SYSTEM
from tests.edge.conftest import Caller

OPS = "/sdk/v1/state/ops"
KINDS = ["session", "user", "shared"]


async def do(ask: Caller, *ops: dict[str, Any]) -> list[dict[str, Any]]:
    reply = await ask("POST", OPS, orjson.dumps({"ops": ops}))
    assert reply.status == 200, reply.body
    answers: list[dict[str, Any]] = reply.json()["answers"]
    return answers


def op(name: str, kind: str = "user", owner: str = "u-1", **more: Any) -> dict[str, Any]:
    return {"op": name, "kind": kind, "owner": owner, **more}


@pytest.mark.parametrize("kind", KINDS)
async def test_ops__a_value_is_set_read_and_deleted__on_every_tier(ask: Caller, kind: str) -> None:
    absent, wrote, found, gone, after, again = await do(
        ask,
        op("get", kind, keys=["a", "b"]),
        op("set", kind, key="a", value={"x": [1, None, "ü"]}),
        op("get", kind),
        op("delete", kind, key="a"),
        op("get", kind, keys=["a"]),
        op("delete", kind, key="a"),
    )

    assert absent["items"] == {}
    assert found["items"]["a"] == {"v": {"x": [1, None, "ü"]}, "n": wrote["version"], "left_ms": None}
    assert (gone["existed"], again["existed"]) == (True, False)
    assert after["items"] == {}
    assert gone["version"] > wrote["version"]


async def test_ops__on_more_sessions_at_once_than_there_are_connections__wait_and_lose_none(ask: Caller) -> None:
    count = 4 * MOST_CONNECTIONS

    wrote = await asyncio.gather(*(do(ask, op("set", "session", f"s-{n}", key="a", value=n)) for n in range(count)))
    found = await asyncio.gather(*(do(ask, op("get", "session", f"s-{n}")) for n in range(count)))

    assert [answer["items"]["a"]["v"] for (answer,) in found] == [*range(count)]
    assert len({answer["memory"]["generation"] for (answer,) in (*wrote, *found)}) == 1  # the cache has one life


@pytest.mark.parametrize("kind", KINDS)
async def test_ops__compare_and_set__lets_one_writer_through(ask: Caller, kind: str) -> None:
    first, second = await do(
        ask, op("cas", kind, key="a", value=1, expected=0), op("cas", kind, key="a", value=2, expected=0)
    )
    third, found = await do(
        ask, op("cas", kind, key="a", value=3, expected=first["version"]), op("get", kind, keys=["a"])
    )

    assert second["error"]["status"] == 409
    assert second["version"] == first["version"]
    assert found["items"]["a"]["v"] == 3
    assert found["items"]["a"]["n"] == third["version"] > first["version"]


@pytest.mark.parametrize("kind", KINDS)
async def test_ops__counters_and_lists__change_atomically_and_once(ask: Caller, kind: str) -> None:
    counted = await asyncio.gather(*(do(ask, op("incr", kind, key="n", by=2, id=f"op-id-{n:03}")) for n in range(20)))
    again = await do(ask, op("incr", kind, key="n", by=2, id="op-id-000"))
    grown = await do(ask, *(op("append", kind, key="l", value=n, cap=3) for n in range(5)), op("get", kind))

    assert sorted(each[0]["result"] for each in counted) == list(range(2, 42, 2))
    assert again[0]["result"] == counted[0][0]["result"]
    assert [each["result"] for each in grown[:5]] == [1, 2, 3, 3, 3]
    assert grown[5]["items"]["l"]["v"] == [2, 3, 4]
    assert grown[5]["items"]["n"]["v"] == 40


async def test_ops__a_value_of_another_shape__is_not_counted_up(ask: Caller) -> None:
    answers = await do(ask, op("set", key="a", value="text"), op("incr", key="a"), op("append", key="a", value=1))

    assert [answer["error"]["status"] for answer in answers[1:]] == [409, 409]


async def test_ops__another_tenants_key__is_forbidden_and_reads_nothing(ask: Caller, ask_everywhere: Caller) -> None:
    await sync_to_async(create_tenant)(by=SYSTEM, slug="globex", name="Globex")
    await do(ask_everywhere, op("set", tenant="globex", key="secret", value=1))

    claimed, own = await do(ask, op("get", tenant="globex", keys=["secret"]), op("get", keys=["secret"]))

    assert claimed["error"]["status"] == 403
    assert own["items"] == {}


async def test_ops__another_tenants_operation__is_not_known_by_its_id(ask: Caller, ask_everywhere: Caller) -> None:
    await do(ask_everywhere, op("incr", tenant="globex", key="n", by=41, id="the-same-id"))

    mine = await do(ask, op("incr", key="n", id="the-same-id"))

    assert mine[0]["result"] == 1


async def test_ops__names_with_separators__do_not_meet(ask: Caller) -> None:
    await do(ask, op("set", "session", "a:b", key="c", value=1), op("set", "user", "a", key="b:c", value=2))

    found = await do(ask, op("get", "session", "a", keys=["b:c"]), op("get", "user", "a:b", keys=["c"]))

    assert [each["items"] for each in found] == [{}, {}]


async def test_ops__a_value_that_is_too_large__is_refused_and_the_others_are_kept(ask: Caller) -> None:
    small, large = await do(ask, op("set", key="a", value="x"), op("set", key="b", value="x" * 65_536))

    assert small["version"]
    assert large["error"]["status"] == 413


@pytest.mark.parametrize("kind", KINDS)
async def test_ops__a_life_is_set__says_what_is_left_and_ends(ask: Caller, kind: str) -> None:
    _, found = await do(ask, op("set", kind, key="a", value=1, ttl_ms=60_000), op("get", kind, keys=["a"]))
    await do(ask, op("set", kind, key="b", value=1, ttl_ms=1))
    await asyncio.sleep(0.01)
    after = await do(ask, op("get", kind, keys=["a", "b"]))

    assert 50_000 < found["items"]["a"]["left_ms"] <= 60_000
    assert set(after[0]["items"]) == {"a"}


@pytest.mark.parametrize("kind", KINDS)
async def test_ops__erase__leaves_nothing_of_the_owner_and_others_alone(ask: Caller, kind: str) -> None:
    await do(ask, *(op("set", kind, key=key, value=1) for key in "abc"), op("set", kind, "u-2", key="a", value=1))

    erased, mine, other = await do(ask, op("erase", kind), op("get", kind), op("get", kind, "u-2"))

    assert erased["result"] == 3
    assert mine["items"] == {}
    assert set(other["items"]) == {"a"}


@pytest.mark.parametrize(
    "body", [b"{", b'{"ops": [{"op": "fly"}]}', b'{"ops": [{"op":"get","kind":"user","owner":""}]}']
)
async def test_ops__a_body_that_is_none__says_what_is_wrong(ask: Caller, body: bytes) -> None:
    assert (await ask("POST", OPS, body)).status == 422


async def test_map__names_the_node_of_every_slot__and_is_versioned(ask: Caller) -> None:
    reply = await ask("GET", "/sdk/v1/state/map")
    unchanged = await ask("GET", "/sdk/v1/state/map", headers={"if-none-match": reply.headers["etag"]})

    assert set(reply.json()["rings"]["database"]["owners"]) == {"main"}
    assert len(reply.json()["rings"]["cache"]["owners"]) == 1024
    assert unchanged.status == 304


@pytest.mark.parametrize(
    "value",
    [
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"9" * 5000,
        b"1e999",
        b"[" * 201 + b"]" * 201,
        b"[" * 30_000 + b"]" * 30_000,
        b"NaN",
        b'"\\ud800"',
    ],
    ids=["no UTF-8", "surrogate", "digits", "infinity", "deep", "very deep", "nan", "escaped surrogate"],
)
@pytest.mark.parametrize("name", [b"set", b"append", b"cas"])
async def test_ops__a_value_that_some_could_not_read__is_refused_and_nothing_is_kept(
    ask: Caller, name: bytes, value: bytes
) -> None:
    body = b'{"ops":[{"op":"%s","kind":"user","owner":"u-1","key":"a","expected":0,"value":%s}]}' % (name, value)

    reply = await ask("POST", OPS, body)
    (found,) = await do(ask, op("get"))

    status = reply.json()["answers"][0]["error"]["status"] if reply.status == 200 else reply.status
    assert status == 422, reply.body
    assert found["items"] == {}


async def test_ops__a_value_as_deep_as_is_kept__is_kept_and_appended_to(ask: Caller) -> None:
    deep: list[Any] = []
    for _ in range(199):
        deep = [deep]

    await do(ask, op("set", key="a", value=deep), op("append", key="b", value=deep), op("append", key="b", value=1))
    (found,) = await do(ask, op("get"))

    assert {key: item["v"] for key, item in found["items"].items()} == {"a": deep, "b": [deep, 1]}
