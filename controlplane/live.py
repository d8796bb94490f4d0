"""The one publisher of changes: after a commit, every process hears which part of the world to read again.

The process that made the change hears of it at once, the others by Valkey. Nothing depends on a message arriving: edges also poll
the revision, and pages refresh at 1 Hz; a message only makes it quick.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import redis
import structlog
from django.conf import settings
from django.db import transaction

log = structlog.get_logger(__name__)

CHANNEL = "tidegate:changed"
Topic = Literal["intent", "keys", "budgets", "fleet", "telemetry", "state", "audit"]


@cache
def _valkey() -> redis.Redis:
    return redis.Redis.from_url(settings.VALKEY_URL, socket_timeout=0.5, socket_connect_timeout=0.5)


Tell = Callable[[frozenset[Topic]], None]
_here: list[Tell] = []
_TOKEN = secrets.token_hex(8)


def process() -> str:
    """Return how messages name this process; one that was forked from it is another."""
    return f"{_TOKEN}-{os.getpid()}"


@contextmanager
def heard_here(tell: Tell) -> Iterator[None]:
    """Let ``tell`` know, from any thread, of the changes that this process makes."""
    _here.append(tell)
    try:
        yield
    finally:
        _here.remove(tell)


def changed(*topics: Topic) -> None:
    """Publish, once the current transaction has committed, that ``topics`` changed."""
    transaction.on_commit(lambda: _publish(frozenset(topics)), robust=True)


def _publish(topics: frozenset[Topic]) -> None:
    for tell in tuple(_here):
        tell(topics)
    try:
        _valkey().publish(CHANNEL, json.dumps({"topics": sorted(topics), "from": process()}))
    except redis.RedisError as error:
        log.warning("live.not_published", error=str(error))
