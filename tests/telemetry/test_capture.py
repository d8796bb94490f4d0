"""Prompts and replies: kept where somebody said so, masked as said, and nowhere else."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from controlplane.problems import Forbidden, Invalid
from controlplane.telemetry.actions.capture import drop_capture, put_capture
from controlplane.telemetry.queries import Captured, capture_of
from controlplane.telemetry.redaction import ALWAYS, MASK, fault_of, redactor
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.actions.tokens import create_token
from controlplane.tenancy.models import AuditEntry, Role
from controlplane.tenancy.queries import SYSTEM, Asker


@pytest.mark.django_db
def test_capture__said_above_and_below__the_nearest_holds() -> None:
    parent = create_tenant(by=SYSTEM, slug="acme", name="Acme")
    child = create_tenant(by=SYSTEM, slug="shop", name="Shop", parent=parent)
    assert capture_of(child) == Captured(False, [], "", False)

    put_capture(by=SYSTEM, tenant=None, keeps=True)
    put_capture(by=SYSTEM, tenant=parent, keeps=True, redact=["order-[0-9]+", "order-[0-9]+"])

    assert capture_of(child) == Captured(True, ["order-[0-9]+"], "acme", False)
    put_capture(by=SYSTEM, tenant=child, keeps=False)
    assert capture_of(child) == Captured(False, [], "shop", True)
    drop_capture(by=SYSTEM, tenant=child)
    drop_capture(by=SYSTEM, tenant=parent)
    assert capture_of(child) == Captured(True, [], "", False)
    assert list(AuditEntry.objects.filter(action="capture.changed").order_by("id").values_list("target", flat=True)) == [
        "all tenants", "acme", "shop", "shop", "acme"
    ]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("redact", [["("], [""], ["x?"], ["x" * 201], [f"a{number}" for number in range(33)]])
def test_capture__patterns_that_can_not_be_used__are_refused(redact: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        put_capture(by=SYSTEM, tenant=None, keeps=True, redact=redact)
    assert list(refused.value.errors) == ["redact"]


@pytest.mark.django_db
def test_capture__operators_and_other_tenants__can_not_say() -> None:
    acme = create_tenant(by=SYSTEM, slug="acme", name="Acme")
    with pytest.raises(Forbidden):
        put_capture(by=Asker("otto", Role.OPERATOR, None), tenant=acme, keeps=True)
    with pytest.raises(Forbidden):
        put_capture(by=Asker("anna", Role.ADMIN, acme), tenant=None, keeps=True)


@pytest.mark.django_db
def test_capture__by_the_api__is_put_read_and_taken_back(client: Client) -> None:
    create_tenant(by=SYSTEM, slug="acme", name="Acme")
    _, text = create_token(by=SYSTEM, name="t", role=Role.ADMIN)
    head = {"authorization": f"Bearer {text}"}
    path = "/api/v1/tenants/acme/capture"

    put = client.put(path, json.dumps({"keeps": True, "redact": ["order-.*"]}), "application/json", headers=head)
    bad = client.put("/api/v1/capture", json.dumps({"keeps": True, "redact": ["("]}), "application/json", headers=head)

    assert put.json() == client.get(path, headers=head).json()
    assert put.json() == {"keeps": True, "redact": ["order-.*"], "source": "acme", "own": True}
    assert (bad.status_code, list(bad.json()["errors"])) == (422, ["redact"])
    assert client.delete(path, headers=head).status_code == 204
    assert client.get(path, headers=head).json()["keeps"] is False


@pytest.mark.parametrize("pattern", ["(?=x)a", r"(a)\1", "(?<=id=)b", "[", "(a){2000}"])
def test_fault_of__what_can_not_be_matched_in_linear_time__is_refused(pattern: str) -> None:
    assert "RE2" in str(fault_of(pattern))


@pytest.mark.parametrize(
    "pattern", [r"order-[0-9]+", r"(?:\d[ -]?){13,19}", r"(?:\d{4} ){4}", r"x(?:y|z)?", "é+", *ALWAYS]
)
def test_fault_of__patterns_as_people_write_them__are_usable(pattern: str) -> None:
    assert fault_of(pattern) is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(?:a|ab)*c", ".*.*.*.*x", r"[a-z]+\d"])
def test_redactor__patterns_that_backtracking_never_ends_with__are_done_at_once(pattern: str) -> None:
    text = "a" * 65_536 + "!"

    assert redactor([pattern])(text) == text


def test_redactor__one_rule_that_can_not_be_read__lets_nothing_through() -> None:
    assert redactor(["order", "(?=x)a"])("nothing to see") == "[redacted]"


SECRETS = (
    "sk-" + "a" * 16, "AKIA_" + "Z9" * 10, "xoxb-" + "1" * 20, "Authorization: bEaReR\u2003" + "t" * 16, "ada.l+x@mail.example.org",
    "4111 1111 1111 1111", "4111-1111-1111-1111", "\u0664" * 13, "1" * 19,
)  # fmt: skip


def test_redactor__many_texts_at_once__are_masked_as_each_of_them_alone() -> None:
    harmless = ("", "\n", "é 12 \U0001f511\nsk-short", "a\nbearer", "1234567\n890123")
    texts = [f"{before}{secret} {after}" for secret in SECRETS for before in ("", "é\n") for after in harmless]
    mixed = [text for pair in zip(texts, list(harmless) * len(texts), strict=False) for text in pair]
    masks = redactor(["order-[0-9]+"])

    found = masks.every([*mixed, "order-77"])

    assert found == [masks(text) for text in [*mixed, "order-77"]]
    assert all(MASK in text for text in found[:-1:2])
    assert found[1::2] == mixed[1::2]
    assert found[-1] == MASK
