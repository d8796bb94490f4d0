"""The page of rollouts: what the board says, what its buttons do, and what forms make."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client

from controlplane.rollouts.actions.freezes import add_freeze
from controlplane.rollouts.models import Deployment, Freeze, Rollout
from controlplane.tenancy.queries import SYSTEM
from tests.dashboard import rollout_world
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


def test_act__author_approves__stays_on_the_board_and_reads_why_not(sign_in: SignIn, world: World) -> None:
    draft = rollout_world.draft(world.rollouts, world.now)
    Deployment.objects.filter(pk=draft.deployment_id).update(needs_approval=True)
    otto = sign_in("otto")
    assert say(otto, "start", draft) == 302
    Rollout.objects.filter(pk=draft.pk).update(created_by="otto")
    draft.refresh_from_db()

    response = otto.post("/rollouts/act/", {"do": f"approve:{draft.pk}:{draft.version}"})

    page = response.content.decode()
    assert response.status_code == 403
    assert 'id="rollout_board"' in page
    assert "Whoever made or edited a rollout does not approve it: ask another person." in page
    assert 'data-not-for="[&quot;otto&quot;]"' in page
    assert "by somebody other than otto" in page


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


DRAFT = {"deployment": "triage", "version": "8.0.0", "config": CONFIG, "strategy": "canary", "do": "draft"}


def test_draft__saved_edited_and_started__is_what_was_typed_last(sign_in: SignIn, world: World) -> None:
    client = sign_in("otto")
    assert client.post("/rollouts/create/", DRAFT).status_code == 302
    draft = Rollout.objects.get(release__version="8.0.0")
    assert draft.phase == "draft"
    form = client.get(f"/rollouts/{draft.pk}/edit/").content.decode()
    assert f'name="expected_version" value="{draft.version}"' in form
    assert '<option value="8.0.0" selected>' in form

    typed = {"release": "8.0.0", "strategy": "rings", "alpha": "0.02", "expected_version": draft.version, "do": "start"}
    assert client.post(f"/rollouts/{draft.pk}/put/", typed).status_code == 302
    assert client.post(f"/rollouts/{draft.pk}/put/", typed).status_code == 409

    draft.refresh_from_db()
    assert (draft.phase, draft.strategy, draft.alpha) == ("running", "rings", 0.02)
    assert client.get(f"/rollouts/{draft.pk}/edit/").status_code == 409


def test_draft__of_others__is_not_edited(sign_in: SignIn, world: World) -> None:
    sign_in("otto").post("/rollouts/create/", DRAFT)
    draft = Rollout.objects.get(release__version="8.0.0")

    assert sign_in("gus").get(f"/rollouts/{draft.pk}/edit/").status_code == 404
    assert sign_in("vera").get(f"/rollouts/{draft.pk}/edit/").status_code == 403
    assert sign_in("gus").post(f"/rollouts/{draft.pk}/put/", {"expected_version": 1}).status_code == 404


def test_preview__typed__says_what_changes_for_whom_and_when(sign_in: SignIn, world: World) -> None:
    add_freeze(by=SYSTEM, tenant=None, starts_at=world.now, ends_at=world.now + timedelta(days=400), reason="Holidays")
    typed = {"deployment": "triage", "config": CONFIG, "strategy": "canary", "starts_at": "2099-01-01T08:00"}

    said = sign_in("otto").post("/rollouts/preview/", typed).content.decode()

    assert "<ins>+   &quot;prompt&quot;: &quot;v9&quot;</ins>" in said
    assert "Canary: 5 %, goes on by evidence" in said
    assert "On 2099-01-01 08:00 UTC." in said
    assert "Holidays" in said
    assert not Rollout.objects.filter(deployment__slug="triage", phase="draft").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"config": '{"prompt": 7}'}, "<code>config.prompt</code> must be of type string"),
        ({"config": "{"}, "<code>config</code> is not JSON"),
        ({"rings": '[{"name": "A", "share": 100}]'}, "<code>rings[0].gate</code> with a share of 100 %"),
        ({"rings": '[{"name": "A", "share": 5, "users": "ann"}]'}, "<code>rings[0].users</code> must be a list"),
        ({"alpha": "0.9"}, "<code>alpha</code> must be a number from"),
    ],
)
def test_preview__typed_wrongly__names_the_place(
    sign_in: SignIn, world: World, wrong: dict[str, str], said: str
) -> None:
    Deployment.objects.filter(slug="triage").update(schema={"properties": {"prompt": {"type": "string"}}})

    shown = sign_in("otto").post(
        "/rollouts/preview/", {"deployment": "triage", "config": CONFIG, "strategy": "rings", **wrong}
    )

    assert said in shown.content.decode()


def test_new__config_that_does_not_fit_the_schema__is_said_beside_it_and_not_beside_the_rings(
    sign_in: SignIn, world: World
) -> None:
    Deployment.objects.filter(slug="triage").update(schema={"properties": {"prompt": {"type": "string"}}})
    typed = {"deployment": "triage", "config": '{"prompt": 7}', "strategy": "rings"}

    page = sign_in("otto").post("/rollouts/create/", typed).content.decode()

    assert '<span class="error" id="f_config_error">config.prompt must be of type string</span>' in page
    assert "f_rings_error" not in page


def test_deployment__schema_typed__holds_for_its_first_release(sign_in: SignIn, world: World) -> None:
    typed = {"slug": "greeter", "tenant": "acme", "routes": "", "unit": "user", "config": CONFIG}
    client = sign_in("otto")

    for schema, status in (('{"pattern": "a"}', 422), ('{"required": ["model"]}', 422), ('{"type": "object"}', 302)):
        assert client.post("/rollouts/deployments/create/", {**typed, "schema": schema}).status_code == status
    assert Deployment.objects.get(slug="greeter").schema == {"type": "object"}


def test_board__draft_in_a_freeze__says_until_when(sign_in: SignIn, world: World) -> None:
    sign_in("otto").post("/rollouts/create/", {**DRAFT, "starts_at": "2099-01-01T08:00"})
    add_freeze(by=SYSTEM, tenant=None, starts_at=world.now, ends_at=world.now + timedelta(days=400), reason="Holidays")
    draft = Rollout.objects.get(release__version="8.0.0")

    page = sign_in("otto").get("/rollouts/").content.decode()

    card = page[page.index(f'id="r_{draft.pk}"') :].split("</article>")[0]
    assert "To start on 2099-01-01 08:00 UTC" in card
    assert "Holidays" in card
    assert f'href="/rollouts/{draft.pk}/edit/"' in card


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
