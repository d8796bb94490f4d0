"""What of rollouts is shown on every page, and may be done there."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from django.test import Client
from django.utils import timezone

from controlplane.domain.arms import kept, remembered
from controlplane.domain.verdict import Pair, absorbed
from controlplane.rollouts.actions.rollouts import act
from controlplane.rollouts.models import Rollout
from controlplane.tenancy.queries import SYSTEM
from tests.dashboard.world import World

SignIn = Callable[[str], Client]


def banner_on(client: Client, path: str) -> str:
    page = client.get(path).content.decode()
    found = re.search(r'<div class="stack" id="rollout_banner".*?</div>\n', page, re.DOTALL)
    assert found is not None
    return found[0]


def harmed(rollout: Rollout) -> Rollout:
    """Let the evidence of harm be near what rolls back."""
    rollout.refresh_from_db()
    memory = remembered(rollout.evidence)
    evidence = absorbed(memory.evidence, [{"errors": Pair(60, 6, 1140, 8)}])
    Rollout.objects.filter(pk=rollout.pk).update(evidence=kept(memory._replace(evidence=evidence)), phase="running")
    rollout.refresh_from_db()
    return rollout


def test_banner__harm_is_near__says_so_and_takes_it_back_from_another_page(sign_in: SignIn, world: World) -> None:
    client, rollout = sign_in("otto"), harmed(world.rollouts["baking"])

    said = banner_on(client, "/audit/")
    (do,) = re.findall(rf'value="(rollback:{rollout.pk}:\d+)"', said)
    answer = client.post("/rollouts/act/", {"do": do})

    rollout.refresh_from_db()
    assert "Evidence of harm" in said
    assert f"pause:{rollout.pk}:" in said
    assert f"promote:{rollout.pk}:" in said
    assert (answer.status_code, rollout.phase) == (302, "rolled_back")


def test_banner__waits_for_a_person__says_why_and_a_viewer_may_not(sign_in: SignIn, world: World) -> None:
    rollout = world.rollouts["held"]
    Rollout.objects.filter(pk=rollout.pk).update(phase="held", reason="Nothing to judge by.", evidence={})

    assert "Nothing to judge by." in banner_on(sign_in("otto"), "/budgets/")
    seen = banner_on(sign_in("vera"), "/budgets/")
    assert "Nothing to judge by." in seen
    assert "<button" not in seen
    assert "Nothing to judge by." not in banner_on(sign_in("gus"), "/budgets/")


def test_banner__took_itself_back__is_told_for_a_while_and_what_people_did_is_not(
    sign_in: SignIn, world: World
) -> None:
    now = timezone.now()
    act(by=SYSTEM, rollout=world.rollouts["baking"], verb="rollback", expected_version=None, now=now, reason="Errors.")
    client = sign_in("otto")

    assert "Rolled back by itself" in banner_on(client, "/audit/")
    Rollout.objects.filter(pk=world.rollouts["baking"].pk).update(ended_at=now - timedelta(days=365))
    assert "Rolled back by itself" not in banner_on(client, "/audit/")


def test_banner__nothing_wrong__is_hidden(sign_in: SignIn, world: World) -> None:
    Rollout.objects.exclude(phase__in=["complete"]).delete()

    assert "hidden" in banner_on(sign_in("otto"), "/audit/")
