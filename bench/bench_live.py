"""How soon a change is on a thousand screens: watchers of one page over websockets, from the publishing of a frame to its receipt.

    python -m bench.bench_live [--watchers 1000] [--seconds 20] [--page overview]

One server process sends; the watchers are in this process, on the other core. The first watcher to get a frame stands for its publishing,
which is a single send before; every receipt is measured against it, the reading of a thousand frames in this process included. The goal
is 100 ms at p99.
"""

from __future__ import annotations

import argparse
import asyncio
import http.cookiejar
import json
import os
import resource
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import websockets

from bench.ground import ROOT, Plane, cpu_s, plane

GOAL_MS = 100.0
USER, PASSWORD = "watcher", "correct horse battery staple"


def enrol(server: Plane) -> None:
    """Make an operator who may look."""
    said = (
        "import django; django.setup()\n"
        "from controlplane.tenancy.actions.operators import create_operator\n"
        "from controlplane.tenancy.queries import SYSTEM\n"
        f"create_operator(by=SYSTEM, username={USER!r}, password={PASSWORD!r}, role='viewer')\n"
    )
    environment = {
        **os.environ,
        "TIDEGATE_DATA_DIR": str(server.folder),
        "DJANGO_SETTINGS_MODULE": "controlplane.settings",
    }
    subprocess.run([sys.executable, "-c", said], cwd=ROOT, env=environment, check=True)


def sign_in(server: Plane) -> str:
    """Return the cookies of somebody who signed in by the door."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    browser.open(f"{server.url}/sign-in/").close()
    token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
    typed = urllib.parse.urlencode(
        {"username": USER, "password": PASSWORD, "csrfmiddlewaretoken": token or ""}
    ).encode()
    browser.open(urllib.request.Request(f"{server.url}/sign-in/", typed, {"Referer": server.url})).close()
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


class Watchers:
    """Who gets which frame when. ``seen`` has the times at which each number arrived."""

    def __init__(self) -> None:
        self.seen: dict[int, list[float]] = {}
        self.sizes: list[int] = []

    async def watch(self, url: str, cookies: str, origin: str, ready: asyncio.Semaphore) -> None:
        async with ready:
            socket = await websockets.connect(
                url, additional_headers={"Cookie": cookies}, origin=origin, max_size=None, compression=None
            )  # type: ignore[arg-type]
        async with socket:
            async for frame in socket:
                now = time.perf_counter()
                text = frame if isinstance(frame, str) else frame.decode()
                self.seen.setdefault(int(text[7 : text.index(",")]), []).append(now)
                self.sizes.append(len(text))


async def measure(server: Plane, cookies: str, options: argparse.Namespace) -> list[float]:
    """Let all watch; return how long after the first each got each frame, in milliseconds."""
    watchers, ready = Watchers(), asyncio.Semaphore(20)
    url = f"{server.url.replace('http', 'ws', 1)}/ws/page/{options.page}/?range=5m"
    tasks = [asyncio.create_task(watchers.watch(url, cookies, server.url, ready)) for _ in range(options.watchers)]
    deadline = time.monotonic() + 120
    while max(map(len, watchers.seen.values()), default=0) < options.watchers and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    begins = max(watchers.seen, default=0)
    ran, own = cpu_s(server.server_pids()), time.process_time()
    await asyncio.sleep(options.seconds)
    ran, own = cpu_s(server.server_pids()) - ran, time.process_time() - own
    for task in tasks:
        task.cancel()
    failed = [
        each
        for each in await asyncio.gather(*tasks, return_exceptions=True)
        if not isinstance(each, asyncio.CancelledError)
    ]
    if failed:
        print(f"{len(failed)} watchers were lost: {failed[0]!r}")
    last = max(watchers.seen)
    whole = [times for number, times in watchers.seen.items() if begins < number < last]
    print(
        f"{len(whole)} frames of {sum(watchers.sizes) / max(1, len(watchers.sizes)):,.0f} bytes on average, {sum(map(len, whole)):,} receipts"
    )
    frames = max(1, last - begins)
    print(
        f"{ran / frames * 1000:.0f} ms of the server's processor a frame, rendering it included; {own / frames * 1000:.0f} ms of the watchers'"
    )
    short = [len(times) for times in whole if len(times) < options.watchers]
    if short:
        print(f"{len(short)} frames did not reach everybody: they were replaced by the next one on its way")
    return sorted((at - min(times)) * 1000 for times in whole for at in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--page", default="overview")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with plane() as server:
        enrol(server)
        cookies = sign_in(server)
        server.pin_server(0)
        os.sched_setaffinity(0, {1})
        took = asyncio.run(measure(server, cookies, options))
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    print(
        json.dumps(
            {
                "watchers": options.watchers,
                "p50_ms": round(p50, 1),
                "p99_ms": round(p99, 1),
                "max_ms": round(took[-1], 1),
            }
        )
    )
    print("Within the goal." if p99 <= GOAL_MS else f"Over the goal of {GOAL_MS:g} ms.")


if __name__ == "__main__":
    main()
