"""The examples, each as a program of its own, against a control plane and a model that are not real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tidegate.testing import KEY, FakeControlPlane

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOURCE = EXAMPLES.parent / "src"


class Model(BaseHTTPRequestHandler):
    """Answers every completion with three words."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        usage = {"prompt_tokens": len(asked["messages"][0]["content"].split()), "completion_tokens": 3}
        message = {"role": "assistant", "content": "high and low"}
        body = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the base's
        """Tests are quiet."""


@pytest.fixture
def model() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "agents", "says"),
    [
        ("stateless", {"labeller"}, "You charged me twice! -> high and low"),
        ("conversation", {"guide"}, "turn 3: Is it safe to walk out? -> high and low"),
        ("personal", {"adviser"}, "(prefers {'length': 'short', 'units': 'metric'}, 3 visits)"),
        ("mesh", {"coordinator", "research", "builder", "validator"}, "on salt marshes: "),
    ],
)
def test_example__run_once__does_what_its_page_says(
    plane: FakeControlPlane, model: str, name: str, agents: set[str], says: str
) -> None:
    told = {"TIDEGATE_URL": plane.url, "TIDEGATE_KEY": KEY, "OPENAI_BASE_URL": model, "TIDEGATE_CACHE_DIR": ""}
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        env={**os.environ, **told, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert says in ran.stdout
    assert len(ran.stdout.splitlines()) == 3
    invoked = {span["name"].removeprefix("invoke_agent ") for span in plane.spans if "invoke_agent" in span["name"]}
    assert invoked == agents
