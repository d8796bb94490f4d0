"""Real traffic through real SDK processes, while every part of the control plane is killed once: the books must agree.

Short in ``make test``. By hand, five minutes: ``TIDEGATE_SCENARIO_SECONDS=300 pytest tests/scenarios``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.runtime.running import ROOT, Running, environment, eventually, running
from tests.runtime.test_up import CHILDREN
from tests.scenarios.management import Management

SECONDS = float(os.environ.get("TIDEGATE_SCENARIO_SECONDS", "16"))
SPEED = 8.0
CALLERS = 4
TENANTS = ["scenario-a", "scenario-b", "scenario-c"]
TOKEN = f"tgo_scenario0000_{'s' * 43}"
OBEYED_WITHIN_S = 2.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 240)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("scenario") / "data"
    with running(folder, TIDEGATE_ADMIN_TOKEN=TOKEN) as one:
        yield one
        assert one.stop() == 0


@pytest.fixture(scope="module")
def management(up: Running) -> Management:
    return Management(up.url, TOKEN)


def make_tenant(management: Management, slug: str, amount_usd: str) -> str:
    """Create a tenant with a budget; return an SDK key for it."""
    management.post("tenants/", {"slug": slug, "name": slug.title()})
    period = {"kind": "calendar", "unit": "month", "timezone": "UTC"}
    management.post(f"tenants/{slug}/budgets/", {"slug": "all", "amount_usd": amount_usd, "period": period})
    return str(management.post(f"tenants/{slug}/keys/", {"name": "scenario"})["key"])


def start_caller(verb: str, folder: Path, **orders: Any) -> subprocess.Popen[str]:
    """Start an SDK process with its orders and its log in ``folder``."""
    file = folder / f"{verb}-{orders.get('place', 0)}.json"
    file.write_text(json.dumps(orders))
    with file.with_suffix(".out").open("w") as out, file.with_suffix(".err").open("w") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.scenarios.caller", verb, str(file)],
            cwd=ROOT,
            env=environment(),
            stdout=out,
            stderr=err,
            text=True,
        )


def kill(up: Running, name: str) -> None:
    """Kill a part the hard way; return when another one has taken its place."""
    victim = eventually(lambda: up.child(CHILDREN[name]))
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: up.child(CHILDREN[name]) not in (0, victim))


def test_books__every_part_killed_during_real_traffic__agree_to_the_unit(
    up: Running, management: Management, shared: Path, tmp_path: Path
) -> None:
    parent = make_tenant(management, "scenario", "1000000")
    for slug in TENANTS:
        management.post("tenants/", {"slug": slug, "name": slug, "parent": "scenario"})
    orders = {
        "url": up.url,
        "key": parent,
        "tenants": TENANTS,
        "speed": SPEED,
        "seconds": SECONDS,
        "of": CALLERS,
        "trace": str(shared / "data" / "traces" / "azure23_conv.csv"),
    }

    callers = [start_caller("replay", tmp_path, place=place, **orders) for place in range(CALLERS)]
    for name in ("postgres", "valkey", "server", "worker"):
        time.sleep(SECONDS / 5)  # the schedule of the scenario, not a wait for something to happen
        kill(up, name)
    codes = [caller.wait(SECONDS + 60) for caller in callers]
    eventually(lambda: up.status("/readyz") == 200)

    errors = "".join(file.read_text()[-2000:] for file in tmp_path.glob("replay-*.err"))
    assert codes == [0] * CALLERS, errors
    books = [json.loads(file.read_text()) for file in tmp_path.glob("replay-*.out")]
    fields = ("calls", "input_tokens", "output_tokens", "cost_nusd")
    kept = {slug: {name: sum(book[slug][name] for book in books) for name in fields} for slug in TENANTS}
    assert all(kept[slug]["calls"] > 0 for slug in TENANTS)
    assert {slug: management.usage_of(slug) for slug in TENANTS} == kept


def test_budget__lowered_and_raised__is_obeyed_within_two_seconds(
    up: Running, management: Management, tmp_path: Path
) -> None:
    key = make_tenant(management, "probed", "10")
    prober = start_caller("probe", tmp_path, url=up.url, key=key, tenants=["probed"])
    out = tmp_path / "probe-0.out"

    def since(moment: float) -> list[tuple[float, str]]:
        said = [line.split() for line in out.read_text().splitlines() if line.count(" ") == 1]
        return [(float(at), outcome) for at, outcome in said if float(at) > moment]

    try:
        eventually(lambda: len([one for one in since(0) if one[1] == "ok"]) > 50)
        management.post("tenants/probed/budgets/all/amount", {"amount_usd": "0"})
        lowered_at = time.time()
        time.sleep(OBEYED_WITHIN_S * 2)
        management.post("tenants/probed/budgets/all/amount", {"amount_usd": "20"})
        raised_at = time.time()
        time.sleep(OBEYED_WITHIN_S * 2)
    finally:
        prober.terminate()
        prober.wait(30)

    late = [
        at - lowered_at for at, outcome in since(lowered_at + OBEYED_WITHIN_S) if at < raised_at and outcome == "ok"
    ]
    passed = [at - raised_at for at, outcome in since(raised_at) if outcome == "ok"]
    refused = [at for at, outcome in since(lowered_at) if outcome == "budget_exhausted"]
    assert late == []
    assert refused
    assert min(passed, default=99.0) < OBEYED_WITHIN_S


def test_traces__stock_opentelemetry_exporter__are_found(up: Running, management: Management) -> None:
    key = make_tenant(management, "traced", "10")
    exporter = OTLPSpanExporter(f"{up.url}/v1/traces", headers={"Authorization": f"Bearer {key}"})
    provider = TracerProvider(resource=Resource.create({"service.name": "stock-exporter"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    with provider.get_tracer("scenario").start_as_current_span("chat gpt-4o-mini") as span:
        span.set_attribute("gen_ai.request.model", "gpt-4o-mini")
        trace_id = f"{span.get_span_context().trace_id:032x}"
    provider.shutdown()

    assert trace_id in json.dumps(management.get("traces/"))
