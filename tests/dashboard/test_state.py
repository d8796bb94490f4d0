from __future__ import annotations

import re
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


def test_state__hit_rates__count_what_came_to_a_tier(sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get("/state/").content.decode()

    rates = re.findall(r'<td class="r strong">([\d.]+) %</td>', html[html.index('id="state_tiers"') :])[:3]
    counted = (900 / (900 + 40 + 77), 410 / (410 + 77))  # by tests.dashboard.state_world
    assert rates[1:] == [f"{100 * part:.1f}" for part in counted]


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


def test_rebalance__given_another_pace__keeps_going_at_it(sign_in: SignIn, world: World) -> None:
    client = sign_in("anna")
    job = Rebalancing.objects.get(phase=Phase.RUNNING)

    client.post("/state/rebalance/steer/", {"job": f"{job.pk}", "slots_per_s": "0.5"})
    html = client.get("/state/").content.decode()

    job.refresh_from_db()
    assert (job.phase, job.slots_per_s) == (Phase.RUNNING, 0.5)
    assert "at most 0.5 a second, so at least 11 min more" in html


@pytest.mark.parametrize("pace", ["", "fast", "0", "1e9", "nan"])
def test_rebalance__given_no_pace__goes_on_as_before_and_says_why(pace: str, sign_in: SignIn, world: World) -> None:
    job = Rebalancing.objects.get(phase=Phase.RUNNING)

    response = sign_in("anna").post("/state/rebalance/steer/", {"job": f"{job.pk}", "slots_per_s": pace})

    job.refresh_from_db()
    assert (response.status_code, job.slots_per_s) == (422, 50.0)
    assert "must be " in response.content.decode()


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

    assert "Session s/1 was ended. Erased: 3 values." in response.content.decode()
    assert [(each["tenant"], each["kind"], each["owner"]) for each in erased] == [("acme", "session", "s/1")]
    assert list(EndedSession.objects.values_list("tenant", "session")) == [("acme", "s/1")]


@pytest.mark.parametrize("who", ["vera", "gus"])
def test_session__ended_by_somebody_who_may_not__is_not(who: str, sign_in: SignIn, world: World) -> None:
    assert sign_in(who).post("/sessions/end/", {"session": "acme/s-1"}).status_code in (403, 404)
    assert not EndedSession.objects.exists()


def test_preview__a_node_is_to_be_emptied__says_what_moves_and_how_long_it_takes(sign_in: SignIn, world: World) -> None:
    client = sign_in("anna")

    emptied = client.get("/state/rebalance/preview/", {"what": "cache/main", "slots_per_s": "10"}).content.decode()
    even = client.get("/state/rebalance/preview/", {"what": "cache", "slots_per_s": "512"}).content.decode()

    assert "1024 of 1,024 slots move, 100.0 %" in emptied
    assert '<td>main</td><td class="r dim">1024</td><td class="r strong">0</td>' in emptied
    assert "at least 1 min" in emptied or "at least 2 min" in emptied
    assert "512 of 1,024 slots move, 50.0 %" in even
    assert not Rebalancing.objects.filter(kind="cache").exists()


@pytest.mark.parametrize("what", ["cache/nobody", "nothing", ""])
def test_preview__of_what_is_not_there__says_so(what: str, sign_in: SignIn, world: World) -> None:
    response = sign_in("anna").get("/state/rebalance/preview/", {"what": what, "slots_per_s": "10"})

    assert response.status_code == 200
    assert 'role="alert">There is no' in response.content.decode()


@pytest.mark.parametrize("pace", ["fast", "nan", "inf"])
def test_preview__at_no_pace__says_so(pace: str, sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get("/state/rebalance/preview/", {"what": "cache", "slots_per_s": pace}).content.decode()

    assert "The pace is not readable." in html


def test_preview__somebody_of_one_tenant__is_not_told(sign_in: SignIn, world: World) -> None:
    html = sign_in("gus").get("/state/rebalance/preview/", {"what": "cache"}).content.decode()

    assert "slots move" not in html
    assert 'role="alert"' in html


def test_rings__shares__are_arcs_that_add_up_to_a_circle(sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get("/state/").content.decode()

    arcs = re.findall(r'class="arc s\d" d="([^"]*)"', html)
    # Main has all of the caches' slots, cache-2 has none.
    assert arcs[0] == "M100.00 11.00A89 89 0 0 1 100.00 189.00A89 89 0 0 1 100.00 11.00"
    assert arcs[1] == ""
