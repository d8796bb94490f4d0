"""Deployments and rollouts through the management API."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.api.test_management import Program

pytestmark = pytest.mark.django_db
ROLLOUTS = "deployments/assistant/rollouts"


@pytest.fixture
def acme() -> Tenant:
    return create_tenant(by=SYSTEM, slug="acme", name="Acme")


@pytest.fixture
def admin(acme: Tenant) -> Program:
    return Program("admin")


@pytest.fixture
def assistant(admin: Program) -> Program:
    """The admin, with a deployment that has two releases."""
    schema = {"type": "object", "properties": {"model": {"type": "string"}}}
    made = admin("post", "deployments/", {"slug": "assistant", "tenant": "acme", "routes": ["chat"], "schema": schema})
    assert made.status_code == 201, made.json()
    for version, model in (("7.2.4", "a"), ("7.3.0", "b")):
        assert (
            admin(
                "post", "deployments/assistant/releases/", {"version": version, "config": {"model": model}}
            ).status_code
            == 201
        )
    return admin


def begin(program: Program, **more: Any) -> Any:
    reply = program("post", f"{ROLLOUTS}/", {"release": "7.3.0", **more})
    assert reply.status_code == 201, reply.json()
    return reply.json()


def test_rollout__made__starts_in_its_first_ring(assistant: Program) -> None:
    made = begin(assistant)

    assert (made["phase"], made["ring"], made["previous"], made["release"]) == ("running", 0, "7.2.4", "7.3.0")
    assert [ring["share"] for ring in made["rings"]] == [5.0, 25.0, 100.0]
    assert made["evidence"]["harm"] == 0
    assert made["convergence"] == {
        "clients": 0, "on_it": 0, "refused": [], "laggards": [], "silent": 0, "p99_ms": None,
    }  # fmt: skip


def test_rollout__draft_put_anew__is_what_it_says_now(assistant: Program) -> None:
    draft = begin(assistant, start=False)
    wish = {"release": "7.3.0", "strategy": "canary", "starts_at": "2099-01-01T08:00:00Z"}

    edited = assistant("put", f"{ROLLOUTS}/{draft['id']}/", {**wish, "expected_version": draft["version"]})
    stale = assistant("put", f"{ROLLOUTS}/{draft['id']}/", {**wish, "expected_version": draft["version"]})
    started = assistant("post", f"{ROLLOUTS}/start", {"expected_version": edited.json()["version"]})

    assert (edited.status_code, stale.status_code) == (200, 409)
    said = started.json()
    assert (said["phase"], said["strategy"], said["starts_at"]) == ("scheduled", "canary", "2099-01-01T08:00:00Z")
    assert assistant("put", f"{ROLLOUTS}/{draft['id']}/", {**wish, "alpha": 0.9}).status_code == 422


def test_rollout__verb_sent_twice__is_done_once(assistant: Program) -> None:
    version = begin(assistant)["version"]

    first = assistant("post", f"{ROLLOUTS}/pause", {"expected_version": version})
    second = assistant("post", f"{ROLLOUTS}/pause", {"expected_version": version})
    stale = assistant("post", f"{ROLLOUTS}/promote", {"expected_version": version})

    assert (first.status_code, second.status_code, stale.status_code) == (200, 200, 409)
    assert first.json()["version"] == second.json()["version"] == version + 1


@pytest.mark.parametrize(
    ("verbs", "phase"),
    [
        (["pause", "resume"], "running"),
        (["promote"], "running"),
        (["promote", "promote", "promote"], "promoting"),
        (["promote_fully"], "promoting"),
        (["skip"], "running"),
        (["abort"], "aborted"),
        (["abort", "retry"], "running"),
        (["rollback"], "rolled_back"),
    ],
)
def test_rollout__verbs__lead_to_their_phase(assistant: Program, verbs: list[str], phase: str) -> None:
    begin(assistant)

    replies = [assistant("post", f"{ROLLOUTS}/{verb}") for verb in verbs]

    assert [reply.status_code for reply in replies] == [200] * len(verbs)
    assert replies[-1].json()["phase"] == phase


def test_rollout__extended__decides_later(assistant: Program) -> None:
    made = begin(assistant)

    extended = assistant("post", f"{ROLLOUTS}/{made['id']}/extend", {"seconds": 600})
    refused = assistant("post", f"{ROLLOUTS}/{made['id']}/extend", {"seconds": 0})

    assert extended.json()["decides_by"] > made["decides_by"]
    assert refused.status_code == 409


def test_rollout__blue_green__switches(assistant: Program) -> None:
    begin(assistant, strategy="blue_green")

    assert assistant("post", f"{ROLLOUTS}/switch").json()["candidate_is_live"]
    assert not assistant("post", f"{ROLLOUTS}/switch").json()["candidate_is_live"]


def test_rollout__history_and_lists__show_what_was_done(assistant: Program) -> None:
    made = begin(assistant)
    assistant("post", f"{ROLLOUTS}/rollback", {"reason": "It swears."})

    history = assistant("get", f"{ROLLOUTS}/{made['id']}/history").json()
    releases = assistant("get", "deployments/assistant/releases/").json()["items"]

    assert [event["verb"] for event in history] == ["rollback", "start", "create"]
    assert [(each["version"], each["bad_reason"]) for each in releases] == [("7.3.0", "It swears."), ("7.2.4", "")]
    assert len(assistant("get", f"{ROLLOUTS}/").json()["items"]) == 1
    assert assistant("get", "deployments/").json()[0]["stable"] == "7.2.4"


def test_deployment__changed__only_in_what_is_named(assistant: Program) -> None:
    changed = assistant("patch", "deployments/assistant/", {"routes": ["chat", "mail"], "schema": None})
    refused = assistant("patch", "deployments/assistant/", {"unit": "planet"})

    assert (changed.status_code, changed.json()["routes"], changed.json()["unit"]) == (200, ["chat", "mail"], "session")
    assert refused.status_code == 422
    assert assistant("post", "deployments/assistant/releases/", {"config": {"model": 7}}).status_code == 201
    begin(assistant)
    assert assistant("patch", "deployments/assistant/", {"unit": "user"}).status_code == 409
    assert assistant("patch", "deployments/assistant/", {"routes": ["chat"]}).status_code == 200


def test_release__that_does_not_fit__is_refused_field_by_field(assistant: Program) -> None:
    reply = assistant("post", "deployments/assistant/releases/", {"config": {"model": 7}})

    assert reply.status_code == 422
    assert reply.json()["errors"] == {"config.model": "must be of type string"}


def test_freeze__on__forbids_going_on(assistant: Program) -> None:
    begin(assistant)
    freeze = assistant("post", "freezes/", {"starts_at": "2020-01-01T00:00:00Z", "ends_at": "2100-01-01T00:00:00Z"})
    assert freeze.status_code == 201

    assert assistant("post", f"{ROLLOUTS}/promote").status_code == 409
    assert assistant("delete", f"freezes/{freeze.json()['id']}/").status_code == 204
    assert assistant("post", f"{ROLLOUTS}/promote").status_code == 200


def test_rollout__others__get_nothing(assistant: Program) -> None:
    made = begin(assistant)
    outsider = Program("admin", create_tenant(by=SYSTEM, slug="globex", name="Globex"))
    viewer = Program("viewer")

    assert outsider("get", "deployments/").json() == []
    assert outsider("get", f"{ROLLOUTS}/{made['id']}/").status_code == 404
    assert outsider("post", f"{ROLLOUTS}/rollback").status_code == 404
    assert viewer("get", f"{ROLLOUTS}/{made['id']}/").status_code == 200
    assert viewer("post", f"{ROLLOUTS}/rollback").status_code == 403
    assert viewer("post", "deployments/assistant/releases/", {"config": {}}).status_code == 403
