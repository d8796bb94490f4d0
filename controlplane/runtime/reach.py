"""Can a server be reached? Answers are one sentence, and never contain a password."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg
import redis

from controlplane.runtime.engines import CannotStart

TIMEOUT_S = 5


def ask_postgres(url: str) -> None:
    """Connect once; ``psycopg.Error`` if that fails."""
    psycopg.connect(url, connect_timeout=TIMEOUT_S).close()


def ask_valkey(url: str) -> None:
    """Ping once; ``redis.RedisError`` or ``ValueError`` (not an address) if that fails."""
    client = redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    with contextlib.closing(client):
        client.ping()


def check_named_servers() -> None:
    """Ask the servers that the environment names; ``CannotStart`` for the first that does not answer."""
    for variable, what, ask in (
        ("DATABASE_URL", "PostgreSQL", ask_postgres),
        ("VALKEY_URL", "Valkey", ask_valkey),
    ):
        url = os.environ.get(variable)
        if url:
            _check(variable, what, url, ask)


def _check(variable: str, what: str, url: str, ask: Callable[[str], None]) -> None:
    try:
        ask(url)
    except (psycopg.Error, redis.RedisError, ValueError) as error:
        raise CannotStart(
            f"{what} at {address_of(url)}, named by {variable}, can't be used: {_cause(error, url)}"
        ) from None


def address_of(url: str) -> str:
    """Return ``host:port/name`` of a server's address: what a person recognises, without the secret in it."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.hostname or 'the local socket'}{port}{parts.path}"
    except ValueError:
        return "an address that can't be read"


def _cause(error: Exception, url: str) -> str:
    """Return what went wrong, or less than that if the text repeats the address."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    text = next((line.rpartition("failed: ")[2] for line in lines if "failed: " in line), lines[0])
    try:
        password = urlsplit(url).password
    except ValueError:
        return "the address is malformed."
    tells = (password and password in text) or url in text
    return "the address or the password is wrong." if tells else f"{text.rstrip('.')}."


def wait_until(ask: Callable[[], None], *, patience_s: float, what: str) -> None:
    """Return as soon as ``ask`` raises nothing; ``CannotStart`` when ``patience_s`` is over."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            ask()
            return
        except (OSError, psycopg.Error, redis.RedisError):
            if time.monotonic() > deadline:
                raise CannotStart(f"{what} did not start within {patience_s:.0f} s; the log above says why.") from None
        time.sleep(0.05)
