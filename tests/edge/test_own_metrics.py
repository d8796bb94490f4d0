"""What the server measures of itself: kept once by all processes, seen on its pages, told of by rules."""

from __future__ import annotations

import time
import uuid

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from controlplane.alerting.actions import configuring, evaluation
from controlplane.alerting.models import Rule
from controlplane.edge import writer
from controlplane.edge.app import Edge
from controlplane.telemetry import queries
from controlplane.telemetry.models import Point
from controlplane.tenancy.queries import SYSTEM
from tests.edge.conftest import Caller
from tests.edge.test_otlp import PROTOBUF, request


def _levels(name: str) -> list[tuple[str, str, float]]:
    found = Point.objects.filter(series__name=name).select_related("series").order_by("series__instance", "at")
    return [(each.series.tenant, each.series.instance, each.sum) for each in found]


async def _kept(name: str) -> list[tuple[str, str, float]]:
    return await sync_to_async(_levels)(name)


async def test_own_metrics__twice__tell_what_was_added_since(ask: Caller, edge: Edge) -> None:
    await ask("POST", "/v1/traces", request(3).SerializeToString(), PROTOBUF)
    await edge._own.keep(time.time_ns(), slow=False)
    await ask("POST", "/v1/traces", request(2).SerializeToString(), PROTOBUF)
    await edge._own.keep(time.time_ns(), slow=False)

    spans = [value for _, signal, value in await _kept("tidegate.ingest.records") if signal == "spans"]
    assert spans[0] == 3
    assert len(spans) == 2
    assert {signal for _, signal, _ in await _kept("tidegate.ingest.lag")} == {"logs", "points", "spans"}


async def test_own_metrics__could_not_be_stored__are_told_the_next_time(
    ask: Caller, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("the database is away")

    await ask("POST", "/v1/traces", request(3).SerializeToString(), PROTOBUF)
    with monkeypatch.context() as patch:
        patch.setattr("controlplane.edge.own_metrics.points.store", away)
        with pytest.raises(psycopg.OperationalError):
            await edge._own.keep(time.time_ns(), slow=False)
    await edge._own.keep(time.time_ns(), slow=False)

    assert [value for _, signal, value in await _kept("tidegate.ingest.records") if signal == "spans"] == [3]


async def test_own_metrics__sizes_and_clients__are_kept_by_one_process_in_a_minute(ask: Caller, edge: Edge) -> None:
    await ask.sync(incarnation=str(uuid.uuid4()), app="shop", host="h", pid=1, sdk="python/1", config={"refused": "odd", "refused_etag": "e" * 64, "etag": "", "age_ms": 0})  # fmt: skip
    await edge._sizes.read()

    await edge._own.keep(time.time_ns(), slow=True)
    await edge._own.keep(time.time_ns(), slow=True)

    assert [value > 0 for _, _, value in await _kept("tidegate.database.size")] == [True]
    assert "telemetry_span" in {table for _, table, _ in await _kept("tidegate.storage.size")}
    assert await _kept("tidegate.clients.live") == [("acme", "", 1.0)]
    assert await _kept("tidegate.clients.refusing") == [("acme", "", 1.0)]
    assert await _kept("tidegate.clients.dropping") == [("acme", "", 0.0)]


async def test_own_metrics__sizes_that_were_never_read__are_not_kept_as_nought(edge: Edge) -> None:
    edge._sizes.database = 0

    await edge._own.keep(time.time_ns(), slow=True)

    assert await _kept("tidegate.database.size") == []
    assert await _kept("tidegate.ingest.lag") != []


async def test_own_metrics__a_request_is_refused_for_lack_of_room__is_counted_and_a_usual_rule_fires(
    ask: Caller, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_QUEUED_BYTES", 0)
    assert (await ask("POST", "/v1/traces", request(3).SerializeToString(), PROTOBUF)).status == 429
    monkeypatch.undo()
    monkeypatch.setattr("controlplane.edge.otlp.MAX_OTHERS", -1)
    assert (await ask("POST", "/v1/traces", request(3).SerializeToString(), PROTOBUF)).status == 429
    await edge._own.keep(time.time_ns(), slow=False)

    def alerts() -> list[tuple[str, str]]:
        configuring.add_usual_rules(by=SYSTEM, tenant=None)
        rule = Rule.objects.get(slug="ingest-refused")
        evaluation.evaluate(rule.pk, now=timezone.now())
        return list(rule.alerts.values_list("label", "state"))

    assert await sync_to_async(alerts)() == [("spans", "firing")]
    found = await sync_to_async(queries.own_figures)(timezone.now())
    assert [(each.signal, each.refused) for each in found.intake] == [("logs", 0), ("points", 0), ("spans", 2)]
