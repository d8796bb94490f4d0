"""Three releases from the button to what becomes of them by themselves: a real plane, a real SDK, calls that fail or cost more."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidegate
from tests.runtime.running import Running, running
from tests.scenarios.management import Management

TOKEN = f"tgo_rollouts0000_{'r' * 43}"
PATIENCE_S = 150.0
CALLS_PER_S = 250.0
RINGS = [
    {"name": "Canary", "share": 25, "bake_s": 5, "patience_s": 600},
    {"name": "Everyone", "share": 100, "bake_s": 1, "patience_s": 1, "gate": "time"},
]
# What a release does: the part of its calls that fails, and what one costs in dollars.
STABLE = {"failing": 0.005, "usd": 0.001}
RELEASES = {
    "worse": {"failing": 0.025, "usd": 0.001},
    "costlier": {"failing": 0.005, "usd": 0.002},
    "better": {"failing": 0.0, "usd": 0.0008},
}
EXPECTED = {"worse": "rolled_back", "costlier": "rolled_back", "better": "complete"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE_S + 180)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("rollouts") / "data", TIDEGATE_ADMIN_TOKEN=TOKEN) as one:
        yield one


class Failed(Exception):
    """The provider said no."""


def call_all(gate: tidegate.Gate, dice: random.Random, seconds: float) -> None:
    """Call every route for ``seconds``, each as its release has it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for route in RELEASES:
            try:
                with gate.call(route, tenant="acme") as call:
                    call.record(output_tokens=10, cost_usd=f"{call.config['usd'] * dice.uniform(0.8, 1.2):.9f}")
                    if dice.random() < call.config["failing"]:
                        raise Failed
            except Failed:
                pass
        time.sleep(1 / CALLS_PER_S)


def test_rollouts__worse_costlier_and_better_release__end_by_themselves_as_they_must(
    up: Running, tmp_path: Path
) -> None:
    management = Management(up.url, TOKEN)
    management.post("tenants/", {"slug": "acme", "name": "Acme"})
    key = management.post("tenants/acme/keys/", {"name": "scenario"})["key"]
    for name, config in RELEASES.items():
        management.post("deployments/", {"slug": name, "tenant": "acme", "routes": [name], "unit": "request"})
        management.post(f"deployments/{name}/releases/", {"version": "1", "config": STABLE})
        management.post(f"deployments/{name}/releases/", {"version": "2", "config": config})
    dice = random.Random(3)
    with tidegate.connect(up.url, key, app="scenario", traces=False, cache_dir=tmp_path) as gate:
        call_all(gate, dice, 2.0)
        for name in RELEASES:
            management.post(f"deployments/{name}/rollouts/", {"release": "2", "rings": RINGS})

        deadline = time.monotonic() + PATIENCE_S
        ended: dict[str, str] = {}
        while len(ended) < len(RELEASES) and time.monotonic() < deadline:
            call_all(gate, dice, 2.0)
            newest = {name: management.get(f"deployments/{name}/rollouts/")["items"][0] for name in RELEASES}
            ended = {
                name: one["phase"]
                for name, one in newest.items()
                if one["phase"] in {"rolled_back", "complete", "held"}
            }
        call_all(gate, dice, 1.5)
        versions = {name: gate.release(name, tenant="acme") for name in RELEASES}

    assert ended == EXPECTED, {name: one["reason"] for name, one in newest.items()}
    assert "errors" in newest["worse"]["reason"]
    assert "costly" in newest["costlier"]["reason"]
    assert {name: one.version for name, one in versions.items() if one is not None} == {
        "worse": "1",
        "costlier": "1",
        "better": "2",
    }
