"""The one publisher of changes: after a commit, every process hears which part of the world to read again.

Nothing depends on a message arriving. Edges also poll the revision, and pages refresh at 1 Hz; a message only makes it quick.
"""

from __future__ import annotations

import json
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


def changed(*topics: Topic) -> None:
    """Publish, once the current transaction has committed, that ``topics`` changed."""
    message = json.dumps({"topics": sorted(topics)})
    transaction.on_commit(lambda: _publish(message), robust=True)


def _publish(message: str) -> None:
    try:
        _valkey().publish(CHANNEL, message)
    except redis.RedisError as error:
        log.warning("live.not_published", error=str(error))
