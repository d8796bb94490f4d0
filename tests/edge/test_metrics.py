"""``/metrics``: what Prometheus reads, and what of tenants it is told."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from controlplane.edge.app import Edge
from controlplane.telemetry.models import CallWindow10s
from tests.edge.conftest import Caller
from tests.edge.test_otlp import PROTOBUF, request
from tidegate.core.window import Distribution


async def _window(tenant: str) -> None:
    shape = Distribution()
    shape.add(250_000)
    at = timezone.now() - timedelta(seconds=30)
    await sync_to_async(CallWindow10s.objects.create)(
        starts_at=at, tenant=tenant, route="chat", model="m", category="", calls=60, errors=15, input_tokens=600,
        cached_input_tokens=150, cost_nusd=10**9, latency_us=shape.packed(),
    )  # fmt: skip


async def test_metrics__with_a_key__tells_the_figures_of_its_tenants_only(
    ask: Caller, ask_everywhere: Caller, edge: Edge
) -> None:
    await _window("acme")
    await _window('odd "name"')
    await edge._tenants.read()

    nobody = (await ask("GET", "/metrics", headers={"authorization": ""})).body.decode()
    some = (await ask("GET", "/metrics")).body.decode()
    everybody = (await ask_everywhere("GET", "/metrics")).body.decode()

    assert "tenant=" not in nobody
    assert 'tidegate_error_rate_ratio{tenant="acme"} 0.25' in some
    assert "odd" not in some
    assert 'tidegate_cache_hit_ratio{tenant="odd \\"name\\""} 0.25' in everybody


async def test_metrics__after_ingest__tells_counts_sizes_and_lag(ask: Caller, edge: Edge) -> None:
    await ask("POST", "/v1/traces", request(3).SerializeToString(), PROTOBUF)
    await edge._sizes.read()

    text = (await ask("GET", "/metrics")).body.decode()

    assert 'tidegate_ingest_records_total{signal="spans"} 3' in text
    assert 'tidegate_ingest_lag_seconds{signal="spans"} 0' in text
    assert 'tidegate_table_size_bytes{table="telemetry_span"}' in text


def _promtool(body: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
async def test_metrics__promtool__finds_nothing_to_say(ask_everywhere: Caller, edge: Edge) -> None:
    await _window("acme")
    await edge._tenants.read()
    await edge._sizes.read()
    body = (await ask_everywhere("GET", "/metrics")).body

    checked = await asyncio.to_thread(_promtool, body)

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
