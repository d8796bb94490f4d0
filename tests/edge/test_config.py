from __future__ import annotations

import asyncio
import hashlib

import pytest
from asgiref.sync import sync_to_async

from controlplane.policy.actions.policies import put_policy
from controlplane.tenancy.actions.keys import revoke_key
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import SdkKey, Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.edge.conftest import Caller
from tests.edge.waiting import eventually
from tidegate.core.snapshot import compile_snapshot

CONFIG = "/sdk/v1/config"


async def test_config__a_live_key__gets_the_snapshot_of_its_scope_named_by_its_hash(ask: Caller) -> None:
    await sync_to_async(create_tenant)(by=SYSTEM, slug="globex", name="Globex")

    reply = await ask("GET", CONFIG)

    snapshot = compile_snapshot(reply.json())
    assert reply.status == 200
    assert reply.headers["etag"] == f'"{hashlib.sha256(reply.body).hexdigest()}"'
    assert snapshot.scope == "acme"
    assert list(snapshot.tenants) == ["acme"]


async def test_config__the_etag_is_known__answers_304_without_a_body(ask: Caller) -> None:
    etag = (await ask("GET", CONFIG)).headers["etag"]

    reply = await ask("GET", CONFIG, headers={"if-none-match": etag})

    assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", etag)
    assert reply.headers["tidegate-poll-ms"] == "1000"


async def test_config__a_change_while_waiting__releases_the_long_poll(ask: Caller, acme: Tenant) -> None:
    etag = (await ask("GET", CONFIG)).headers["etag"]
    waiting = asyncio.create_task(ask("GET", f"{CONFIG}?wait=20", headers={"if-none-match": etag}))
    await asyncio.sleep(0)

    await sync_to_async(put_policy)(by=SYSTEM, tenant=acme, route="chat", document={"timeout_ms": 7})
    reply = await asyncio.wait_for(waiting, 5)

    assert reply.status == 200
    assert compile_snapshot(reply.json()).policy_for("acme", "chat").timeout_ms == 7
    assert reply.headers["tidegate-poll-ms"] == "0"


async def test_config__nothing_changes__answers_304_when_the_wait_is_over(ask: Caller) -> None:
    etag = (await ask("GET", CONFIG)).headers["etag"]

    reply = await ask("GET", f"{CONFIG}?wait=0.05", headers={"if-none-match": etag})

    assert reply.status == 304


@pytest.mark.parametrize("wait", ["-1", "soon", "nan", "inf"])
async def test_config__a_wait_that_is_no_number__says_so(ask: Caller, wait: str) -> None:
    reply = await ask("GET", f"{CONFIG}?wait={wait}")

    assert reply.status == 422
    assert "wait" in reply.json()["errors"]


@pytest.mark.parametrize(
    "key", ["", "tg_short", "tg_aaaaaaaaaaaa_" + "b" * 43, "tgo_aaaaaaaaaaaa_" + "b" * 43, "\xff\x00"]
)
async def test_config__an_unknown_key__is_refused(ask: Caller, key: str) -> None:
    reply = await Caller(ask.edge, key)("GET", CONFIG)

    assert reply.status == 401
    assert reply.headers["content-type"] == "application/problem+json"


async def test_config__a_revoked_key__is_refused_within_a_moment(ask: Caller) -> None:
    key = await SdkKey.objects.select_related("tenant").aget()
    await sync_to_async(revoke_key)(by=SYSTEM, key=key)

    async def refused() -> bool:
        return (await ask("GET", CONFIG)).status == 401

    assert await eventually(refused)


async def test_edge__other_paths_and_methods__are_told_apart(ask: Caller) -> None:
    assert (await ask("GET", "/sdk/v1/nothing")).status == 404
    refused = await ask("POST", CONFIG)
    assert (refused.status, refused.headers["allow"]) == (405, "GET")
    assert (await ask("GET", "/healthz")).status == 200
    assert (await ask("GET", "/readyz")).status == 200


async def test_metrics__after_a_request__counts_it_by_path_and_status(ask: Caller) -> None:
    await ask("GET", CONFIG)

    text = (await ask("GET", "/metrics")).body.decode()

    assert 'tidegate_edge_requests_total{path="/sdk/v1/config",status="200"} 1' in text
