"""Names of receivers are looked up in a bounded time."""

from __future__ import annotations

import socket
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.test import override_settings

from controlplane.alerting import mail as mailing
from controlplane.alerting import names, senders
from controlplane.alerting.actions import configuring, delivering
from controlplane.tenancy.queries import SYSTEM
from tests.alerting.conftest import NOW, Hook
from tests.alerting.test_senders import channel, waiting

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("kind", ["webhook", "email"])
def test_deliver__a_name_that_is_never_found__is_given_up_in_time_and_tried_again(
    kind: str, monkeypatch: pytest.MonkeyPatch, hook: Hook
) -> None:
    found, real = Event(), socket.getaddrinfo

    def slow(host: str, *args: Any, **more: Any) -> Any:
        if host == "slow.example.com":
            found.wait(60)
        return real("127.0.0.1" if host == "slow.example.com" else host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(senders, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(mailing, "NAME_S", 0.1)
    target = {"webhook": "https://slow.example.com/", "email": "a@example.com"}[kind]
    one = waiting(channel(kind, target))
    good = configuring.create_channel(
        by=SYSTEM, tenant=None, name="good", kind="slack", target=hook.url, allow_private=True
    )
    waiting(good)

    with override_settings(EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend", EMAIL_HOST="slow.example.com"):
        assert delivering.deliver(now=NOW) == 1

    one.refresh_from_db()
    assert (one.status, one.attempts, one.next_at) == ("waiting", 1, NOW + timedelta(seconds=5))
    assert one.answer == "TimeoutError: nobody said within 0.1 s where slow.example.com is"
    found.set()


def test_addresses_of__too_many_are_waited_for__asks_for_no_more_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    known, real = Event(), socket.getaddrinfo
    asked = list[str]()

    def slow(host: str, *args: Any, **more: Any) -> Any:
        asked.append(host)
        known.wait(60)
        return real("127.0.0.1", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    for number in range(names.MOST_LOOKUPS + 2):
        with pytest.raises(TimeoutError):
            names.addresses_of(f"{number}.example.com", 80, 0.01)
    assert len(asked) == names.MOST_LOOKUPS
    known.set()

    assert names.addresses_of("free.example.com", 80, 30) == ["127.0.0.1"]
    monkeypatch.setattr(socket, "getaddrinfo", real)
    with pytest.raises(UnicodeError):
        names.addresses_of("a" * 70 + ".example.com", 80, 30)
