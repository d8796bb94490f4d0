"""Every page, seen by an admin, a viewer, and an operator of another tenant, with a pinned number of queries."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from controlplane.fleet.models import Instance
from controlplane.telemetry import sampled
from controlplane.telemetry.actions.span_sums import fold_spans
from controlplane.tenancy.queries import asker_of
from dashboard.kept import kept
from dashboard.page import Page, Params, context_of, render
from dashboard.pages import alerts, slos
from dashboard.registry import PAGES
from tests.dashboard import rollout_world
from tests.dashboard.world import World

# What each page may ask of the database, the session and the operator behind it included.
MOST_QUERIES = {
    "/": 32,
    "/tenants/": 18,
    "/tenants/of/acme/": 37,
    "/tenants/new/": 14,
    "/budgets/": 27,
    "/budgets/new/": 14,
    "/accuracy/": 25,
    "/prices/?model=gpt-4o": 19,
    "/limits/?policy=acme/chat": 29,
    "/limits/edit/?policy=acme/chat": 14,
    "/breakers/": 27,
    "/rollouts/": 41,
    "/rollouts/new/": 18,
    "/rollouts/deployments/new/": 14,
    "/explore/": 26,
    "/explore/?by=tenant&compare=1&metric=cost_usd": 45,  # of two ranges, by the time of day in up to four lengths of windows
    "/traces/": 24,
    "/traces/compare/": 14,
    "/mesh/": 19,
    "/sessions/": 47,  # five statements for each of five questions that may take too long
    "/alerts/": 24,
    "/alerts/?show=all&by=tenant": 24,
    "/alerts/rules/": 22,
    "/alerts/rules/edit/": 18,
    "/alerts/rules/edit/?rule=acme/model-errors": 22,
    "/alerts/channels/": 16,
    "/slos/": 48,
    "/slos/?slo=acme/quick&pair=1&by=model": 48,
    "/slos/edit/": 14,
    "/clients/": 16,
    "/clients/?client=00000000-0000-0000-0000-000000000001": 21,
    "/state/": 33,
    "/state/of/": 16,
    "/audit/": 14,
    "/settings/": 19,
}
WRITES = re.compile(r"<form(?![^>]*method=\"get\")[^>]*action=\"(?!/sign-out/)|formaction=")
SignIn = Callable[[str], Client]


def _params(page: Page, world: World) -> Params:
    known = {"slug": "acme", "trace_id": world.trace_id, "policy": "acme/chat"}
    if page.name == "rollout-edit":
        known["number"] = str(rollout_world.draft(world.rollouts, world.now).pk)
    return Params.taken(page.params, known)


@pytest.mark.parametrize("path", MOST_QUERIES)
def test_page__admin__is_shown_with_few_queries(
    path: str, sign_in: SignIn, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for page in (alerts, slos):  # what they keep for some seconds is kept from one request to the next
        monkeypatch.setattr(page, "kept", lambda key, _now, make, *_: kept(key, world.now, make))
    client = sign_in("anna")
    client.get(path)

    with CaptureQueriesContext(connection) as queries:
        response = client.get(path)

    assert response.status_code == 200
    assert len(queries) <= MOST_QUERIES[path], [query["sql"][:120] for query in queries]


@pytest.mark.parametrize("path", [path for path in MOST_QUERIES if "/new/" not in path and "/edit/" not in path])
def test_page__viewer__has_nothing_to_write_with(path: str, sign_in: SignIn) -> None:
    html = sign_in("vera").get(path).content.decode()

    assert WRITES.findall(html) == []


@pytest.mark.parametrize("path", MOST_QUERIES)
def test_page__nobody__is_sent_to_the_door(path: str, client: Client, db: None) -> None:
    response = client.get(path)

    assert response.status_code == 302
    assert response["Location"].startswith("/sign-in/")


@pytest.mark.parametrize("path", ["/tenants/of/acme/", "/tenants/of/acme/cost.json"])
def test_page__operator_of_another_tenant__is_told_that_there_is_none(path: str, sign_in: SignIn) -> None:
    assert sign_in("gus").get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/tenants/", "/budgets/", "/limits/", "/breakers/", "/traces/", "/clients/", "/audit/", "/settings/",
             "/alerts/", "/alerts/rules/", "/alerts/channels/", "/slos/"]
)  # fmt: skip
def test_page__operator_of_another_tenant__names_nothing_of_the_others(path: str, sign_in: SignIn) -> None:
    html = sign_in("gus").get(path).content.decode()

    assert "globex" in html.casefold()
    assert not re.search(r"acme|batch-summariser|installation ·", html.casefold())


@pytest.mark.parametrize(
    "path", ["/tenants/new/", "/budgets/new/", "/limits/edit/", "/alerts/rules/edit/", "/slos/edit/"]
)
def test_form__viewer__is_refused(path: str, sign_in: SignIn) -> None:
    assert sign_in("vera").get(path).status_code == 403


@pytest.mark.parametrize("name", PAGES)
def test_parts__any_page__have_their_name_as_the_id_of_their_root(name: str, world: World) -> None:
    page = PAGES[name]
    context = context_of(page, asker_of(world.operators["anna"]), _params(page, world), timezone.now())

    for part, html in render(page, context).items():
        assert re.match(rf"\s*<\w+[^>]*\sid=\"{part}\"", html), f"{name}: {part}"


@pytest.mark.parametrize("name", PAGES)
def test_parts__of_two_askers_alike__are_the_same(name: str, world: World) -> None:
    page, now = PAGES[name], timezone.now()
    first = asker_of(world.operators["anna"])
    second = type(first)(name="somebody else", role=first.role)

    pictures = [render(page, context_of(page, asker, _params(page, world), now)) for asker in (first, second)]

    assert pictures[0] == pictures[1]


def test_page__first_response__holds_the_parts_as_frames_would(sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get("/audit/").content.decode()

    assert html.count('id="audit_list"') == 1
    assert 'data-page="audit"' in html
    assert 'data-query=""' in html


def test_limits__a_policy_only_watches__what_it_would_have_refused_is_told(sign_in: SignIn) -> None:
    shown = sign_in("anna").get("/limits/").content.decode()

    panel = shown[shown.index('id="policy_watched"') :]
    assert "rate limited" in panel
    assert "the last 24 h: <strong>" in panel


def test_page__hostile_parameters__are_only_text(sign_in: SignIn) -> None:
    html = sign_in("anna").get("/clients/", {"q": '"><script>alert(1)</script>'}).content.decode()

    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


@pytest.mark.parametrize(
    "path", ["/audit/?cursor=x", "/audit/?entry=99999999999999999999", "/?tenant=none", "/?range=9y", "/budgets/?budget=no",
             "/limits/?policy=no/way", "/breakers/?route=none", "/clients/?state=odd", "/tenants/of/acme/?by=odd", "/alerts/?alert=x&by=odd&show=odd", "/alerts/?alert=99999999999999999999",
             "/alerts/channels/?cursor=x&status=odd", "/alerts/rules/edit/?kind=odd",
             "/slos/?slo=no/no&pair=x&by=odd"]
)  # fmt: skip
def test_page__parameters_that_fit_nothing__is_still_shown(path: str, sign_in: SignIn) -> None:
    assert sign_in("anna").get(path).status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/traces/?cursor=odd~1", 422), ("/traces/00/", 404), ("/nothing/", 404)])
def test_page__that_is_not_there__says_so(path: str, status: int, sign_in: SignIn) -> None:
    assert sign_in("anna").get(path).status_code == status


def test_palette__operator__finds_pages_tenants_budgets_and_what_they_may_do(sign_in: SignIn) -> None:
    entries = sign_in("otto").get("/palette.json").json()["entries"]

    titles = {entry["title"] for entry in entries}
    assert {"Overview", "Acme Europe", "acme · support", "New budget"} <= titles
    assert "New tenant" not in titles


def test_trace__its_page__shows_every_span_once(sign_in: SignIn, world: World) -> None:
    html = sign_in("anna").get(f"/traces/{world.trace_id}/").content.decode()

    assert len(re.findall(r'<tr id="s_[0-9a-f]{16}"', html)) == 5


@pytest.mark.parametrize(
    ("query", "fault"),
    [("min_ms=abc", "is not a number, and left out"), ("status=failed", "is neither ok nor error, and left out")],
)
def test_traces__filter_of_a_wrong_value__is_said_on_its_chip(sign_in: SignIn, query: str, fault: str) -> None:
    assert fault in sign_in("anna").get(f"/traces/?{query}").content.decode()


def test_traces__filters_of_right_values__have_no_fault(sign_in: SignIn) -> None:
    assert "left out" not in sign_in("anna").get("/traces/?min_ms=1e2&status=error&max_ms=9000").content.decode()


def test_traces__their_histogram__says_when_it_is_an_estimate(
    sign_in: SignIn, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_in("anna")
    for _ in range(9):
        fold_spans(now=timezone.now(), kept_since=world.now - timedelta(minutes=70))
    counted = client.get("/traces/?min_ms=0").content.decode()
    monkeypatch.setattr(sampled, "MOST_HEADS", 20)
    monkeypatch.setattr(sampled, "INDEXED", (2, 256))

    estimated = client.get("/traces/?min_ms=0").content.decode()
    none = client.get("/traces/?min_ms=9999999").content.decode()

    assert "<strong>70</strong> traces" in counted
    assert "estimated" not in counted
    assert re.search(
        r"About <strong>\d+</strong> ± [\d,]+ traces, estimated from 1 in \d+; a shorter time is counted", estimated
    )
    assert re.search(r'aria-label="about \d+ traces?', estimated)
    assert re.search(r"None of 1 in \d+ traces fits, so there are hardly more than \d+", none)


def test_traces__pages__follow_each_other_without_a_gap(sign_in: SignIn, world: World) -> None:
    client = sign_in("anna")
    first = client.get("/traces/").content.decode()
    older = re.search(r'href="(\?cursor=[^"]+)">Older', first)
    assert older is not None

    second = client.get("/traces/" + older[1].replace("&amp;", "&")).content.decode()

    ids = [set(re.findall(r'id="t_([0-9a-f]{32})"', html)) for html in (first, second)]
    assert [len(found) for found in ids] == [50, 20]
    assert not ids[0] & ids[1]


def test_trace__all_its_spans__are_fetched_as_columns_by_who_may_see_them(sign_in: SignIn, world: World) -> None:
    path = f"/traces/{world.trace_id}/spans.json"

    found = sign_in("anna").get(path).json()

    assert len(found["rows"]) == 5
    assert found["names"][found["rows"][0][4]] == "support.answer"
    assert sign_in("gus").get(path).status_code == 404


def test_span__its_drawer__is_fetched_by_who_may_see_it(sign_in: SignIn, world: World) -> None:
    span_id = sign_in("anna").get(f"/traces/{world.trace_id}/spans.json").json()["rows"][1][0]

    html = sign_in("anna").get(f"/traces/{world.trace_id}/{span_id}/").content.decode()

    assert "pgvector" in html
    assert sign_in("gus").get(f"/traces/{world.trace_id}/{span_id}/").status_code == 404


def test_compare__two_traces__stand_side_by_side(sign_in: SignIn, world: World) -> None:
    client = sign_in("anna")
    other = re.findall(r'id="t_([0-9a-f]{32})"', client.get("/traces/").content.decode())[5]

    html = client.get("/traces/compare/", {"a": world.trace_id, "b": other}).content.decode()

    assert html.count("support.answer") >= 1
    assert html.count("<tr") == 2 + 5


def test_compare__an_id_of_no_trace__is_told_beside_the_other_and_can_be_corrected(
    sign_in: SignIn, world: World
) -> None:
    response = sign_in("anna").get("/traces/compare/", {"a": world.trace_id, "b": "zz"})

    html = response.content.decode()
    assert response.status_code == 200
    assert "There is no trace &#x27;zz&#x27; that you may see." in html
    assert 'name="b" value="zz"' in html


def test_filter__added__is_kept_beside_the_others(sign_in: SignIn) -> None:
    answer = sign_in("anna").get(
        "/traces/filter/", {"field": "model", "value": "gpt-4o", "tenant": "acme", "cursor": "x"}
    )

    assert answer.headers["location"] == "/traces/?model=gpt-4o&tenant=acme"


def test_clients__one_reports__keeps_its_place(sign_in: SignIn, world: World) -> None:
    client, now = sign_in("anna"), timezone.now()
    Instance.objects.update(seen_at=now, closed_at=None)
    before = [each.instance.pk for each in client.get("/clients/").context["clients"]]

    Instance.objects.filter(pk=before[-1]).update(seen_at=now + timedelta(seconds=1))
    after = [each.instance.pk for each in client.get("/clients/").context["clients"]]

    assert len(before) == 12
    assert after == before
