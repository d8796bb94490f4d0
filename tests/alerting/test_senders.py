"""Notifications leave the house: where they may go, what they say, what is tried again."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import takewhile
from threading import Event, Thread
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import override_settings

from controlplane.alerting import senders, tasks
from controlplane.alerting.actions import configuring, delivering
from controlplane.alerting.models import Channel, Delivery
from controlplane.alerting.outcome import Outcome
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
        ("fd00::1", False), ("::ffff:10.0.0.1", False), ("224.0.0.1", False), ("2002:7f00:1::", False), ("fec0::1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False), ("64:ff9b::7f00:1", False), ("::127.0.0.1", False),
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
    [
        ("webhook", "ftp://a.example/"), ("webhook", "not"), ("email", "nobody"), ("slack", "file:///etc/passwd"),
        ("webhook", "http://a.example:99999/"), ("webhook", "http://a.example:0/"), ("webhook", "http://a..b.example/"),
        ("webhook", f"http://{'a' * 70}.example/"), ("webhook", "http://[::1"), ("webhook", "http://a.example/b c"),
        ("webhook", "http://a.example/\r\nx: y"), ("email", ",".join(["a@b.example"] * 99)),
    ],
)  # fmt: skip
def test_create_channel__a_target_that_is_none__is_refused(kind: str, target: str) -> None:
    with pytest.raises(Invalid):
        channel(kind, target)


def test_create_channel__private_addresses__are_for_admins_of_the_installation(acme: Tenant) -> None:
    for by in (Asker("o", Role.OPERATOR), Asker("a", Role.ADMIN, acme)):
        with pytest.raises(Forbidden):
            configuring.create_channel(
                by=by, tenant=acme, name="x", kind="webhook", target="http://10.0.0.1/", allow_private=True
            )


@pytest.mark.parametrize("target", ["http://127.0.0.1:99999/", "http://a..b.example/", f"http://{'a' * 70}.example/"])
def test_deliver__an_address_that_can_not_be__fails_and_the_others_are_sent(target: str, hook: Hook) -> None:
    bad = waiting(Channel.objects.create(name="bad", kind="webhook", target=target, allow_private=True))
    waiting(channel("webhook", hook.url, allow_private=True))

    assert delivering.deliver(now=NOW) == 1

    bad.refresh_from_db()
    assert (bad.status, bad.attempts) == ("failed", 1)
    assert "can't be called" in bad.answer


def test_deliver__something_unforeseen__is_tried_again_and_the_others_are_sent(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, bad = senders.send, waiting(channel("slack", hook.url, allow_private=True))
    waiting(channel("webhook", hook.url, allow_private=True))

    def send(delivery: Delivery) -> Outcome:
        if delivery.pk == bad.pk:
            raise RuntimeError("nobody thought of that")
        return real(delivery)

    monkeypatch.setattr(senders, "send", send)

    assert delivering.deliver(now=NOW) == 1
    bad.refresh_from_db()
    assert (bad.status, bad.attempts, bad.next_at) == ("waiting", 1, NOW + timedelta(seconds=5))


def test_webhook__a_path_beyond_ascii__is_written_in_percent() -> None:
    with receiver([b"HTTP/1.1 200 OK\r\n\r\n"]) as (url, asked, _):
        waiting(channel("webhook", f"{url}/w\u00fc?a=%2F&b=\u00fc", allow_private=True))

        assert delivering.deliver(now=NOW) == 1

    assert asked[0].startswith(b"POST /w%C3%BC?a=%2F&b=%C3%BC HTTP/1.1")


def test_webhook__an_answer_that_no_table_can_hold__is_kept_all_the_same() -> None:
    with receiver([b"HTTP/1.1 200 OK\r\n\r\n\x00\xff"]) as (url, _, _):
        one = waiting(channel("webhook", url, allow_private=True))

        assert delivering.deliver(now=NOW) == 1

    one.refresh_from_db()
    assert one.answer == "200 \ufffd\ufffd"


def test_webhook__an_answer_byte_by_byte__is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "LONGEST_S", 0.5)
    monkeypatch.setattr(senders, "TIMEOUT_S", 0.4)
    with receiver([b"HTTP/1.1 200 OK\r\n", *[b"x"] * 1_000_000]) as (url, _, ended):
        slow = channel("webhook", url, allow_private=True)
        one, other = waiting(slow), waiting(slow)

        delivering.deliver(now=NOW)

        assert ended.wait(10)
    one.refresh_from_db()
    other.refresh_from_db()
    assert one.attempts == 1
    assert (other.attempts, other.next_at) == (0, NOW + timedelta(seconds=5))  # others come before it


def one_request(connected: socket.socket) -> bytes:
    """Read a request with its body: who closes before is heard to have broken off."""
    with connected.makefile("rb") as stream:
        head = [*takewhile(lambda line: line != b"\r\n", stream), b"\r\n"]
        length = sum(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:"))
        return b"".join(head) + stream.read(length)


@contextmanager
def receiver(answer: list[bytes]) -> Iterator[tuple[str, list[bytes], Event]]:
    """Give the address of somebody who answers one request piece by piece, what was asked, and an event for when it is over."""
    asked, ended, done = list[bytes](), Event(), Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connected, _ = listener.accept()
        with connected:
            asked.append(one_request(connected))
            try:
                for piece in answer:
                    connected.sendall(piece)
                    if len(answer) > 1 and done.wait(0.05):
                        break
            except OSError:
                ended.set()

    Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked, ended
    finally:
        done.set()
        listener.close()


def test_deliver__nobody_answers_a_channel__asks_once_and_lets_the_rest_of_it_wait(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, good = (
        channel("slack", "http://127.0.0.1:9/", allow_private=True),
        channel("webhook", hook.url, allow_private=True),
    )
    first, *rest = [waiting(silent) for _ in range(5)]
    waiting(good)
    asked = list[int]()
    real = senders.send

    def send(delivery: Delivery) -> Outcome:
        asked.append(delivery.pk)
        return real(delivery)

    monkeypatch.setattr(senders, "send", send)

    assert delivering.deliver(now=NOW) == 1
    assert delivering.deliver(now=NOW + timedelta(seconds=4)) == 0

    assert len(asked) == 2
    first.refresh_from_db()
    assert {each.next_at for each in Delivery.objects.filter(channel=silent)} == {first.next_at}
    Channel.objects.filter(pk=silent.pk).update(target=hook.url)
    assert delivering.deliver(now=NOW + timedelta(seconds=5)) == 5
    assert [each.attempts for each in Delivery.objects.filter(pk__in=[each.pk for each in rest])] == [1] * 4


def test_deliver__a_channel_takes_its_time__is_sent_its_next_one_after_all_others(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, good = (channel(kind, hook.url, allow_private=True) for kind in ("slack", "webhook"))
    for _ in range(3):
        waiting(slow)
        waiting(good)
    real, asked = senders.send, list[str]()

    def send(delivery: Delivery) -> Outcome:
        asked.append(delivery.channel.kind)
        return real(delivery)._replace(slow=delivery.channel == slow)

    monkeypatch.setattr(senders, "send", send)

    assert delivering.deliver(now=NOW + timedelta(seconds=1)) == 6
    assert asked == ["slack", "webhook", "webhook", "webhook", "slack", "slack"]


def test_send__whoever_takes_a_second__is_slow(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    one = waiting(channel("webhook", hook.url, allow_private=True))

    assert not senders.send(one).slow
    monkeypatch.setattr(senders, "SLOW_S", 0.0)
    assert senders.send(one)[:2] == (True, False)
    assert senders.send(one).slow


def test_deliver__what_a_clock_that_was_ahead_put_off__is_sent_now(hook: Hook) -> None:
    to = channel("webhook", hook.url, allow_private=True)
    Delivery.objects.create(channel=to, body=BODY, next_at=NOW + timedelta(hours=3))
    Delivery.objects.create(channel=to, body=BODY, next_at=NOW + timedelta(minutes=15))

    assert delivering.deliver(now=NOW) == 1


def test_deliver__to_a_channel_that_was_taken_away__is_not_sent(hook: Hook) -> None:
    gone = channel("webhook", hook.url, allow_private=True)
    one = waiting(gone)
    configuring.archive_channel(by=SYSTEM, channel=gone, now=NOW)

    assert delivering.deliver(now=NOW) == 0
    one.refresh_from_db()
    assert (one.status, hook.got) == ("failed", [])


@pytest.mark.django_db(transaction=True)
def test_test_channel__a_worker_that_looks_meanwhile__does_not_send_it_too(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = channel("webhook", hook.url, allow_private=True)
    real, meanwhile = senders.send, list[int]()

    def worker() -> int:
        try:
            return delivering.deliver(now=NOW)
        finally:
            connection.close()

    def send(delivery: Delivery) -> Outcome:
        monkeypatch.setattr(senders, "send", real)
        with ThreadPoolExecutor(1) as threads:
            meanwhile.append(threads.submit(worker).result())
        return real(delivery)

    monkeypatch.setattr(senders, "send", send)
    delivering.test_channel(by=SYSTEM, channel=to, now=NOW)

    assert (meanwhile, len(hook.got)) == ([0], 1)


def test_slack__names_with_marks_of_slack_in_them__are_text() -> None:
    said = senders.slack_body({**BODY, "label": "<!channel>", "summary": "a & b > c"})

    assert "&lt;!channel&gt;" in said["text"]
    assert "a &amp; b &gt; c" in said["blocks"][0]["text"]["text"]


def test_deliver_task__while_another_thread_of_the_worker_sends__leaves_it_to_that(hook: Hook) -> None:
    waiting(channel("webhook", hook.url, allow_private=True))

    with tasks._delivering:
        tasks.deliver()
    assert hook.got == []
    tasks.deliver()
    assert len(hook.got) == 1
