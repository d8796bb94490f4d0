"""OTLP metrics into the tables: once, capped, with their percentiles."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from controlplane.telemetry.models import Point, Series
from tests.edge.conftest import Caller
from tests.telemetry.test_points import START, body, counter, exponential

JSON = {"content-type": "application/json"}


async def totals() -> list[tuple[str, float, int]]:
    def read() -> list[tuple[str, float, int]]:
        found = []
        for series in Series.objects.order_by("id"):
            points = list(Point.objects.filter(series=series))
            found.append((series.name, sum(point.sum for point in points), len(points)))
        return found

    return await sync_to_async(read)()


async def test_metrics__sent_twice_and_in_parts__add_up_once(ask: Caller) -> None:
    parts = [body(counter((10, 5))), body(counter((10, 5), (20, 9))), body(counter((30, 12)))]

    for part in [*parts, *parts]:
        assert (await ask("POST", "/v1/metrics", part, JSON)).status == 200

    assert await totals() == [("calls", 12.0, 3)]


@pytest.mark.parametrize("cumulative", [True, False])
async def test_metrics__processes_of_one_host_at_one_time__all_count_and_each_once(
    ask: Caller, cumulative: bool
) -> None:
    both = [body(counter((10, 5), cumulative=cumulative), host__name="h", process__pid=pid) for pid in ("1", "2")]
    if cumulative:  # processes are told apart by when they began
        both[1] = both[1].replace(str(START).encode(), str(START + 1).encode())

    for part in [*both, *both]:
        assert (await ask("POST", "/v1/metrics", part, JSON)).status == 200

    assert await totals() == [("calls", 10.0, 2)]


async def test_metrics__a_process_that_has_been_counting_for_long__counts_from_its_first_point_on(ask: Caller) -> None:
    async def sent(at: int, value: float, *, start: int = 0, name: str = "calls") -> None:
        whole = body(counter((at, value), name=name), service__name="old", service__instance__id="i")
        whole = whole.replace(b'"startTimeUnixNano":"%d"' % START, b'"startTimeUnixNano":"%d"' % (START + start))
        assert (await ask("POST", "/v1/metrics", whole, JSON)).status == 200

    await sent(9000, 1000)
    await sent(9001, 50, name="others")  # more of the first time that it is heard
    await sent(9060, 1003)
    await sent(9061, 52, name="others")
    await sync_to_async(Series.objects.update)(created_at=timezone.now() - timedelta(minutes=1))
    await sent(9120, 7, name="new")  # it did not have this before
    await sent(9200, 4, start=9_150 * 10**9)  # begun again

    assert await totals() == [("calls", 7.0, 2), ("others", 2.0, 1), ("new", 7.0, 1)]


async def test_metrics__more_series_than_a_tenant_may_have__overflow(
    ask: Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("controlplane.telemetry.actions.points.MAX_SERIES", 2)
    many = [counter((n + 1, 1), cumulative=False) for n in range(5)]
    for number, metric in enumerate(many):
        metric["sum"]["dataPoints"][0]["attributes"] = [{"key": "n", "value": {"intValue": number}}]

    first = await ask("POST", "/v1/metrics", body(*many), JSON)
    second = await ask("POST", "/v1/metrics", body(counter((9, 3), name="other")), JSON)

    found = await totals()
    assert (first.json(), len(found), sum(total for _, total, _ in found)) == ({}, 3, 5.0)
    assert second.json()["partialSuccess"]["rejectedDataPoints"] == "1"


async def test_metrics__series_of_instances_that_are_gone__leave_room_for_those_that_came(
    ask: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.telemetry.actions.points.MAX_SERIES", 2)
    monkeypatch.setattr("controlplane.telemetry.actions.points.MAX_KEPT", 3)

    async def sent(*names: str) -> int:
        reply = await ask("POST", "/v1/metrics", body(*(counter((1, 1), name=name) for name in names)), JSON)
        return int(reply.json().get("partialSuccess", {}).get("rejectedDataPoints", 0))

    async def a_day_later() -> None:
        await sync_to_async(Series.objects.update)(seen_at=timezone.now() - timedelta(days=1, minutes=1))

    assert await sent("a", "b", "c") == 1
    await a_day_later()
    assert await sent("c", "d") == 1  # three are kept at most
    assert await sent("a", "b") == 0  # those that are known may always come again


async def test_metrics__any_distribution__keeps_its_percentiles(ask: Caller) -> None:
    values = [random.Random(5).lognormvariate(0, 1) for _ in range(5000)]
    cut = exponential(values, 5)
    point = {"timeUnixNano": str(START), "count": len(values), "sum": sum(values), "scale": 5, "zeroCount": 0,
             "positive": {"offset": cut["offset"], "bucketCounts": cut["counts"]}}  # fmt: skip

    await ask("POST", "/v1/metrics", body({"name": "d", "exponentialHistogram": {"dataPoints": [point]}}), JSON)

    def read() -> list[int]:
        return list(Point.objects.get().buckets or [])

    buckets = await sync_to_async(read)()
    rank, exact = 0, sorted(values)[4949]
    for entry in buckets:
        rank += entry & (2**40 - 1)
        if rank >= 4950:
            assert abs(2 ** (((entry >> 40) - 0.5) / 64) / exact - 1) < 0.0111
            return
    raise AssertionError("the percentile is in no bucket")
