"""The page of rollouts: what the board says, what its buttons do, and what forms make."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client

from controlplane.rollouts.models import Deployment, Freeze, Rollout
from tests.dashboard.world import World

SignIn = Callable[[str], Client]
CONFIG = '{"prompt": "v9"}'


def say(client: Client, verb: str, rollout: Rollout, version: int | None = None) -> int:
    rollout.refresh_from_db()
    do = f"{verb}:{rollout.pk}:{rollout.version if version is None else version}{':1800' if verb == 'extend' else ''}"
    return client.post("/rollouts/act/", {"do": do}).status_code


def test_board__rollouts_of_every_kind__stand_in_the_column_of_their_ring(sign_in: SignIn, world: World) -> None:
    page = sign_in("otto").get("/rollouts/").content.decode()

    columns = re.findall(r"<h2>(Canary|Early|Everyone|Ended)<span>([^<]*)</span></h2>(.*?)</section>", page, re.DOTALL)
    assert [(name, says) for name, says, _ in columns] == [
        ("Canary", "5 %"), ("Early", "25 %"), ("Everyone", "100 %"), ("Ended", "last 7 days"),
    ]  # fmt: skip
    for (_, _, cards), name in zip(columns, ("held", "baking", "green", "old"), strict=True):
        assert f'id="r_{world.rollouts[name].pk}"' in cards
    assert "more errors roll it back" in page
    assert "waiting for the day shift" in page
    assert "It answers in French." in page


def test_board__others_rollouts__are_not_seen(sign_in: SignIn, world: World) -> None:
    page = sign_in("gus").get("/rollouts/").content.decode()

    assert "support-agent" not in page
    assert "summariser" in page


def test_act__button__does_it_once(sign_in: SignIn, world: World) -> None:
    client, rollout = sign_in("otto"), world.rollouts["baking"]
    version = Rollout.objects.get(pk=rollout.pk).version

    assert say(client, "pause", rollout) == 302
    assert say(client, "pause", rollout, version) == 302
    assert say(client, "promote", rollout, version) == 409
    assert Rollout.objects.get(pk=rollout.pk).phase == "paused"


@pytest.mark.parametrize(
    ("verb", "name", "phase"),
    [
        ("rollback", "held", "rolled_back"),
        ("promote", "held", "running"),
        ("switch", "green", "running"),
        ("abort", "baking", "aborted"),
        ("resume", "held", "running"),
        ("extend", "held", "paused"),
        ("skip", "baking", "running"),
        ("promote_fully", "baking", "promoting"),
    ],
)
def test_act__verb__leads_there(sign_in: SignIn, world: World, verb: str, name: str, phase: str) -> None:
    assert say(sign_in("otto"), verb, world.rollouts[name]) == 302

    assert Rollout.objects.get(pk=world.rollouts[name].pk).phase == phase


def test_act__viewer_or_outsider__may_not(sign_in: SignIn, world: World) -> None:
    assert say(sign_in("vera"), "rollback", world.rollouts["held"]) == 403
    assert say(sign_in("gus"), "rollback", world.rollouts["held"]) == 404


@pytest.mark.parametrize(
    "do", ["rollback", "rollback:1", "rollback::2", "fly:1:2", "extend:1:2:3:4", f"pause:{'9' * 30}:1"]
)
def test_act__button_that_is_not_ours__is_refused(sign_in: SignIn, do: str) -> None:
    assert sign_in("otto").post("/rollouts/act/", {"do": do}).status_code == 422


def test_new__release_typed__is_made_and_rolled_out(sign_in: SignIn, world: World) -> None:
    rings = '[{"name": "First", "share": 10, "bake_s": 5}, {"name": "All", "share": 100, "gate": "time"}]'
    typed = {
        "deployment": "triage",
        "version": "8.0.0",
        "config": CONFIG,
        "strategy": "rings",
        "rings": rings,
        "alpha": "0.05",
    }

    response = sign_in("otto").post("/rollouts/create/", typed)

    assert response.status_code == 302
    rollout = Rollout.objects.get(release__version="8.0.0")
    assert (rollout.phase, rollout.alpha, [ring.share for ring in rollout.plan.rings]) == (
        "running",
        0.05,
        [100_000, 1_000_000],
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"config": "{"}, "is not JSON"),
        ({"rings": '[{"name": "A"}]'}, "a share in percent"),
        ({"rings": '[{"name": "A", "share": 100}]'}, "nothing to compare with"),
        ({"alpha": "much"}, "must be a number"),
        ({"starts_at": "soon"}, "must be like"),
    ],
)
def test_new__typed_wrongly__is_shown_again_with_what_is_wrong(
    sign_in: SignIn, world: World, wrong: dict[str, str], said: str
) -> None:
    typed = {"deployment": "triage", "config": CONFIG, "strategy": "rings", "rings": "[]", **wrong}

    response = sign_in("otto").post("/rollouts/create/", typed)

    assert response.status_code == 422
    assert said in response.content.decode()
    assert not Rollout.objects.filter(deployment__slug="triage", phase="running").exists()


def test_deployment__made__has_its_first_release(sign_in: SignIn, world: World) -> None:
    typed = {
        "slug": "greeter",
        "tenant": "acme",
        "routes": "chat, hello",
        "unit": "user",
        "config": CONFIG,
        "version": "1.0",
    }

    assert sign_in("otto").post("/rollouts/deployments/create/", typed).status_code == 302

    made = Deployment.objects.select_related("stable").get(slug="greeter")
    assert made.stable is not None
    assert (made.routes, made.unit, made.stable.version) == (["chat", "hello"], "user", "1.0")


def test_deployment__config_is_not_json__nothing_is_made(sign_in: SignIn, world: World) -> None:
    typed = {"slug": "greeter", "tenant": "acme", "routes": "", "unit": "user", "config": "[]"}

    assert sign_in("otto").post("/rollouts/deployments/create/", typed).status_code == 422
    assert not Deployment.objects.filter(slug="greeter").exists()


def test_freeze__added__is_shown_and_ended_with_a_click(sign_in: SignIn, world: World) -> None:
    client = sign_in("otto")
    ends = f"{world.now + timedelta(days=1):%Y-%m-%dT%H:%M}"

    assert client.post("/rollouts/freezes/", {"ends_at": ends, "reason": "Holidays"}).status_code == 302
    assert "Holidays" in client.get("/rollouts/").content.decode()
    freeze = Freeze.objects.get()
    assert client.post(f"/rollouts/freezes/{freeze.pk}/end/").status_code == 302
    assert client.post("/rollouts/freezes/", {"reason": "no end"}).status_code == 422


def test_overview__rollouts_under_way__are_shown_with_their_evidence(sign_in: SignIn, world: World) -> None:
    page = sign_in("otto").get("/").content.decode()

    panel = page[page.index('id="rollouts_now"') : page.index('id="tenants_now"')]
    assert f"?rollout={world.rollouts['held'].pk}" in panel
    assert "more errors roll it back" in panel
    assert f"?rollout={world.rollouts['old'].pk}" not in panel
