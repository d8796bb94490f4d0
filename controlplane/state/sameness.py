"""Whether an address leads to a server that is a node already: its slots would be moved to where they are, which never ends."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import redis
from django.conf import settings

from controlplane.state.models import Node, RingKind
from controlplane.state.reach import database_url
from controlplane.state.sealing import unseal

_PATIENCE_S = 3


def url_of(node: Node) -> str:
    """Return the address of a node; the installation's own has none written down."""
    if node.sealed_url is not None:
        return unseal(bytes(node.sealed_url), "", "node", node.name).decode()
    return database_url() if node.kind == RingKind.DATABASE else settings.VALKEY_URL


def node_at(kind: str, url: str) -> str | None:
    """Return the name of the node that ``url`` leads to, however it is written; ``None`` when it leads to none.

    A mark is made there that vanishes by itself, and looked for at every node. Raises what the servers' clients raise, also when
    a node can't be reached.
    """
    nodes = list(Node.objects.filter(kind=kind))
    if kind == RingKind.DATABASE:
        with _locked(url) as key:
            return next((node.name for node in nodes if _is_locked(url_of(node), key)), None)
    with _marked(url) as name:
        return next((node.name for node in nodes if _has_mark(url_of(node), name)), None)


@contextmanager
def _locked(url: str) -> Iterator[int]:
    """Hold an advisory lock, which the database knows and no other."""
    key = secrets.randbits(62)
    with psycopg.connect(url, connect_timeout=_PATIENCE_S) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [key])
        yield key
        connection.rollback()


def _is_locked(url: str, key: int) -> bool:
    with psycopg.connect(url, connect_timeout=_PATIENCE_S) as connection:
        row: Any = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [key]).fetchone()
        return not row[0]


@contextmanager
def _marked(url: str) -> Iterator[str]:
    name = f"tgs:mark:{secrets.token_hex(12)}"
    with _valkey(url) as valkey:
        valkey.set(name, 1, ex=30)
        yield name
        valkey.delete(name)


def _has_mark(url: str, name: str) -> bool:
    with _valkey(url) as valkey:
        return bool(valkey.exists(name))


def _valkey(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S)
