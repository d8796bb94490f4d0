"""The demo's releases, each from the button to what becomes of it by itself: a real plane, a real SDK, calls that fail or cost more."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

import tidegate
from controlplane.runtime.demo import world
from tests.runtime.running import Running, eventually, running
from tests.scenarios.desk import Desk
from tests.scenarios.management import Management

TOKEN, PASSWORD = f"tgo_rollouts0000_{'r' * 43}", "a-long-enough-password"
PATIENCE_S = 150.0
CALLS_PER_S = 250.0
USD = 0.001  # of a call of the stable release
RINGS = [
    {"name": "Canary", "share": 25, "bake_s": 5, "patience_s": 600},
    {"name": "Everyone", "share": 100, "bake_s": 1, "patience_s": 1, "gate": "time"},
]
# What becomes of the demo's releases, and what the reason names.
EXPECTED = {
    world.STRICT: ("rolled_back", "errors"),
    world.VERBOSE: ("rolled_back", "costly"),
    world.TERSE: ("complete", ""),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE_S + 180)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("rollouts") / "data"
    with running(folder, TIDEGATE_ADMIN_TOKEN=TOKEN, TIDEGATE_ADMIN_PASSWORD=PASSWORD) as one:
        yield one


@pytest.fixture(scope="module")
def key(up: Running) -> str:
    management = Management(up.url, TOKEN)
    management.post("tenants/", {"slug": "acme", "name": "Acme"})
    made: str = management.post("tenants/acme/keys/", {"name": "scenario"})["key"]
    return made


class Failed(Exception):
    """The provider said no."""


def call_for(gate: tidegate.Gate, route: str, dice: random.Random, seconds: float) -> None:
    """Call a route for ``seconds``, each call as its release has it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with gate.call(route, tenant="acme") as call:
                prompt = world.PROMPTS[call.config["prompt"]]
                call.record(output_tokens=10, cost_usd=f"{USD * prompt.longer * dice.uniform(0.8, 1.2):.9f}")
                if dice.random() < prompt.failing:
                    raise Failed
        except Failed:
            pass
        time.sleep(1 / CALLS_PER_S)


@pytest.mark.parametrize("prompt", EXPECTED)
def test_release_of_the_demo__from_the_button__ends_by_itself_as_it_must(
    up: Running, key: str, tmp_path: Path, prompt: str
) -> None:
    phase, reason = EXPECTED[prompt]
    management, desk = Management(up.url, TOKEN), Desk(up.url, "admin", PASSWORD)
    management.post("deployments/", {"slug": prompt, "tenant": "acme", "routes": [prompt], "unit": "request"})
    management.post(f"deployments/{prompt}/releases/", {"version": "1", "config": {"prompt": world.PLAIN}})
    dice = random.Random(3)
    with tidegate.connect(up.url, key, app="scenario", traces=False, cache_dir=tmp_path) as gate:
        eventually(lambda: gate.release(prompt, tenant="acme"))
        call_for(gate, prompt, dice, 2.0)
        typed = {
            "deployment": prompt, "version": "2", "config": json.dumps({"prompt": prompt}), "strategy": "rings",
            "rings": json.dumps(RINGS),
        }  # fmt: skip
        board = desk.send(f"/rollouts/new/?deployment={prompt}", "/rollouts/create/", typed)
        assert "Baking" in board

        deadline = time.monotonic() + PATIENCE_S
        newest = management.get(f"deployments/{prompt}/rollouts/")["items"][0]
        while newest["phase"] not in {"rolled_back", "complete", "held"} and time.monotonic() < deadline:
            call_for(gate, prompt, dice, 2.0)
            newest = management.get(f"deployments/{prompt}/rollouts/")["items"][0]
        call_for(gate, prompt, dice, 1.5)
        kept = gate.release(prompt, tenant="acme")

    assert newest["phase"] == phase, newest["reason"]
    assert reason in newest["reason"]
    assert kept is not None
    assert kept.version == ("2" if phase == "complete" else "1")
    if phase == "rolled_back":
        assert "Rolled back by itself" in desk.page("/audit/")


def test_stock_provider__users__get_what_the_sdk_gives_them(up: Running, key: str, tmp_path: Path) -> None:
    management = Management(up.url, TOKEN)
    management.post("deployments/", {"slug": "flags", "tenant": "acme", "unit": "user"})
    for number, model in enumerate(("a", "b"), 1):
        config = {"model": model, "temperature": 1.0, "tries": 3, "strict": True}
        management.post("deployments/flags/releases/", {"version": str(number), "config": config})
    management.post("deployments/flags/rollouts/", {"release": "2", "rings": [{"name": "Half", "share": 50}]})
    headers = {"Authorization": f"Bearer {key}"}
    api.set_provider(OFREPProvider(up.url, headers_factory=lambda: headers), "stock")
    client = api.get_client("stock")

    with tidegate.connect(up.url, key, app="scenario", traces=False, cache_dir=tmp_path) as gate:
        for number in range(100):
            found = client.get_string_details("flags.model", "x", EvaluationContext(f"u-{number}"))
            ours = gate.release("flags", unit=f"u-{number}")
            assert ours is not None
            assert (found.value, found.variant) == (ours.config["model"], ours.version)
    context = EvaluationContext("u-1")
    assert client.get_float_value("flags.temperature", 0.0, context) == 1.0
    assert client.get_integer_value("flags.tries", 0, context) == 3
    assert client.get_boolean_value("flags.strict", False, context) is True
    missing = client.get_string_details("flags.nothing", "x", context)
    assert (missing.value, str(missing.error_code)) == ("x", "FLAG_NOT_FOUND")
    api.clear_providers()
