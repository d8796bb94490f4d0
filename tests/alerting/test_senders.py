"""Notifications leave the house: where they may go, what they say, what is tried again."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import override_settings

from controlplane.alerting import senders
from controlplane.alerting.actions import configuring, delivering
from controlplane.alerting.models import Channel, Delivery
from controlplane.problems import Forbidden, Invalid
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from tests.alerting.conftest import NOW, Hook

pytestmark = pytest.mark.django_db
BODY: dict[str, Any] = {
    "event": "firing", "rule": "acme/errors", "name": "Errors", "severity": "page", "label": "chat", "state": "firing",
    "before": "pending", "value": 0.5, "summary": "half of them", "at": NOW.isoformat(), "change": 1,
}  # fmt: skip


def channel(kind: str, target: str, **more: Any) -> Channel:
    return configuring.create_channel(by=SYSTEM, tenant=None, name=kind, kind=kind, target=target, **more)


def waiting(to: Channel) -> Delivery:
    return Delivery.objects.create(channel=to, body=BODY, next_at=NOW)


def test_webhook__to_a_private_address__is_refused_for_good(hook: Hook) -> None:
    one = waiting(channel("webhook", hook.url))

    delivering.deliver(now=NOW)

    one.refresh_from_db()
    assert (one.status, one.attempts) == ("failed", 1)
    assert "private network" in one.answer
    assert hook.got == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False), ("169.254.169.254", False),
        ("192.168.0.9", False), ("172.20.0.1", False), ("100.64.0.1", False), ("0.0.0.0", False), ("::1", False), ("fe80::1", False),
        ("fd00::1", False), ("::ffff:10.0.0.1", False), ("224.0.0.1", False),
    ],
)  # fmt: skip
def test_is_public__addresses__are_open_internet_or_not(address: str, public: bool) -> None:
    assert senders.is_public(address) is public


def test_webhook__an_answer_that_may_get_better__is_tried_again_later_and_later(hook: Hook) -> None:
    one = waiting(channel("webhook", hook.url, allow_private=True))
    hook.status = 503

    pauses, now = [], NOW
    for _ in range(3):
        delivering.deliver(now=now)
        one.refresh_from_db()
        pauses.append((one.next_at - now).total_seconds())
        now = one.next_at
    hook.status = 204
    delivering.deliver(now=now)

    one.refresh_from_db()
    assert pauses == [5, 10, 20]
    assert (one.status, one.attempts, len(hook.got)) == ("sent", 4, 4)


@pytest.mark.parametrize("status", [301, 400, 404])
def test_webhook__an_answer_that_stays__is_a_failure_and_no_redirect_is_followed(status: int, hook: Hook) -> None:
    one = waiting(channel("webhook", hook.url, allow_private=True))
    hook.status = status

    delivering.deliver(now=NOW)

    one.refresh_from_db()
    assert (one.status, len(hook.got)) == ("failed", 1)


def test_webhook__nobody_there__is_tried_again_until_it_is_given_up() -> None:
    one = waiting(channel("webhook", "http://127.0.0.1:9/", allow_private=True))

    for attempt in range(delivering.MOST_ATTEMPTS):
        delivering.deliver(now=NOW + timedelta(hours=attempt))

    one.refresh_from_db()
    assert (one.status, one.attempts) == ("failed", delivering.MOST_ATTEMPTS)


def test_slack__a_body__is_text_and_blocks(hook: Hook) -> None:
    waiting(channel("slack", hook.url, allow_private=True))

    with override_settings(PUBLIC_URL="https://gate.example"):
        delivering.deliver(now=NOW)

    said = json.loads(hook.got[0][1])
    assert "[page] firing: Errors (chat)\nhalf of them" in said["text"]
    assert "https://gate.example/alerts/" in json.dumps(said["blocks"])


@pytest.mark.parametrize(
    ("before", "state", "said"),
    [
        ("pending", "firing", "pending → firing"),
        ("firing", "firing", "firing"),
        ("test", "test", "test"),
        ("", "firing", "firing"),
    ],
)
def test_slack__state__is_a_course_only_where_it_changed(before: str, state: str, said: str) -> None:
    body = senders.slack_body({**BODY, "before": before, "state": state})

    assert body["blocks"][1]["fields"][1]["text"] == f"*State*\n{said}"


def test_mail__to_several__is_sent() -> None:
    waiting(channel("email", "a@b.example, c@d.example"))

    assert delivering.deliver(now=NOW) == 1

    (sent,) = mail.outbox
    assert (sent.to, sent.subject) == (["a@b.example", "c@d.example"], "[page] firing: Errors (chat)")


def test_mail__without_a_server__says_what_is_missing() -> None:
    one = waiting(channel("email", "a@b.example"))

    with override_settings(EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend", EMAIL_HOST=""):
        delivering.deliver(now=NOW)

    one.refresh_from_db()
    assert (one.status, one.answer) == ("failed", "No mail server is set: TIDEGATE_SMTP_URL.")


def test_test_channel__somebody__sees_at_once_what_became_of_it(hook: Hook) -> None:
    good = channel("webhook", hook.url, allow_private=True)
    bad = channel("slack", "http://127.0.0.1:9/", allow_private=True)

    sent = delivering.test_channel(by=SYSTEM, channel=good, now=NOW)
    failed = delivering.test_channel(by=SYSTEM, channel=bad, now=NOW)

    assert (sent.status, failed.status) == ("sent", "failed")
    assert json.loads(hook.got[0][1])["event"] == "test"
    with pytest.raises(Forbidden):
        delivering.test_channel(by=Asker("v", Role.VIEWER), channel=good, now=NOW)


@pytest.mark.parametrize(
    ("kind", "target"),
    [("webhook", "ftp://a.example/"), ("webhook", "not"), ("email", "nobody"), ("slack", "file:///etc/passwd")],
)
def test_create_channel__a_target_that_is_none__is_refused(kind: str, target: str) -> None:
    with pytest.raises(Invalid):
        channel(kind, target)


def test_create_channel__private_addresses__are_for_admins_of_the_installation(acme: Tenant) -> None:
    for by in (Asker("o", Role.OPERATOR), Asker("a", Role.ADMIN, acme)):
        with pytest.raises(Forbidden):
            configuring.create_channel(
                by=by, tenant=acme, name="x", kind="webhook", target="http://10.0.0.1/", allow_private=True
            )
