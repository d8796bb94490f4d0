"""Changes are heard: at once where they were made, by Valkey everywhere else, and never twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis
from django.conf import settings

from controlplane import listen, live
from controlplane.edge.app import Edge

pytestmark = pytest.mark.django_db
Capture = Callable[..., AbstractContextManager[list[Callable[[], Any]]]]


class Heard:
    """What was told, in order."""

    def __init__(self) -> None:
        self.said: list[frozenset[str]] = []
        self._news = asyncio.Event()

    def note(self, topics: frozenset[str]) -> None:
        self.said.append(topics)
        self._news.set()

    async def until(self, topics: frozenset[str]) -> None:
        while topics not in self.said:
            await self._news.wait()
            self._news.clear()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    found = Heard()
    monkeypatch.setattr(listen, "_callbacks", [found.note])
    return found


def while_listening(do: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        listening = asyncio.create_task(listen.run())
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(20):
                await do()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    asyncio.run(run())


def test_changed__valkey_is_gone__the_process_that_did_it_hears_of_it(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Capture
) -> None:
    nobody = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(settings, "VALKEY_URL", nobody)
    monkeypatch.setattr(live, "_valkey", lambda: redis.Redis.from_url(nobody, socket_connect_timeout=0.2))
    with django_capture_on_commit_callbacks() as committed:
        live.changed("intent", "audit")

    async def commit() -> None:
        await asyncio.to_thread(committed[0])
        await heard.until(frozenset({"intent", "audit"}))

    while_listening(commit)

    assert heard.said == [frozenset({"intent", "audit"})]


def test_run__messages_of_its_own_and_of_others__only_those_of_others_are_told(heard: Heard) -> None:
    async def say() -> None:
        await heard.until(listen.ALL)  # told when it has subscribed
        with redis.Redis.from_url(settings.VALKEY_URL) as valkey:
            for who, topic in ((live.process(), "keys"), ("another", "audit")):
                valkey.publish(live.CHANNEL, json.dumps({"topics": [topic], "from": who}))
        await heard.until(frozenset({"audit"}))

    while_listening(say)

    assert frozenset({"keys"}) not in heard.said


async def test_edge__stopped__is_told_of_changes_no_more(database_url: str) -> None:
    others = list(listen._callbacks)
    edge = Edge()

    await edge.start()
    hearing = len(listen._callbacks) - len(others)
    await edge.stop()

    assert hearing == 2
    assert listen._callbacks == others
