"""OpenFeature's remote evaluation: what stock providers rely on, and what they choke on."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone

from controlplane.domain.rollout import RingPlan
from controlplane.rollouts.actions.deployments import Description, create_deployment, create_release
from controlplane.rollouts.actions.rollouts import Wish, act, create_rollout
from controlplane.rollouts.models import Rollout
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.edge.conftest import Caller, Reply
from tests.edge.waiting import eventually
from tidegate.core.release import unit_of
from tidegate.core.snapshot import compile_snapshot

FLAGS = "/ofrep/v1/evaluate/flags"
CONFIGS = (
    {"model": "a", "temperature": 1.0, "retries": 2, "strict": True},
    {"model": "b", "temperature": 0.5, "retries": 3},
)


def _roll_out(tenant: Tenant, *, start: bool) -> Rollout | None:
    made = create_deployment(
        by=SYSTEM, slug="assistant", tenant=tenant, description=Description(routes=("chat",), unit="user")
    )
    releases = [create_release(by=SYSTEM, deployment=made, config=config) for config in CONFIGS]
    rings = (RingPlan("Half", 500_000),)
    if not start:
        return None
    return create_rollout(
        by=SYSTEM, deployment=made, release=releases[1], wish=Wish(rings=rings), now=timezone.now(), start=True
    )


@pytest.fixture
async def rollout(ask: Caller, acme: Tenant) -> Rollout | None:
    """A rollout that the edge has heard of."""
    made = await sync_to_async(_roll_out)(acme, start=True)

    async def heard() -> bool:
        return b'"candidate":"' in (await ask("GET", "/sdk/v1/config")).body

    await eventually(heard)
    return made


async def flag(ask: Caller, key: str, **context: Any) -> Reply:
    return await ask("POST", f"{FLAGS}/{key}", orjson.dumps({"context": context}))


async def test_flag__many_users__half_get_each_and_always_the_same(ask: Caller, rollout: Rollout) -> None:
    first = [(await flag(ask, "assistant.model", targetingKey=f"u-{number}")).json() for number in range(200)]
    second = [(await flag(ask, "assistant.model", targetingKey=f"u-{number}")).json() for number in range(200)]

    assert first == second
    assert {(each["variant"], each["value"], each["reason"]) for each in first} == {
        ("1", "a", "SPLIT"),
        ("2", "b", "SPLIT"),
    }
    assert 60 < sum(each["variant"] == "2" for each in first) < 140
    assert {each["metadata"]["arm"] for each in first} == {"stable", "canary"}


async def test_flag__types__are_as_in_the_config(ask: Caller, acme: Tenant) -> None:
    await sync_to_async(_roll_out)(acme, start=False)

    async def known() -> Reply | None:
        reply = await flag(ask, "assistant")
        return reply if reply.status == 200 else None

    whole = await eventually(known)
    body = (await flag(ask, "assistant.temperature")).body

    assert whole.headers["content-type"] == "application/json"
    assert (whole.json()["value"], whole.json()["reason"], whole.json()["variant"]) == (CONFIGS[0], "STATIC", "1")
    assert b'"value":1.0' in body
    assert b'"value":2}' in (await flag(ask, "assistant.retries")).body
    assert (await flag(ask, "assistant.strict")).json()["value"] is True


async def test_flag__entry_that_only_the_other_release_has__has_no_value(ask: Caller, rollout: Rollout) -> None:
    answers = [(await flag(ask, "assistant.strict", targetingKey=f"u-{number}")).json() for number in range(50)]

    without = [each for each in answers if each["variant"] == "2"]
    assert without
    assert all("value" not in each and each["reason"] == "DEFAULT" for each in without)


async def test_flag__unknown__is_not_found_with_code_and_details(ask: Caller, rollout: Rollout) -> None:
    for key in ("missing", "assistant.missing", "with/slash"):
        reply = await flag(ask, key, targetingKey="u")
        assert reply.status == 404
        assert (reply.json()["key"], reply.json()["errorCode"]) == (key, "FLAG_NOT_FOUND")
        assert reply.json()["errorDetails"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "PARSE_ERROR"),
        (b"[]", "INVALID_CONTEXT"),
        (b'{"context": 7}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": 7}}', "INVALID_CONTEXT"),
        (b'{"context": {"tenant": []}}', "INVALID_CONTEXT"),
        (b"{}", "TARGETING_KEY_MISSING"),
        (b"", "TARGETING_KEY_MISSING"),
    ],
)
async def test_flag__request_that_is_none__has_key_code_and_details(
    ask: Caller, rollout: Rollout, body: bytes, code: str
) -> None:
    reply = await ask("POST", f"{FLAGS}/assistant", body)

    assert reply.status == 400
    assert (reply.json()["key"], reply.json()["errorCode"]) == ("assistant", code)
    assert reply.json()["errorDetails"]


async def test_flag__same_user_as_in_the_sdk__gets_the_same_release(ask: Caller, rollout: Rollout) -> None:
    head = await ask("GET", "/sdk/v1/config")

    deployment = compile_snapshot(head.json()).deployments["assistant"]
    for number in range(50):
        unit = unit_of(deployment, tenant="acme", user=f"u-{number}", session="")
        got = (await flag(ask, "assistant", targetingKey=f"u-{number}")).json()
        assert got["variant"] == deployment.assign(unit, tenant="acme", user=f"u-{number}").version


async def test_bulk__all_flags__and_304_while_nothing_changed(ask: Caller, rollout: Rollout) -> None:
    body = orjson.dumps({"context": {"targetingKey": "u-1", "plan": "pro"}})
    first = await ask("POST", FLAGS, body)
    etag = first.headers["etag"]

    again = await ask("POST", FLAGS, body, {"if-none-match": etag})
    other = await ask(
        "POST", FLAGS, orjson.dumps({"context": {"targetingKey": "u-1", "plan": "free"}}), {"if-none-match": etag}
    )
    await sync_to_async(act)(by=SYSTEM, rollout=rollout, verb="rollback", expected_version=None, now=timezone.now())

    async def changed() -> Reply | None:
        reply = await ask("POST", FLAGS, body, {"if-none-match": etag})
        return reply if reply.status == 200 else None

    later = await eventually(changed)

    assert [each["key"] for each in first.json()["flags"]] == [
        "assistant", "assistant.model", "assistant.retries", "assistant.strict", "assistant.temperature",
    ]  # fmt: skip
    assert (again.status, again.body) == (304, b"")
    assert other.status == 200
    assert later.json()["flags"][0]["variant"] == "1"


async def test_flag__without_a_key__is_unauthorized_in_ofreps_words(ask: Caller, rollout: Rollout) -> None:
    for key in ("", "tg_nobody"):
        reply = await Caller(ask.edge, key)("POST", f"{FLAGS}/assistant", b"{}")
        assert (reply.status, list(reply.json())) == (401, ["errorDetails"])


async def test_flag__key_in_x_api_key__is_taken(ask: Caller, rollout: Rollout) -> None:
    reply = await ask(
        "POST", f"{FLAGS}/assistant", b'{"context": {"targetingKey": "u"}}', {"authorization": "", "x-api-key": ask.key}
    )

    assert reply.status == 200


async def test_flag__others_deployment__does_not_exist(ask: Caller, acme: Tenant) -> None:
    globex = await sync_to_async(create_tenant)(by=SYSTEM, slug="globex", name="Globex")
    await sync_to_async(_roll_out)(globex, start=False)

    assert (await flag(ask, "assistant", targetingKey="u")).status == 404


async def test_flag__page_of_an_allowed_origin__may_read_the_etag(ask: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "OFREP_ORIGINS", ["https://shop.example"])

    allowed = await ask("OPTIONS", FLAGS, headers={"origin": "https://shop.example"})
    stranger = await ask("OPTIONS", FLAGS, headers={"origin": "https://evil.example"})

    assert allowed.status == 204
    assert "etag" in allowed.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in stranger.headers


async def test_flag__by_get__is_refused(ask: Caller) -> None:
    assert (await ask("GET", f"{FLAGS}/assistant")).status == 405
