"""Budgets by hand: every option, several periods at once, bad input refused at its field, leases of one client revoked."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import UUID

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from controlplane.budgets.accuracy import accuracy
from controlplane.budgets.models import Account, Budget, Lease, LedgerProof
from controlplane.fleet.models import LimitDemand
from controlplane.tenancy.models import AuditEntry
from controlplane.tenancy.queries import SYSTEM
from tests.dashboard.world import USD, World

SignIn = Callable[[str], Client]
CLIENT = str(UUID(int=1))
NEW = {"tenant": "acme", "slug": "new", "amount_usd": "12.50", "period": "calendar:month", "on_exhausted": "block"}


def invalid(html: str) -> set[str]:
    """Return the names of the fields that are marked as wrong."""
    return set(re.findall(r'name="([^"]+)"[^>]*aria-invalid="true"', html))


def test_create__every_option__is_kept_as_typed(sign_in: SignIn, world: World) -> None:
    more = {
        "period.timezone": "Asia/Kathmandu",
        "strict": "no",
        "on_overrun": "cut",
        "on_exhausted": "warn",
        "on_disconnect": "finish_lease",
        "carry.unused_up_to_usd": "3",
        "carry.debt": "yes",
        "thresholds": "50, 90 %",
        **{f"match.{part}": f"a-{part}" for part in ("route", "model", "category", "user", "session")},
    }

    sign_in("otto").post("/budgets/create/", {**NEW, **more})

    made = Budget.objects.get(slug="new")
    assert (made.period_timezone, made.strict, made.on_overrun) == ("Asia/Kathmandu", False, "cut")
    assert (made.on_exhausted, made.on_disconnect, made.thresholds) == ("warn", "finish_lease", [50, 90])
    assert (made.carry_up_to_nusd, made.carries_debt, set(made.match)) == (
        3 * USD, True, {"route", "model", "category", "user", "session"},
    )  # fmt: skip


def test_create__several_periods__makes_a_budget_of_each(sign_in: SignIn) -> None:
    more = {
        "amount_usd.2": "1",
        "period.2": "calendar:day",
        "amount_usd.3": "5",
        "period.3": "rolling",
        "period.days.3": "7",
    }

    sign_in("otto").post("/budgets/create/", {**NEW, **more})

    made = {each.slug: each.rule.as_json() for each in Budget.objects.filter(slug__startswith="new")}
    assert made == {
        "new": {"kind": "calendar", "unit": "month", "timezone": "UTC"},
        "new-day": {"kind": "calendar", "unit": "day", "timezone": "UTC"},
        "new-rolling-7": {"kind": "rolling", "days": 7},
    }


def test_create__one_of_several_is_wrong__makes_none(sign_in: SignIn) -> None:
    more = {"amount_usd.2": "1", "period.2": "rolling", "period.days.2": "400"}

    response = sign_in("otto").post("/budgets/create/", {**NEW, **more})

    assert invalid(response.content.decode()) == {"period.days.2"}
    assert not Budget.objects.filter(slug__startswith="new").exists()


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("amount_usd", "-1"),
        ("amount_usd", "NaN"),
        ("amount_usd", "Infinity"),
        ("amount_usd", "1e400"),
        ("amount_usd", "99999999999"),
        ("amount_usd", "0.0000000001"),
        ("amount_usd", ""),
        ("carry.unused_up_to_usd", "-5"),
        ("carry.unused_up_to_usd", "inf"),
        ("period.timezone", "Mars/Base"),
        ("period.timezone", "../../etc/passwd"),
        ("period", "calendar:fortnight"),
        ("period", "nonsense"),
        ("thresholds", "-50"),
        ("thresholds", "5000"),
        ("match.user", "x" * 200),
        ("on_exhausted", "explode"),
        ("slug", "No Good"),
        ("slug", "support"),
    ],
)
def test_create__bad_input__is_refused_at_its_field_and_changes_nothing(
    field: str, typed: str, sign_in: SignIn
) -> None:
    before, told = Budget.objects.count(), AuditEntry.objects.count()

    response = sign_in("otto").post("/budgets/create/", {**NEW, field: typed})

    assert response.status_code in (409, 422)
    assert invalid(response.content.decode()) == {field}
    assert (Budget.objects.count(), AuditEntry.objects.count()) == (before, told)


@pytest.mark.parametrize("days", ["0", "-3", "367", "1.5", "NaN", ""])
def test_create__rolling_over_days_that_cannot_be__is_refused_at_its_field(days: str, sign_in: SignIn) -> None:
    response = sign_in("otto").post("/budgets/create/", {**NEW, "period": "rolling", "period.days": days})

    assert invalid(response.content.decode()) == {"period.days"}
    assert not Budget.objects.filter(slug="new").exists()


def test_options__changed__are_told_and_keep_the_rest(sign_in: SignIn) -> None:
    typed = {
        "budget": "acme/support",
        "strict": "no",
        "on_overrun": "cut",
        "thresholds": "70",
        "carry.debt": "yes",
        "reason": "r",
    }

    sign_in("otto").post("/budgets/options/", typed)

    budget = Budget.objects.get(slug="support")
    assert (budget.strict, budget.on_overrun, budget.thresholds, budget.carries_debt) == (False, "cut", [70], True)
    assert budget.amount_nusd == 2400 * USD
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.reason) == ("budget.options_changed", "r")


def test_options__from_watching_to_a_hard_cap__what_was_spent_before_is_no_overspend(
    sign_in: SignIn, world: World
) -> None:
    budget = Budget.objects.get(slug="batch")
    Account.objects.filter(budget=budget).update(settled_nusd=900 * USD)

    sign_in("otto").post("/budgets/options/", {"budget": "acme-eu/batch", "on_exhausted": "block"})
    found = {each.budget.slug: each for each in accuracy(SYSTEM, timezone.now())}

    assert found["batch"].guaranteed
    assert found["batch"].overspend_nusd == 0


def test_revoke__of_a_client__takes_all_its_leases_with_the_reason(sign_in: SignIn, world: World) -> None:
    client = UUID(int=1)

    response = sign_in("otto").post(
        "/budgets/revoke/", {"budget": "acme/support", "client": str(client), "reason": "a loop"}
    )

    assert response.status_code == 302
    assert not Lease.objects.filter(incarnation=client, revoked=False, closed=False).exists()
    assert AuditEntry.objects.filter(action="lease.revoked", reason="a loop").exists()


def test_revoke__without_a_reason__is_refused_at_its_field(sign_in: SignIn, world: World) -> None:
    response = sign_in("otto").post("/budgets/revoke/", {"budget": "acme/support", "client": str(UUID(int=1))})

    assert invalid(response.content.decode()) == {"reason"}
    assert not Lease.objects.filter(revoked=True).exists()


def test_revoke__by_an_operator_of_one_tenant__leaves_the_leases_of_others(sign_in: SignIn, world: World) -> None:
    typed = {"budget": "globex/research", "client": str(UUID(int=1)), "reason": "a loop"}

    sign_in("gus").post("/budgets/revoke/", typed)

    revoked = set(Lease.objects.filter(revoked=True).values_list("number", flat=True))
    assert revoked == {world.budgets[name].pk for name in ("globex/research", "globex/trial")}


@pytest.mark.parametrize(
    ("cost", "says"), [("1", "Can afford"), ("600", "Can’t afford"), ("-1", "can&#x27;t be negative")]
)
def test_afford__asked__says_which_budget_of_the_path_has_too_little(cost: str, says: str, sign_in: SignIn) -> None:
    html = sign_in("vera").get("/budgets/", {"budget": "acme/support", "afford": cost}).content.decode()

    assert says in html.split('id="budget_afford"')[1]


def test_shares__by_model__are_broken_down_by_it(sign_in: SignIn) -> None:
    html = sign_in("vera").get("/budgets/", {"budget": "acme/everything", "by": "model"}).content.decode()

    assert "gpt-4o-mini" in html.split('id="budget_shares"')[1]


def test_prove_now__by_who_sees_everything__is_kept_shown_and_audited(sign_in: SignIn, world: World) -> None:
    shown = sign_in("otto").get("/accuracy/").content.decode()

    response = sign_in("otto").post("/accuracy/prove/")

    proof = LedgerProof.objects.latest("at")
    html = sign_in("otto").get("/accuracy/").content.decode()
    assert "Prove now" in shown
    assert response.status_code == 302
    assert f"{proof.difference_count:,} differ" in html or "All agree" in html
    assert AuditEntry.objects.latest("id").action == "ledger.proved"


@pytest.mark.parametrize("name", ["vera", "gus"])
def test_prove_now__viewer_or_operator_of_a_tenant__is_refused_and_has_no_button(name: str, sign_in: SignIn) -> None:
    assert "Prove now" not in sign_in(name).get("/accuracy/").content.decode()
    assert sign_in(name).post("/accuracy/prove/").status_code == 403
    assert not LedgerProof.objects.exists()


def test_prove_now__while_another_runs__is_told_so(sign_in: SignIn, world: World) -> None:
    other = connections["default"].copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(7206001)")
        response = sign_in("otto").post("/accuracy/prove/")
    other.close()

    assert response.status_code == 409
    assert not LedgerProof.objects.exists()


def test_client__chosen__shows_its_leases_shares_and_breakers(sign_in: SignIn, world: World) -> None:
    shares = {"tenant": "acme", "route": "chat", "unit": "requests", "capacity": 10.0, "per_s": 3.5, "promised": 0.25}
    LimitDemand.objects.create(instance=world.instances[0], **shares)

    html = sign_in("vera").get("/clients/", {"client": CLIENT}).content.decode().split('id="client_detail"')[1]

    assert "Acme · support" in html
    assert "25.0 %" in html
    assert "79 of 130 calls failed" in html
    assert "Revoke its leases" not in html


def test_client__of_another_tenant__is_not_shown(sign_in: SignIn, world: World) -> None:
    html = sign_in("gus").get("/clients/", {"client": CLIENT}).content.decode()

    assert "not yours to see" in html
    assert "support-bot" not in html


@pytest.mark.parametrize("client", ["x", "../", str(UUID(int=9999))])
def test_client__that_there_is_not__is_told(client: str, sign_in: SignIn) -> None:
    assert "not here any more" in sign_in("anna").get("/clients/", {"client": client}).content.decode()


def test_client__its_leases_revoked__with_a_reason_only(sign_in: SignIn, world: World) -> None:
    refused = sign_in("otto").post("/clients/revoke/", {"client": CLIENT})
    before = Lease.objects.filter(revoked=True).count()
    done = sign_in("otto").post("/clients/revoke/", {"client": CLIENT, "reason": "runs wild"})

    assert (refused.status_code, invalid(refused.content.decode()), before) == (422, {"reason"}, 0)
    assert done.status_code == 302
    assert not Lease.objects.filter(incarnation=CLIENT, closed=False, revoked=False).exists()


def test_budget__that_only_watches__leads_to_what_it_would_have_refused(sign_in: SignIn) -> None:
    watching = sign_in("vera").get("/budgets/?budget=acme-eu/batch").content.decode()
    capped = sign_in("vera").get("/budgets/?budget=acme/support").content.decode()

    assert 'href="/limits/?tenant=acme-eu#policy_watched"' in watching
    assert "#policy_watched" not in capped
