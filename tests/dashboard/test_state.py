from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from controlplane.state.models import EndedSession, Node, Phase, Rebalancing
from tests.dashboard.world import World

SignIn = Callable[[str], Client]


def test_state__an_admin__sees_rings_and_what_a_rebalancing_would_do(sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get("/state/").content.decode()

    assert "170 of 512 slots are moved" in html
    assert "Sessions can be rebalanced" in html
    assert 'aria-label="1,024 slots: main 1024, cache-2 0"' in html


def test_state__somebody_of_one_tenant__sees_its_own_and_no_nodes(sign_in: SignIn, world: World) -> None:
    html = sign_in("gus").get("/state/").content.decode()

    assert "globex" in html
    assert "acme" not in html
    assert "db-2" not in html
    assert "Add a node" not in html


def test_rebalance__paused_and_on_again__is_what_the_mover_finds(sign_in: SignIn, world: World) -> None:
    client = sign_in("anna")
    job = Rebalancing.objects.get(phase=Phase.RUNNING)

    client.post("/state/rebalance/steer/", {"job": f"{job.pk}/paused"})
    job.refresh_from_db()
    paused = job.phase
    client.post("/state/rebalance/steer/", {"job": f"{job.pk}/running"})
    job.refresh_from_db()

    assert (paused, job.phase) == (Phase.PAUSED, Phase.RUNNING)


def test_rebalance__started_for_the_other_ring__has_its_targets(sign_in: SignIn, world: World) -> None:
    response = sign_in("anna").post("/state/rebalance/", {"what": "cache", "slots_per_s": "20"})

    job = Rebalancing.objects.get(kind="cache")
    assert response.status_code == 302
    assert (job.slots_total, job.slots_per_s, job.started_by) == (512, 20.0, "anna")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/state/rebalance/", {"what": "database"}),
        ("/state/rebalance/", {"what": "cache", "slots_per_s": "fast"}),
        ("/state/nodes/add/", {"kind": "database", "name": "Not a name", "url": "http://nowhere"}),
        ("/state/nodes/add/", {"kind": "database", "name": "db-9", "url": "postgresql://127.0.0.1:1/none"}),
        ("/state/nodes/remove/", {"node": "database/main"}),
    ],
)
def test_writes__against_the_rules__change_nothing_and_say_why(
    path: str, body: dict[str, str], sign_in: SignIn, world: World
) -> None:
    before = Node.objects.count(), Rebalancing.objects.count()

    response = sign_in("anna").post(path, body)

    assert response.status_code in (409, 422)
    assert (Node.objects.count(), Rebalancing.objects.count()) == before


@pytest.mark.parametrize("who", ["otto", "vera", "gus"])
def test_nodes__anybody_but_an_admin_of_all__may_not(who: str, sign_in: SignIn, world: World) -> None:
    client = sign_in(who)

    for path, body in (("/state/rebalance/", {"what": "cache"}), ("/state/nodes/remove/", {"node": "cache/cache-2"})):
        assert client.post(path, body).status_code == 403
    assert Node.objects.filter(name="cache-2").exists()


def test_owner__a_viewer_or_somebody_elses__is_not_shown(sign_in: SignIn, world: World) -> None:
    path = "/state/of/?tenant=acme&kind=user&owner=u-1"

    assert sign_in("vera").get(path).status_code == 403
    assert sign_in("gus").get(path).status_code in (403, 404)


def test_session__ended_by_an_operator__is_marked_and_erased(
    sign_in: SignIn, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    erased: list[dict[str, str]] = []

    def erase(**named: str) -> int:
        erased.append(named)
        return 3

    monkeypatch.setattr("controlplane.state.actions.sessions.erase_owner", erase)

    response = sign_in("otto").post("/sessions/end/", {"session": "acme/s/1"}, follow=True)

    assert "Session s/1 was ended: 3 values are erased" in response.content.decode()
    assert [(each["tenant"], each["kind"], each["owner"]) for each in erased] == [("acme", "session", "s/1")]
    assert list(EndedSession.objects.values_list("tenant", "session")) == [("acme", "s/1")]


@pytest.mark.parametrize("who", ["vera", "gus"])
def test_session__ended_by_somebody_who_may_not__is_not(who: str, sign_in: SignIn, world: World) -> None:
    assert sign_in(who).post("/sessions/end/", {"session": "acme/s-1"}).status_code in (403, 404)
    assert not EndedSession.objects.exists()
