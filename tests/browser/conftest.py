"""A server of its own with the test world, and Chromium to look at it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from controlplane.runtime.engines import free_port
from tests.dashboard.world import PASSWORD

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
DATABASE = "browser_world"
AXE = (Path(__file__).parent / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended early"
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except (URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError("the server did not come up")


@pytest.fixture(scope="session")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the dashboard on a database of its own; return its address."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {DATABASE}")
    port = free_port()
    path = os.pathsep.join([str(ROOT), str(ROOT / "sdk/python/src")])
    environment = {
        **os.environ,
        "DATABASE_URL": urlunsplit(parts._replace(path=f"/{DATABASE}")),
        "TIDEGATE_DATA_DIR": str(tmp_path_factory.mktemp("browser")),
        "PYTHONPATH": path,
    }
    command = [sys.executable, "-m", "tests.dashboard.devserver", str(port)]
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait(f"http://127.0.0.1:{port}/sign-in/", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # none of them is left behind, however busy the machine is


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Watched:
    """A page, and what its console complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def faults(self) -> list[str]:
        """Return what axe finds wrong with the page by WCAG 2.2 AA."""
        self.page.evaluate(AXE)
        found = self.page.evaluate(f"axe.run({{runOnly: {RULES}}})")
        return [f"{each['id']}: {node['html'][:200]}" for each in found["violations"] for node in each["nodes"]]

    def wait_live(self) -> None:
        self.page.wait_for_selector("#live[data-state=live]", timeout=10_000)

    def wait_frames(self, number: int) -> None:
        """Wait until that many further frames have been applied."""
        before = int(self.page.evaluate("Number(document.body.dataset.seq || 0)"))
        self.page.wait_for_function("least => Number(document.body.dataset.seq) >= least", arg=before + number)


@pytest.fixture(scope="module")
def signed_in(base_url: str, chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """Return a page of the named person, who signs in by the door once."""
    states: dict[str, object] = {}
    contexts: list[BrowserContext] = []

    def open_page(name: str = "anna", *, width: int = 1440, scheme: str = "light", checked: bool = False) -> Watched:
        options: dict[str, object] = {
            "viewport": {"width": width, "height": 900},
            "color_scheme": scheme,
            "base_url": base_url,
            "bypass_csp": checked,  # axe is put into the page by the test
        }
        if name not in states:
            door = chromium.new_context(base_url=base_url)
            page = door.new_page()
            page.goto("/sign-in/")
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/")
            states[name] = door.storage_state()
            door.close()
        context = chromium.new_context(storage_state=states[name], **options)  # type: ignore[arg-type]  # options by name
        contexts.append(context)
        return Watched(context.new_page())

    yield open_page
    for context in contexts:
        context.close()
