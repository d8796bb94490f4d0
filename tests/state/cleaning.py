"""State is in tables and keys that Django's test runner does not know: emptied here, between tests."""

from __future__ import annotations

import psycopg
import redis
from django.conf import settings


def forget_everything(url: str) -> None:
    """Empty the state of the database at ``url`` and of the tests' Valkey; every slot is served there again."""
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE state_entry, state_version, state_op, state_size")
        connection.execute(
            "UPDATE state_held SET epoch = 0, serving = true, moved_to = NULL, frozen_until = NULL, token = NULL"
        )
    with redis.Redis.from_url(settings.VALKEY_URL) as valkey:
        for key in valkey.scan_iter("tgs:*"):
            valkey.delete(key)
