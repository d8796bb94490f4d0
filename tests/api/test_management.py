"""The management API as an operator's program uses it, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from controlplane.budgets.actions import section
from controlplane.telemetry import sampled
from controlplane.telemetry.actions.span_sums import fold_spans
from controlplane.telemetry.models import Span
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.actions.tokens import create_token
from controlplane.tenancy.models import AuditEntry, SdkKey, Tenant
from controlplane.tenancy.queries import SYSTEM

pytestmark = pytest.mark.django_db
MONTH = {"kind": "calendar", "unit": "month", "timezone": "UTC"}


class Program:
    """Asks with one operator token."""

    def __init__(self, role: str, tenant: Tenant | None = None) -> None:
        _, text = create_token(by=SYSTEM, name=role, role=role, tenant=tenant)
        self._client = Client(headers={"Authorization": f"Bearer {text}"})

    def __call__(self, method: str, path: str, document: Any = None, **headers: str) -> Any:
        send = getattr(self._client, method)
        if method == "get":
            return send(f"/api/v1/{path}", headers=headers)
        return send(f"/api/v1/{path}", document, content_type="application/json", headers=headers)


@pytest.fixture
def acme() -> Tenant:
    return create_tenant(by=SYSTEM, slug="acme", name="Acme")


@pytest.fixture
def admin() -> Program:
    return Program("admin")


@pytest.fixture
def outsider() -> Program:
    """An admin of another tenant."""
    return Program("admin", create_tenant(by=SYSTEM, slug="globex", name="Globex"))


def test_tenants__created_read_renamed_archived__through_the_api(admin: Program) -> None:
    created = admin("post", "tenants/", {"slug": "acme", "name": "Acme"})
    child = admin("post", "tenants/", {"slug": "acme-eu", "name": "Acme EU", "parent": "acme"})
    renamed = admin("patch", "tenants/acme/", {"name": "Acme Inc"})
    refused = admin("delete", "tenants/acme/")
    gone = admin("delete", "tenants/acme-eu/")

    assert (created.status_code, created.json()["parent"]) == (201, None)
    assert child.json()["parent"] == "acme"
    assert renamed.json()["name"] == "Acme Inc"
    assert refused.status_code == 409
    assert gone.status_code == 204
    assert [item["slug"] for item in admin("get", "tenants/").json()["items"]] == ["acme"]


@pytest.mark.parametrize(
    ("document", "field"),
    [({"slug": "A b", "name": "x"}, "slug"), ({"slug": "a", "name": " "}, "name"), ({"slug": "a"}, "name")],
)
def test_tenants__a_wrong_field__is_refused_by_its_name(admin: Program, document: Any, field: str) -> None:
    reply = admin("post", "tenants/", document)

    assert reply.status_code == 422
    assert reply["content-type"] == "application/problem+json"
    assert list(reply.json()["errors"]) == [field]


def test_tenants__a_slug_that_is_taken__is_a_conflict(admin: Program, acme: Tenant) -> None:
    assert admin("post", "tenants/", {"slug": "acme", "name": "Again"}).status_code == 409


def test_keys__created_and_revoked__are_told_once(admin: Program, acme: Tenant) -> None:
    created = admin("post", "tenants/acme/keys/", {"name": "app"}).json()
    listed = admin("get", "tenants/acme/keys/")
    revoked = admin("delete", f"keys/{created['id']}/")

    assert created["key"].startswith("tg_")
    assert created["key"] not in listed.content.decode()
    assert revoked.status_code == 204
    assert SdkKey.objects.get().revoked_at is not None


def test_keys__a_third_live_one_of_a_name__is_refused(admin: Program, acme: Tenant) -> None:
    replies = [admin("post", "tenants/acme/keys/", {"name": "app"}).status_code for _ in range(3)]

    assert replies == [201, 201, 409]


def test_policy__put__governs_and_tells_what_it_inherits(admin: Program, acme: Tenant) -> None:
    admin("put", "routes/*/policy", {"timeout_ms": 9})

    reply = admin("put", "tenants/acme/routes/chat/policy", {"queue": {"max_concurrent": 3}})

    assert reply.json()["own"] == {"queue": {"max_concurrent": 3}}
    assert reply.json()["effective"]["timeout_ms"] == 9
    assert reply.json()["effective"]["queue"]["max_waiting"] == 64


def test_policy__a_wrong_part__is_refused_by_its_path(admin: Program, acme: Tenant) -> None:
    reply = admin("put", "tenants/acme/routes/chat/policy", {"queue": {"max_concurrent": 0}})

    assert reply.status_code == 422
    assert list(reply.json()["errors"]) == ["queue.max_concurrent"]


def test_revisions__an_old_one_restored__is_a_new_one(admin: Program, acme: Tenant) -> None:
    for timeout in (1, 2):
        admin("put", "tenants/acme/routes/chat/policy", {"timeout_ms": timeout})
    history = admin("get", "revisions/?kind=policy&subject=acme/chat").json()["items"]

    restored = admin("post", f"revisions/{history[1]['id']}/restore")

    assert [item["after"]["timeout_ms"] for item in history] == [2, 1]
    assert restored.status_code == 204
    assert admin("get", "tenants/acme/routes/chat/policy").json()["own"] == {"timeout_ms": 1}
    assert len(admin("get", "revisions/?kind=policy&subject=acme/chat").json()["items"]) == 3


def test_breakers__forced_and_reset__show_in_the_effective_policy(admin: Program, acme: Tenant) -> None:
    admin("post", "tenants/acme/routes/chat/breaker", {"mode": "forced_open"})
    admin("post", "routes/chat/breaker/reset")

    effective = admin("get", "tenants/acme/routes/chat/policy").json()["effective"]

    assert (effective["breaker"]["mode"], effective["breaker_resets"]) == ("forced_open", 1)


def test_budgets__created_and_lowered__stand_as_told(admin: Program, acme: Tenant) -> None:
    budget = {"slug": "all", "amount_usd": "12.50", "period": MONTH, "thresholds": [80, 50]}
    created = admin("post", "tenants/acme/budgets/", budget)
    effect = admin("get", "tenants/acme/budgets/all/effect?amount_usd=10")
    lowered = admin("post", "tenants/acme/budgets/all/amount", {"amount_usd": "10"})
    archived = admin("delete", "tenants/acme/budgets/all/")

    assert (created.status_code, created.json()["free_usd"]) == (201, "12.50")
    assert created.json()["thresholds"] == [50, 80]
    assert effect.json()["free_usd"] == "10.00"
    assert lowered.json()["amount_usd"] == "10.00"
    assert archived.status_code == 204
    entry = AuditEntry.objects.get(action="budget.amount_changed")
    assert entry.before is not None
    assert entry.before["amount_usd"] == "12.50"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"amount_usd": "-1"}, "amount_usd"),
        ({"amount_usd": "1e3"}, "amount_usd"),
        ({"period": {"kind": "calendar", "unit": "age"}}, "period.unit"),
        ({"match": {"planet": "mars"}}, "match.planet"),
        ({"match": {"route": "not a route"}}, "match.route"),
        ({"on_exhausted": "panic"}, "on_exhausted"),
        ({"thresholds": [0]}, "thresholds"),
        ({"slug": "-"}, "slug"),
        ({"on_exausted": "warn"}, "on_exausted"),
        ({"carry": {"up_to_usd": "5"}}, "carry.up_to_usd"),
    ],
)
def test_budgets__a_wrong_field__is_refused_by_its_name(
    admin: Program, acme: Tenant, wrong: dict[str, Any], field: str
) -> None:
    reply = admin("post", "tenants/acme/budgets/", {"slug": "all", "amount_usd": "1", "period": MONTH, **wrong})

    assert reply.status_code == 422
    assert list(reply.json()["errors"]) == [field]


def test_budgets__reservation_changed__stands_in_budget_and_snapshot(admin: Program, acme: Tenant) -> None:
    budget = {"slug": "all", "amount_usd": "1", "period": MONTH}
    created = admin("post", "tenants/acme/budgets/", budget).json()
    changed = admin("put", "tenants/acme/budgets/all/reservation", {"strict": False, "on_overrun": "cut"})
    wrong = admin("put", "tenants/acme/budgets/all/reservation", {"strict": False, "on_overrun": "panic"})

    assert (created["strict"], created["on_overrun"]) == (True, "finish")
    assert (changed.json()["strict"], changed.json()["on_overrun"]) == (False, "cut")
    assert list(wrong.json()["errors"]) == ["on_overrun"]
    assert AuditEntry.objects.filter(action="budget.reservation_changed").count() == 1
    lines = section.money().budgets
    assert [(line.strict, line.on_overrun) for line in lines] == [(False, "cut")]


def test_prices__set_and_deleted__change_the_book(admin: Program) -> None:
    put = admin("put", "prices/acme/own-model", {"rates": {"input": "0.15", "output": "0.6"}})
    listed = admin("get", "prices/").json()["items"]
    deleted = admin("delete", "prices/acme/own-model")

    assert put.json()["model"] == "acme/own-model"
    assert [item["rates"] for item in listed] == [{"input": "0.15", "output": "0.6"}]
    assert deleted.status_code == 204


@pytest.mark.parametrize(
    "path", ["usage/", "traces/", "clients/", "breakers/", "audit/", "tokens/", "keys/", "budgets/"]
)
def test_lists__nothing_there__are_empty(admin: Program, path: str) -> None:
    reply = admin("get", path)

    assert reply.status_code == 200
    assert isinstance(reply.json()["items"], list)


@pytest.mark.parametrize("query", ["cursor=x", "limit=0", "limit=1000"])
def test_lists__a_wrong_cursor_or_limit__says_so(admin: Program, query: str) -> None:
    assert admin("get", f"audit/?{query}").status_code == 422


def test_audit__more_than_a_page__goes_on_at_the_cursor(admin: Program, acme: Tenant) -> None:
    for name in ("one", "two", "three"):
        admin("post", "tenants/acme/keys/", {"name": name})

    first = admin("get", "audit/?limit=2").json()
    second = admin("get", f"audit/?limit=2&cursor={first['next']}").json()

    ids = [item["id"] for item in first["items"] + second["items"]]
    assert len(ids) == 4
    assert ids == sorted(ids, reverse=True)


def test_anyone__without_a_token__is_refused(acme: Tenant) -> None:
    reply = Client().get("/api/v1/tenants/")

    assert reply.status_code == 401
    assert reply["www-authenticate"] == "Bearer"


def test_viewer__writing__is_forbidden(acme: Tenant) -> None:
    viewer = Program("viewer")

    assert viewer("post", "tenants/", {"slug": "x", "name": "X"}).status_code == 403
    assert viewer("put", "tenants/acme/routes/chat/policy", {}).status_code == 403
    assert viewer("post", "tenants/acme/keys/", {"name": "k"}).status_code == 403
    assert viewer("get", "tenants/acme/").status_code == 200


def test_outsider__asking_for_another_tenant__gets_nothing(admin: Program, acme: Tenant, outsider: Program) -> None:
    admin("post", "tenants/acme/budgets/", {"slug": "all", "amount_usd": "1", "period": MONTH})
    key = admin("post", "tenants/acme/keys/", {"name": "app"}).json()

    for method, path in (
        ("get", "tenants/acme/"),
        ("get", "tenants/acme/keys/"),
        ("get", "tenants/acme/routes/chat/policy"),
        ("get", "tenants/acme/budgets/"),
        ("get", "tenants/acme/budgets/all/"),
        ("delete", f"keys/{key['id']}/"),
        ("get", "budgets/all/"),
        ("get", "routes/*/policy"),
    ):
        assert outsider(method, path).status_code == 404, path
    assert outsider("put", "routes/*/policy", {}).status_code == 403
    assert outsider("post", "keys/", {"name": "all"}).status_code == 403
    assert [item["slug"] for item in outsider("get", "tenants/").json()["items"]] == ["globex"]
    assert {item["tenant"] for item in outsider("get", "audit/").json()["items"]} <= {"globex"}


@pytest.mark.django_db(transaction=True)
def test_idempotency_key__sent_again__does_it_once_and_answers_the_same(admin: Program, acme: Tenant) -> None:
    first = admin("post", "tenants/acme/keys/", {"name": "app"}, **{"Idempotency-Key": "k1"})
    again = admin("post", "tenants/acme/keys/", {"name": "app"}, **{"Idempotency-Key": "k1"})
    other = admin("post", "tenants/acme/keys/", {"name": "another"}, **{"Idempotency-Key": "k1"})

    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert SdkKey.objects.count() == 1
    assert other.status_code == 409


@pytest.mark.django_db(transaction=True)
def test_idempotency_key__without_a_valid_token__tells_nothing(admin: Program, acme: Tenant) -> None:
    headers = {"Idempotency-Key": "k1", "Authorization": "Bearer tgo_aaaaaaaaaaaa_" + "b" * 43}

    reply = Client().post("/api/v1/tenants/acme/keys/", {"name": "a"}, content_type="application/json", headers=headers)

    assert reply.status_code == 401


def test_openapi__the_document__names_every_path_once(admin: Program) -> None:
    document = admin("get", "openapi.json").json()

    assert "/api/v1/tenants/{slug}/budgets/{budget}/amount" in document["paths"]
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("address", ["tenants/%00/budgets/", "usage/?tenant=%00", "budgets/a%00b/"])
def test_address__with_a_nul__is_turned_down(admin: Program, address: str) -> None:
    answer = admin("get", address)
    assert (answer.status_code, "NUL" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("number", ["NaN", "Infinity", '"\\ud800"', '"a\\u0000"', '{"\\u0000": [1]}'])
def test_body__with_what_json_does_not_know__is_turned_down(admin: Program, number: str) -> None:
    answer = admin("put", "prices/my-model", f'{{"input": {number}}}')
    assert answer.status_code == 400


def test_body__with_a_nul_that_is_only_spelled_out__is_taken(admin: Program, acme: Tenant) -> None:
    assert admin("put", "tenants/acme/capture", {"keeps": True, "redact": [r"\\u0000"]}).status_code == 200
    assert admin("put", "tenants/acme/capture", {"keeps": True, "redact": ["a\0"]}).status_code == 400


def test_budget__options_patched__change_what_is_said_and_keep_the_rest(admin: Program, acme: Tenant) -> None:
    document = {"slug": "support", "amount_usd": "10", "period": MONTH, "thresholds": [50]}
    admin("post", "tenants/acme/budgets/", document)

    changed = admin("patch", "tenants/acme/budgets/support/", {"on_exhausted": "warn", "carry": {"debt": True}})
    refused = admin("patch", "tenants/acme/budgets/support/", {"on_overrun": "explode"})

    told = changed.json()
    assert (changed.status_code, told["on_exhausted"], told["carry"]["debt"]) == (200, "warn", True)
    assert (told["thresholds"], told["amount_usd"], told["strict"]) == ([50], "10.00", True)
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["on_overrun"])


def test_leases__of_a_client_without_any__are_not_there_to_be_revoked(admin: Program) -> None:
    answer = admin("post", "leases/00000000-0000-0000-0000-000000000001/revoke", {"reason": "a loop"})

    assert answer.status_code == 409


def test_traces__their_histogram__tells_how_well_it_is_counted(
    admin: Program, outsider: Program, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime(2026, 11, 25, 7, 3, tzinfo=UTC)
    Span.objects.bulk_create(
        Span(trace_id=f"{n:032x}", span_id=f"{n:016x}", starts_at=at, duration_us=5, tenant="acme", service="s", name="s", kind=1, status=1)
        for n in range(64)
    )  # fmt: skip
    fold_spans(now=at + timedelta(minutes=2), kept_since=at - timedelta(hours=9))
    asked = "traces/histogram?since=2026-11-25T07:00:00Z&until=2026-11-25T08:00:00Z&step_s=600&attribute=no"

    counted = admin("get", asked.replace("attribute=no", "service=s")).json()
    monkeypatch.setattr(sampled, "MOST_HEADS", 4)
    estimated = admin("get", asked.replace("attribute=no", "text=no")).json()

    assert [counted[name] for name in ("total", "one_in", "margin")] == [64, 1, 0]
    assert [item["traces"] for item in counted["items"]] == [64, 0, 0, 0, 0, 0]
    assert [estimated[name] for name in ("total", "one_in", "margin")] == [0, 16, 48]
    assert outsider("get", asked.replace("attribute=no", "service=s")).json()["total"] == 0
    assert admin("get", asked.replace("600", "1")).status_code == 422


def test_traces__by_tenant_and_status__are_listed_and_what_is_no_status_is_refused(admin: Program) -> None:
    assert admin("get", "traces/?tenant=acme&status=error&hours=2").json() == {"items": [], "next": None}

    assert "status" in admin("get", "traces/?status=perhaps").json()["errors"]
