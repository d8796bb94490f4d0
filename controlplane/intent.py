"""The one way by which a change of intent reaches the SDKs, callable from every app.

Tenants, policies, budgets and prices all end up in the snapshots, but live on different storeys of the house. So the seam
is down here: ``policy`` installs the publisher at start-up, and whoever changes intent calls ``publish`` inside the
transaction of the change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Change:
    """What changed: ``kind`` ("policy", "budget", "breaker", "tenant", "price") and ``subject`` ("acme/chat") name it.

    ``before`` and ``after`` are JSON documents, ``None`` for absent. ``tenant_id`` is ``None`` for the installation's own.
    """

    actor: str
    kind: str
    subject: str
    summary: str
    tenant_id: int | None = None
    before: Any = None
    after: Any = None


Publisher = Callable[[Change], int]
_publisher: Publisher | None = None


def install(publisher: Publisher) -> None:
    """Make ``publisher`` the one that ``publish`` calls."""
    global _publisher
    _publisher = publisher


def publish(change: Change) -> int:
    """Record ``change`` as a revision, compile the snapshots that it touches, announce them on commit; return its number."""
    if _publisher is None:
        raise RuntimeError("no publisher is installed: the policy app has not been set up")
    return _publisher(change)
