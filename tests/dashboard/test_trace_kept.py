"""Waterfalls that are kept: made once while a trace is the same, anew with every span, and for each scope apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.problems import NotFound
from controlplane.telemetry.models import Span
from controlplane.tenancy.models import Role, Tenant
from controlplane.tenancy.queries import SYSTEM, Asker
from dashboard import trace_kept
from dashboard.trace_kept import waterfall_seen_by
from tests.dashboard.world import World

pytestmark = pytest.mark.django_db
TRACE = "c" * 32


def add(name: str, tenant: Tenant, after_ms: int = 0) -> None:
    Span.objects.create(
        trace_id=TRACE, span_id=name * 16, parent_span_id="", starts_at=datetime.now(UTC) + timedelta(milliseconds=after_ms),
        duration_us=5, tenant=tenant.slug, service="app", name=name, kind=1, status=1,
    )  # fmt: skip


def test_waterfall__asked_for_again__is_the_same_until_a_span_arrives(world: World) -> None:
    add("a", world.tenants["acme"])

    first, _ = waterfall_seen_by(SYSTEM, TRACE)
    again, _ = waterfall_seen_by(SYSTEM, TRACE.upper())
    add("b", world.tenants["acme"], 1)
    fresh, count = waterfall_seen_by(SYSTEM, TRACE)

    assert again is first
    assert [line.span.name for line in fresh.lines] == ["a", "b"]
    assert count == 2


def test_waterfall__of_another_scope__is_not_what_was_kept_for_all(world: World) -> None:
    add("a", world.tenants["acme"])
    waterfall_seen_by(SYSTEM, TRACE)

    with pytest.raises(NotFound):
        waterfall_seen_by(Asker("gus", Role.VIEWER, world.tenants["globex"]), TRACE)


def test_waterfall__more_lines_than_are_kept__gives_up_what_was_looked_at_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("a", world.tenants["acme"])
    monkeypatch.setattr(trace_kept, "MOST_LINES", 1)
    first, _ = waterfall_seen_by(SYSTEM, TRACE)
    add("b", world.tenants["acme"], 1)
    waterfall_seen_by(SYSTEM, TRACE)

    assert all(kept is not first for kept in trace_kept._kept.values())
    assert len(trace_kept._kept) == 1
