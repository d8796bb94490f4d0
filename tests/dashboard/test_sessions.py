"""The list of sessions, fifty at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from django.test import Client
from django.utils import timezone

from controlplane.telemetry.models import Span
from tests.dashboard.world import World

SignIn = Callable[[str], Client]


def _listed(client: Client, query: str) -> list[str]:
    html = client.get(f"/sessions/?{query}").content.decode()
    return re.findall(r'<a class="cover mono"[^>]*>(many-\d+)</a>', html)


def test_sessions__more_than_a_page__are_all_reached_by_older(sign_in: SignIn, world: World) -> None:
    now = timezone.now()
    Span.objects.bulk_create(
        Span(
            trace_id=f"{number:032x}", span_id=f"{number:016x}", tenant="acme", session=f"many-{number:03d}",
            service="app", name="chat", kind=3, status=0, starts_at=now - timedelta(seconds=number + 1), duration_us=1000,
        )
        for number in range(120)
    )  # fmt: skip
    client = sign_in("anna")

    pages = [_listed(client, f"q=many-&page={page}") for page in range(4)]

    assert [len(page) for page in pages] == [50, 50, 20, 0]
    assert len({name for page in pages for name in page}) == 120
    assert b"No older session" in client.get("/sessions/?q=many-&page=3").content


def test_sessions__page_that_is_no_number__is_the_first(sign_in: SignIn, world: World) -> None:
    client = sign_in("anna")

    assert client.get("/sessions/?page=-1").status_code == client.get("/sessions/?page=²").status_code == 200
