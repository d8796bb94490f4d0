"""Telling the pages that counts changed: at most four times a second, however many syncs come in."""

from __future__ import annotations

import asyncio
import json

import redis.asyncio
import structlog
from django.conf import settings
from redis.exceptions import RedisError

from controlplane.live import CHANNEL

log = structlog.get_logger(__name__)

REST_S = 0.25


class Announcer:
    """Collects topics and publishes them together."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._told = asyncio.Event()

    def tell(self, topics: frozenset[str]) -> None:
        """Announce ``topics`` soon."""
        self._topics |= topics
        self._told.set()

    async def run(self) -> None:
        """Publish until cancelled. A message that can't be sent is dropped: pages also refresh by themselves."""
        async with redis.asyncio.Redis.from_url(
            settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1
        ) as valkey:
            while True:
                await self._told.wait()
                self._told.clear()
                topics, self._topics = self._topics, set()
                try:
                    await valkey.publish(CHANNEL, json.dumps({"topics": sorted(topics)}))
                except (RedisError, OSError) as error:
                    log.debug("announce.dropped", error=str(error))
                await asyncio.sleep(REST_S)
