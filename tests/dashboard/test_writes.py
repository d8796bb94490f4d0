"""The forms: what they change, what they say when they may not, and who may not at all."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.test import Client

from controlplane.budgets.models import Budget, Lease
from controlplane.policy.models import BreakerOverride, Revision, RoutePolicy
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.models import AuditEntry, Operator, OperatorToken, SdkKey, Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.dashboard.world import USD, World

SignIn = Callable[[str], Client]
BUDGET = {"tenant": "acme", "slug": "new", "amount_usd": "12.50", "period": "calendar:month", "on_exhausted": "block"}
RULE = {
    "tenant": "acme", "slug": "new", "name": "New", "kind": "threshold", "spec.metric": "error_rate", "spec.op": "above",
    "spec.value": "10 %", "spec.window_s": "300", "spec.by": "route", "no_data": "ok", "severity": "page",
}  # fmt: skip
OPERATORS = [
    ("/budgets/create/", BUDGET),
    ("/budgets/amount/", {"budget": "acme/support", "amount_usd": "3000"}),
    ("/budgets/options/", {"budget": "acme/support", "on_exhausted": "warn"}),
    ("/budgets/take-back/", {"budget": "acme/support", "amount_usd": "1.20", "reason": "counted twice"}),
    ("/budgets/revoke/", {"budget": "acme/support", "client": str(UUID(int=1)), "reason": "a loop"}),
    ("/budgets/archive/", {"budget": "acme/support"}),
    ("/limits/put/", {"tenant": "acme", "route": "chat", "document": "{}"}),
    ("/limits/delete/", {"policy": "acme/chat"}),
    ("/alerts/rules/put/", RULE),
    ("/alerts/rules/archive/", {"rule": "acme/slow"}),
    ("/alerts/rules/enable/", {"rule": "off:acme/slow"}),
    ("/alerts/channels/create/", {"tenant": "acme", "name": "mail", "kind": "email", "target": "a@acme.example"}),
    (
        "/slos/put/",
        {
            "slo": "acme/chat",
            "tenant": "acme",
            "name": "Chat",
            "kind": "availability",
            "objective": "99.5",
            "days": "28",
        },
    ),
    ("/slos/archive/", {"slo": "acme/quick"}),
    ("/breakers/hand/", {"tenant": "acme", "route": "chat", "do": "forced_open"}),
]
ADMINS = [
    ("/tenants/create/", {"slug": "new", "name": "New"}),
    ("/tenants/of/globex/rename/", {"name": "Other"}),
    ("/tenants/of/globex/archive/", {}),
    ("/tenants/of/acme/keys/", {"name": "second"}),
    ("/settings/operators/", {"username": "new", "password": "long enough for us", "role": "viewer"}),
    ("/settings/tokens/", {"name": "bot", "role": "viewer"}),
    ("/settings/keys/", {"name": "gateway"}),
    ("/prices/set/", {"model": "own", "rates.input": "1.5"}),
    ("/prices/unknown/", {"policy": "refuse"}),
    ("/prices/all/", {"do": "replace", "prices": '{"own": {"input": "2"}}'}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "typed"), [*OPERATORS, *ADMINS])
def test_write__viewer__is_refused_and_changes_nothing(
    path: str, typed: dict[str, str], sign_in: SignIn, world: World
) -> None:
    before = AuditEntry.objects.count()

    response = sign_in("vera").post(path, typed)

    assert response.status_code == 403
    assert AuditEntry.objects.count() == before


@pytest.mark.parametrize(("path", "typed"), ADMINS)
def test_write__operator_where_an_admin_is_needed__is_refused(
    path: str, typed: dict[str, str], sign_in: SignIn
) -> None:
    assert sign_in("otto").post(path, typed).status_code == 403


@pytest.mark.parametrize(("path", "typed"), OPERATORS)
def test_write__operator__is_done_and_told_of(path: str, typed: dict[str, str], sign_in: SignIn, world: World) -> None:
    before = AuditEntry.objects.count()

    response = sign_in("otto").post(path, typed)

    assert response.status_code == 302
    assert AuditEntry.objects.count() > before


@pytest.mark.parametrize(("path", "typed"), ADMINS)
def test_write__admin__is_done(path: str, typed: dict[str, str], sign_in: SignIn, world: World) -> None:
    before = AuditEntry.objects.count()

    response = sign_in("anna").post(path, typed)

    assert response.status_code in (200, 302)
    assert AuditEntry.objects.count() > before


@pytest.mark.parametrize(("path", "typed"), OPERATORS)
def test_write__operator_of_another_tenant__finds_nothing(path: str, typed: dict[str, str], sign_in: SignIn) -> None:
    assert sign_in("gus").post(path, typed).status_code == 404


@pytest.mark.parametrize(("path", "typed"), [*OPERATORS, *ADMINS])
def test_write__by_get__is_not_allowed(path: str, typed: dict[str, str], sign_in: SignIn) -> None:
    assert sign_in("anna").get(path, typed).status_code == 405


def test_change_amount__as_typed_by_people__is_the_amount(sign_in: SignIn, world: World) -> None:
    sign_in("otto").post("/budgets/amount/", {"budget": "acme/support", "amount_usd": "$3,000.50", "reason": "sale"})

    assert Budget.objects.get(slug="support").amount_nusd == 3000 * USD + USD // 2
    assert AuditEntry.objects.latest("id").reason == "sale"


def test_change_amount__by_who_saw_another_one__is_refused_and_says_what_it_is_now(
    sign_in: SignIn, world: World
) -> None:
    client = sign_in("otto")
    typed = {"budget": "acme/support", "seen_usd": "2400.00"}
    client.post("/budgets/amount/", {**typed, "amount_usd": "2500"})

    response = client.post("/budgets/amount/", {**typed, "amount_usd": "2600"})

    html = response.content.decode()
    assert response.status_code == 409
    assert "Somebody changed acme/support meanwhile: it is $2,500.00 now, and nothing was saved." in html
    assert re.search(r'name="amount_usd"[^>]*value="2600"[^>]*aria-invalid="true"', html)
    assert 'name="seen_usd" value="2500.00"' in html
    assert Budget.objects.get(slug="support").amount_nusd == 2500 * USD


def test_export__of_one_tenant__is_where_its_budgets_stand_exactly(sign_in: SignIn) -> None:
    answer = sign_in("vera").get("/budgets/standings.csv", {"tenant": "acme"})

    rows = list(csv.DictReader(answer.content.decode().splitlines()))
    support = next(row for row in rows if row["budget"] == "acme/support")
    assert {row["tenant"] for row in rows} == {"acme"}
    assert support["amount_usd"] == "2400.00"
    assert support["settled_usd"] == "1842.07"
    assert answer.headers["Content-Disposition"].startswith("attachment")


def test_change_amount__great_one__is_told_with_separators(sign_in: SignIn, world: World) -> None:
    sign_in("otto").post("/budgets/amount/", {"budget": "acme/support", "amount_usd": "1000000.5"})

    assert AuditEntry.objects.latest("pk").summary == "Raised budget acme/support from $2,400.00 to $1,000,000.50"


def test_change_amount__unreadable__is_shown_beside_the_field_with_what_was_typed(sign_in: SignIn) -> None:
    response = sign_in("otto").post("/budgets/amount/", {"budget": "acme/support", "amount_usd": "lots"})

    html = response.content.decode()
    assert response.status_code == 422
    assert re.search(r'name="amount_usd"[^>]*value="lots"[^>]*aria-invalid="true"', html)


def test_preview__more_and_less__says_what_it_does_in_numbers(sign_in: SignIn) -> None:
    client = sign_in("otto")

    raised, lowered = (
        client.get("/budgets/preview/", {"budget": "acme/support", "amount_usd": amount}).content.decode()
        for amount in ("3000", "1850")
    )

    assert "Raise by $600.00" in raised
    assert "$1,096.73 will be free to lease" in raised
    assert "Lower by $550.00" in lowered
    assert "<strong>At worst</strong> $53.27 that is leased already is still spent beyond the new amount" in lowered
    assert Budget.objects.get(slug="support").amount_nusd == 2400 * USD


def test_preview__viewer__is_refused(sign_in: SignIn) -> None:
    query = {"budget": "acme/support", "amount_usd": "3000"}

    assert sign_in("vera").get("/budgets/preview/", query).status_code == 403


def test_create_budget__several_wrong_fields__names_each(sign_in: SignIn) -> None:
    typed = {**BUDGET, "slug": "No Good", "period.timezone": "Mars/Base"}

    html = sign_in("otto").post("/budgets/create/", typed).content.decode()

    assert len(re.findall(r'aria-invalid="true"', html)) == 2
    assert "Mars/Base" in html


def test_put_policy__wrong_fields__names_them_and_keeps_the_text(sign_in: SignIn, world: World) -> None:
    document = '{"timeout_ms": -1, "nonsense": 1}'

    response = sign_in("otto").post("/limits/put/", {"tenant": "acme", "route": "chat", "document": document})

    html = response.content.decode()
    assert response.status_code == 422
    assert "<code>timeout_ms</code>" in html
    assert "&quot;nonsense&quot;: 1" in html
    assert RoutePolicy.objects.get(tenant=world.tenants["acme"]).document["limits"][0]["amount"] == 900


def test_put_policy__text_that_is_no_json__is_refused(sign_in: SignIn) -> None:
    response = sign_in("otto").post("/limits/put/", {"tenant": "acme", "route": "chat", "document": "{"})

    assert response.status_code == 422
    assert "not JSON" in response.content.decode()


def test_restore__an_older_revision__is_the_policy_again(sign_in: SignIn, world: World) -> None:
    older = Revision.objects.filter(kind="policy", subject="acme/chat").earliest("id")

    sign_in("otto").post(f"/limits/restore/{older.pk}/")

    assert RoutePolicy.objects.get(tenant=world.tenants["acme"]).document == older.after


def test_hand__forced_and_handed_back__is_kept(sign_in: SignIn) -> None:
    client = sign_in("otto")

    modes = []
    for mode in ("forced_open", "auto"):
        client.post("/breakers/hand/", {"tenant": "", "route": "chat", "do": mode})
        modes.append(BreakerOverride.objects.get(tenant=None, route="chat").mode)

    assert modes == ["forced_open", "auto"]


def test_create_key__its_text__is_shown_once_and_kept_nowhere(sign_in: SignIn, world: World) -> None:
    client = sign_in("anna")

    shown = client.post("/tenants/of/acme/keys/", {"name": "second"}).content.decode()
    found = re.search(r"<code>(tg_[^<]+)</code>", shown)

    assert found is not None
    assert found[1] not in client.get("/tenants/of/acme/").content.decode()
    assert SdkKey.objects.filter(tenant=world.tenants["acme"], name="second").count() == 1


def test_create_key__good_for_no_day__is_told_why_not(sign_in: SignIn, world: World) -> None:
    response = sign_in("anna").post("/tenants/of/acme/keys/", {"name": "stillborn", "days": "0"})

    assert response.status_code == 422
    assert "must be 1 or more" in response.content.decode()
    assert not SdkKey.objects.filter(name="stillborn").exists()


def test_revoke_key__and_token__are_revoked(sign_in: SignIn, world: World) -> None:
    client = sign_in("anna")
    client.post("/settings/tokens/", {"name": "bot", "role": "viewer"})
    token = OperatorToken.objects.get(name="bot")

    client.post(f"/keys/{world.keys['acme'].pk}/revoke/")
    client.post(f"/settings/tokens/{token.pk}/revoke/")

    assert SdkKey.objects.get(pk=world.keys["acme"].pk).revoked_at is not None
    assert OperatorToken.objects.get(pk=token.pk).revoked_at is not None


def test_archive_tenant__with_one_below__is_told_why_not(sign_in: SignIn) -> None:
    response = sign_in("anna").post("/tenants/of/acme/archive/")

    assert response.status_code == 409
    assert "tenants below it" in response.content.decode()
    assert Tenant.objects.get(slug="acme").archived_at is None


def test_deactivate_operator__the_last_admin__stays(sign_in: SignIn, world: World) -> None:
    response = sign_in("anna").post(f"/settings/operators/{world.operators['anna'].pk}/deactivate/")

    assert response.status_code == 409
    assert Operator.objects.get(username="anna").is_active


def test_write__without_the_token_of_the_form__is_refused(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.operators["anna"])

    assert client.post("/budgets/archive/", {"budget": "acme/support"}).status_code == 403
    assert Budget.objects.get(slug="support").archived_at is None


def test_remove_demo__one_click__leaves_what_is_not_of_it(sign_in: SignIn, world: World) -> None:
    mine = set(Tenant.objects.filter(archived_at=None).values_list("slug", flat=True))
    create_tenant(by=SYSTEM, slug="demo", name="Demo world", is_demo=True)
    admin = sign_in("anna")
    refused = sign_in("otto").post("/settings/demo/remove/")
    shown = admin.get("/").content.decode()

    admin.post("/settings/demo/remove/")

    assert refused.status_code == 403
    assert "Remove the demo world" in shown
    assert set(Tenant.objects.filter(archived_at=None).values_list("slug", flat=True)) == mine
    assert "Remove the demo world" not in admin.get("/").content.decode()


def _lease(world: World, *, silent: bool) -> Lease:
    lease = Lease.objects.filter(number=world.budgets["acme/support"].pk).get()
    lease.seen_at = world.now - timedelta(hours=1) if silent else world.now
    lease.save()
    return lease


def test_revoke_lease__its_holder_is_heard_of__is_revoked_with_the_reason(sign_in: SignIn, world: World) -> None:
    lease = _lease(world, silent=False)
    name = f"{lease.incarnation}/{lease.number}"

    response = sign_in("otto").post("/accuracy/leases/revoke/", {"lease": name, "reason": "a loop"})

    lease.refresh_from_db()
    assert (response.status_code, lease.revoked) == (302, True)
    assert AuditEntry.objects.filter(action="lease.revoked", reason="a loop").exists()


def test_resolve_lease__wrong_amount__is_named_beside_the_field(sign_in: SignIn, world: World) -> None:
    lease = _lease(world, silent=True)
    typed = {"lease": f"{lease.incarnation}/{lease.number}", "spent_usd": "99999", "reason": "host gone"}

    response = sign_in("otto").post("/accuracy/leases/resolve/", typed)

    lease.refresh_from_db()
    assert (response.status_code, lease.closed) == (422, False)
    assert b"must be from 0 to $61.20" in response.content


def test_resolve_lease__its_holder_is_lost__is_charged(sign_in: SignIn, world: World) -> None:
    lease = _lease(world, silent=True)
    typed = {"lease": f"{lease.incarnation}/{lease.number}", "spent_usd": "1.20", "reason": "host gone"}

    response = sign_in("otto").post("/accuracy/leases/resolve/", typed)

    lease.refresh_from_db()
    assert (response.status_code, lease.closed, lease.presumed_nusd) == (302, True, 1_200_000_000)


def test_take_back__what_was_charged__is_charged_no_more(sign_in: SignIn, world: World) -> None:
    lease = _lease(world, silent=False)
    Lease.objects.filter(pk=lease.pk).update(settled_nusd=lease.settled_nusd + 5 * USD)
    typed = {"budget": "acme/support", "amount_usd": "1.20", "reason": "counted twice"}

    response = sign_in("anna").post("/budgets/take-back/", typed)

    taken = [each.corrected_nusd for each in Lease.objects.filter(corrected_nusd__gt=0)]
    assert (response.status_code, taken) == (302, [1_200_000_000])
    assert AuditEntry.objects.latest("id").reason == "counted twice"


def test_take_back__more_than_was_charged__is_named_beside_the_field(sign_in: SignIn) -> None:
    typed = {"budget": "acme/support", "amount_usd": "999999", "reason": "counted twice"}

    response = sign_in("anna").post("/budgets/take-back/", typed)

    assert response.status_code == 422
    assert b"which is what calls were charged in this period" in response.content


def test_create_budget__that_carries__is_kept_as_typed(sign_in: SignIn, world: World) -> None:
    more = {"carry.unused_up_to_usd": "5", "carry.debt": "yes", "on_disconnect": "finish_lease", "match.session": "s"}

    response = sign_in("otto").post("/budgets/create/", {**BUDGET, **more})

    made = Budget.objects.get(slug="new")
    assert response.status_code == 302
    assert (made.carry_up_to_nusd, made.carries_debt, made.on_disconnect) == (5 * USD, True, "finish_lease")
    assert made.match == {"session": "s"}
