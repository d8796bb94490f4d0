"""One subscription to changes per process: whoever keeps something in memory hears when to read it again.

The counterpart of ``live.changed``. After every reconnection all topics are announced, for messages may have been missed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import get_args

import redis.asyncio
import structlog
from django.conf import settings
from redis.exceptions import RedisError

from controlplane.live import CHANNEL, Topic, heard_here, process

log = structlog.get_logger(__name__)

ALL: frozenset[str] = frozenset(get_args(Topic))
Callback = Callable[[frozenset[str]], None]
_callbacks: list[Callback] = []


def on_change(callback: Callback) -> Callable[[], None]:
    """Call ``callback`` with the topics of every change, on the event loop that ``run`` runs on; return what ends that."""
    _callbacks.append(callback)
    return lambda: _callbacks.remove(callback)


def _tell(topics: frozenset[str]) -> None:
    for callback in tuple(_callbacks):
        callback(topics)


async def run() -> None:
    """Listen until cancelled."""
    loop = asyncio.get_running_loop()

    def here(topics: frozenset[Topic]) -> None:
        loop.call_soon_threadsafe(_tell, topics)

    with heard_here(here):
        await _subscribed()


async def _subscribed() -> None:
    pause = 0.1
    while True:
        try:
            async with (
                redis.asyncio.Redis.from_url(settings.VALKEY_URL, socket_connect_timeout=2) as valkey,
                valkey.pubsub() as channel,
            ):
                await channel.subscribe(CHANNEL)
                _tell(ALL)
                pause = 0.1
                while True:
                    message = await channel.get_message(ignore_subscribe_messages=True, timeout=30)
                    said = json.loads(message["data"]) if message is not None else {"from": process()}
                    if said.get("from") != process():  # what this one said it has heard already
                        _tell(frozenset(said["topics"]) & ALL)
        except (RedisError, OSError, ValueError, KeyError) as error:
            log.warning("listen.interrupted", error=str(error), retry_s=pause)
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)
