"""Percentiles from end to end: what SDKs saw, reported, folded into windows of all lengths, and shown on the page of metrics."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from controlplane.telemetry.actions.folding import fold_hours
from controlplane.telemetry.actions.ladder import climb
from controlplane.tenancy.queries import SYSTEM
from dashboard.asking import Asking
from dashboard.page import Params
from dashboard.pages.metrics import Row, build
from tests.edge.conftest import Caller
from tidegate.report import Report, RowKey

QUANTILES = (0.5, 0.95, 0.99)
MOST_OFF = 0.011
HOURS = 9
SECONDS = range(0, HOURS * 3600, 1203)  # when calls ended, so long ago
Seen = list[tuple[datetime, float]]


def calls(report: Report, chance: random.Random, now: datetime) -> Seen:
    """Count calls of one process over hours, quick ones, slow ones and a few that hang; return when they ended and what they took."""
    seen: Seen = []
    for ago_s in reversed(SECONDS):
        at = now - timedelta(seconds=ago_s + 3)
        window = report.window(int(at.timestamp() * 1000))
        for route, centre in (("chat", 0.8), ("embed", 0.004)):
            took = [chance.lognormvariate(math.log(centre), 0.9) for _ in range(chance.randrange(1, 40))]
            took += [chance.uniform(20, 60)] * (chance.random() < 0.2)
            row = window.row(RowKey("acme", route, "m", ""))
            row.calls += len(took)
            row.latency_us.add_seconds(took[::2])  # as calls in a loop are counted
            row.latency_us.add_all([int(each * 1_000_000) for each in took[1::2]])  # and those one by one
            seen += [(at, each) for each in took]
    return seen


async def reported(ask: Caller, report: Report) -> None:
    incarnation, seq = str(uuid4()), 0
    while True:
        windows, _ = report.to_send()
        if not windows:
            return
        seq += 1
        reply = await ask.sync(incarnation=incarnation, seq=seq, windows=windows)
        report.acked(reply.json()["windows_acked"])


def shown(since: str, now: datetime, folded: bool) -> Row:
    if folded:
        kept = now - timedelta(days=29)
        fold_hours("windows", now=now, kept_since=kept)
        while climb(now=now, kept_since=kept) > 8:
            pass
    (row,) = build(Asking(SYSTEM, now), Params(since=since))["rows"]
    assert isinstance(row, Row)
    return row


def exact(values: list[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1] * 1000


@pytest.mark.parametrize("folded", [False, True])
async def test_percentiles__of_three_processes__are_within_a_bucket_of_exact_on_every_range(
    folded: bool, ask: Caller
) -> None:
    now, chance = timezone.now().astimezone(UTC), random.Random(11)
    seen: Seen = []
    for _ in range(3):
        report = Report()
        seen += calls(report, chance, now)
        await reported(ask, report)

    for since, seconds in (("24h", 86_400), ("7d", 7 * 86_400), ("6h", 6 * 3600)):
        row = await sync_to_async(shown)(since, now, folded)

        begins = now - timedelta(seconds=seconds)
        # A range begins on a whole step: of calls within a step of its beginning it may have more or fewer.
        certain = [took for at, took in seen if at >= begins + timedelta(seconds=900)]
        if seconds < HOURS * 3600:
            assert len(certain) <= row.samples <= len(certain) + 3 * 2 * 41 * 2
            continue
        values = [took for _, took in seen]
        assert row.samples == len(values)
        for share, told in zip(QUANTILES, (row.p50, row.p95, row.p99), strict=True):
            assert told == pytest.approx(exact(values, share), rel=MOST_OFF)


async def test_percentiles__within_one_step__are_within_a_bucket_of_exact(ask: Caller) -> None:
    now, chance, report = timezone.now().astimezone(UTC), random.Random(5), Report()
    at = (now - timedelta(minutes=7)).replace(second=20, microsecond=0)
    took = [chance.lognormvariate(-1, 1.5) for _ in range(5000)]
    row = report.window(int(at.timestamp() * 1000)).row(RowKey("acme", "chat", "m", ""))
    row.calls = len(took)
    row.latency_us.add_seconds(took)
    await reported(ask, report)

    for stat, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        for since in ("15m", "1h"):
            found = await sync_to_async(build)(Asking(SYSTEM, now), Params(since=since, stat=stat))
            (point,) = [value for value in found["rows"][0].course if value is not None]
            assert point == pytest.approx(exact(took, share), rel=MOST_OFF)
