"""Clients: the SDK instances, which config they run, and how well they are heard."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings

from controlplane.domain.presence import presence_of
from controlplane.fleet import queries as fleet
from controlplane.fleet.models import Instance
from dashboard import configs
from dashboard.asking import Asking
from dashboard.client_detail import detail_of
from dashboard.page import Context, Page, Params

MOST = 200
SHOWN_FOR = timedelta(hours=24)
STATES = ("healthy", "stale", "lost", "closed")


@dataclass(frozen=True)
class Client:
    """An instance as shown. ``revision`` is that of the config it runs, ``behind`` says whether a newer one is out."""

    instance: Instance
    presence: str
    revision: int | None
    behind: bool


def _place(client: Client) -> tuple[int, float, str, str, str]:
    """Who is alive stands by name: by who was heard of last they would change places every second. The others: the last first."""
    one, rank = client.instance, STATES.index(client.presence)
    silent = -one.seen_at.timestamp() if rank >= STATES.index("lost") else 0.0
    return rank, silent, one.app, one.host, str(one.pk)


def build(asking: Asking, params: Params) -> Context:
    recent = fleet.instances_seen_by(asking.asker).filter(seen_at__gte=asking.now - SHOWN_FOR)
    text, chosen = params.value("q"), params.value("client")
    if text:
        recent = recent.filter(app__icontains=text) | recent.filter(host__icontains=text)
    found = list(recent[: MOST * 2])
    known = configs.revisions_by_etag({each.config_etag for each in found if each.config_etag})
    newest = configs.newest_etags({each.scope_id for each in found})
    clients = [
        Client(
            instance=each,
            presence=presence_of(seen_at=each.seen_at, closed_at=each.closed_at, now=asking.now),
            revision=known.get(each.config_etag),
            behind=bool(each.config_etag) and each.closed_at is None and newest.get(each.scope_id) != each.config_etag,
        )
        for each in found
    ]
    tally = Counter(client.presence for client in clients)
    state = params.value("state")
    shown = sorted((client for client in clients if not state or client.presence == state), key=_place)
    return {
        "title": "Clients",
        "clients": shown[:MOST],
        "more": max(0, len(shown) - MOST),
        "tally": [(name, tally[name]) for name in STATES],
        "state": state,
        "total": len(clients),
        "lease_s": settings.LEASE_TTL_MS / 1000,
        "detail": detail_of(asking, chosen) if chosen else None,
        "filtered": bool(text or state),
        "refusing": sum(bool(client.instance.refused_etag) for client in clients if client.presence == "healthy"),
        "behind": sum(client.behind for client in clients if client.presence == "healthy"),
    }


PAGE = Page(
    name="clients",
    section="clients",
    template="pages/clients.html",
    parts={
        "client_summary": "clients/summary.html",
        "client_list": "clients/list.html",
        "client_detail": "clients/detail.html",
    },
    build=build,
    params=frozenset({"state", "q", "client"}),
)
