"""From the click on "Roll back" to 1,000 connected clients: how long until each has the snapshot without the candidate.

The clients are raw long-polls of one process, each on a connection of its own; each checks the SHA-256 of what it gets. Beside them
a few real SDKs say when ``gate.release`` gives the stable release again. Click means: when the request of the management API is
sent. Server and clients share the machine: how long each ran on a processor says what a busy one hides. Afterwards the same number
of clients poll plainly, each every second with a splay of its own: how long until they have it, and how evenly their requests come
before and after the click.

    python -m bench.bench_rollback [--clients 1000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdk" / "python" / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tidegate
from bench.ground import Plane, cpu_s, plane

SDKS = 3
INTERVAL_S, SPLAY_S = 1.0, 0.2  # what the server asks plain pollers to rest, and how far they stray from it
BUCKET_S = 0.1


class Client:
    """One long-poll after the other."""

    def __init__(self, port: int, key: str, asked: list[float] | None = None) -> None:
        self._port, self._key = port, key
        self._asked = asked  # when it asked: a plain poller
        self.etag = b""
        self.heard_at: dict[bytes, float] = {}  # by the first bytes that name the rollout's state

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        path = "/sdk/v1/config?wait=25" if self._asked is None else "/sdk/v1/config"
        if self._asked is not None:
            await asyncio.sleep(random.random() * INTERVAL_S)
        while True:
            if self._asked is not None:
                self._asked.append(time.perf_counter())
            head = f"GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {self._key}\r\n".encode()
            writer.write(head + (b"If-None-Match: " + self.etag + b"\r\n" if self.etag else b"") + b"\r\n")
            status, headers = await self._head(reader)
            body = await reader.readexactly(int(headers.get(b"content-length", b"0"))) if status == 200 else b""
            if status == 200:
                self.etag = headers[b"etag"]
                if hashlib.sha256(body).hexdigest().encode() != self.etag.strip(b'"'):
                    sys.exit("A client was served a snapshot that is not what its ETag names.")
                self.heard_at[b"on" if b'"candidate":"' in body else b"off"] = time.perf_counter()
            elif status != 304:
                sys.exit(f"A client was answered {status}.")
            if self._asked is not None:
                await asyncio.sleep(INTERVAL_S + random.uniform(-SPLAY_S, SPLAY_S))

    async def _head(self, reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
        lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        pairs = (line.partition(b":") for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


class Sdk:
    """A real gate, asked all the time which release a unit gets."""

    def __init__(self, url: str, key: str, folder: Path) -> None:
        self._gate = tidegate.connect(url, key, app="bench", cache_dir=folder, traces=False)
        self.back_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._gate.close()

    def _watch(self) -> None:
        while not self._stop.is_set():
            found = self._gate.release("assistant", unit="u-1", tenant="acme")
            if found is not None and found.arm == "canary":
                self.back_at = 0.0
            elif not self.back_at:
                self.back_at = time.perf_counter()
            time.sleep(0.002)


async def measure(server: Plane, key: str, options: argparse.Namespace) -> None:
    clients = [Client(server.port, key) for _ in range(options.clients)]
    tasks = []
    for client in clients:
        tasks.append(asyncio.create_task(client.run()))
        if len(tasks) % 50 == 0:
            await asyncio.sleep(0.05)
    sdks = [Sdk(server.url, key, server.folder / f"sdk-{number}") for number in range(SDKS)]
    api = "deployments/assistant/rollouts"
    p99s: list[float] = []
    pids = server.server_pids()
    for number in range(options.rounds):
        await _ask(
            server, "deployments/assistant/releases/", {"config": {"model": f"m-{number}"}, "version": f"2.{number}"}
        )
        await _ask(server, f"{api}/", {"release": f"2.{number}", "rings": [RING]})
        await _until(lambda: all(b"on" in client.heard_at for client in clients))
        await _until(lambda: all(not sdk.back_at for sdk in sdks))
        for client in clients:
            client.heard_at.clear()
        ran, ran_here = cpu_s(pids), time.process_time()
        clicked = time.perf_counter()
        await _ask(server, f"{api}/rollback", {"reason": "bench"})
        answered = time.perf_counter()
        await _until(lambda: all(b"off" in client.heard_at for client in clients))
        await _until(lambda: all(sdk.back_at for sdk in sdks))
        ran, ran_here = cpu_s(pids) - ran, time.process_time() - ran_here
        took = sorted((client.heard_at[b"off"] - clicked) * 1000 for client in clients)
        p99s.append(took[int(len(took) * 0.99) - 1])
        real = max(sdk.back_at - clicked for sdk in sdks) * 1000
        print(
            f"{len(took)} clients: p50 {statistics.median(took):6.0f} ms  p99 {p99s[-1]:6.0f} ms  last {took[-1]:6.0f} ms   "
            f"real SDKs at most {real:6.0f} ms   the API answered after {(answered - clicked) * 1000:5.0f} ms   "
            f"on a processor: server {ran * 1000:4.0f} ms, clients {ran_here * 1000:4.0f} ms",
            flush=True,
        )
        for client in clients:
            client.heard_at.clear()
    for sdk in sdks:
        await asyncio.to_thread(sdk.close)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(
        f"99 % of {options.clients} clients within {statistics.median(p99s):.0f} ms of the click "
        f"(median of {options.rounds} rounds; the worst {max(p99s):.0f} ms)"
    )


async def measure_plain(server: Plane, key: str, options: argparse.Namespace) -> None:
    """The same click, heard of by plain polling."""
    asked: list[float] = []
    clients = [Client(server.port, key, asked) for _ in range(options.clients)]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    api = "deployments/assistant/rollouts"
    await _until(lambda: all(client.etag for client in clients))
    await _ask(server, "deployments/assistant/releases/", {"config": {"model": "plain"}, "version": "3.0"})
    await _ask(server, f"{api}/", {"release": "3.0", "rings": [RING]})
    await _until(lambda: all(b"on" in client.heard_at for client in clients))
    await asyncio.sleep(2 * INTERVAL_S)
    for client in clients:
        client.heard_at.clear()
    clicked = time.perf_counter()
    await _ask(server, f"{api}/rollback", {"reason": "bench"})
    answered = (time.perf_counter() - clicked) * 1000
    await _until(lambda: all(b"off" in client.heard_at for client in clients))
    await asyncio.sleep(2 * INTERVAL_S)
    took = sorted((client.heard_at[b"off"] - clicked) * 1000 for client in clients)
    print(
        f"{len(took)} plain pollers, every {INTERVAL_S:g} s ± {SPLAY_S:g} s: p50 {statistics.median(took):.0f} ms, "
        f"p99 {took[int(len(took) * 0.99) - 1]:.0f} ms, last {took[-1]:.0f} ms after the click; the API answered after {answered:.0f} ms"
    )
    for name, since in (("before", clicked - 2 * INTERVAL_S), ("after", clicked)):
        counts = [0] * round(2 * INTERVAL_S / BUCKET_S)
        for at in asked:
            if since <= at < since + 2 * INTERVAL_S:
                counts[min(len(counts) - 1, int((at - since) / BUCKET_S))] += 1
        print(
            f"requests per {BUCKET_S:g} s {name} the click: mean {statistics.mean(counts):.0f}, at most {max(counts)}"
        )
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


RING: dict[str, Any] = {"name": "All but nobody", "share": 99.9999}


async def _ask(server: Plane, path: str, document: Any) -> Any:
    return await asyncio.to_thread(server.api, "POST", path, document)


async def _until(done: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            sys.exit("Not everybody heard of it within 30 s.")
        await asyncio.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with plane() as server:
        server.api("POST", "tenants/", {"slug": "acme", "name": "Acme"})
        for number in range(20):
            server.api("POST", "tenants/", {"slug": f"tenant-{number}", "name": f"Tenant {number}", "parent": "acme"})
        key = server.api("POST", "tenants/acme/keys/", {"name": "bench"})["key"]
        server.api("POST", "deployments/", {"slug": "assistant", "tenant": "acme", "routes": ["chat"], "unit": "user"})
        server.api("POST", "deployments/assistant/releases/", {"config": {"model": "stable"}, "version": "1.0"})
        asyncio.run(measure(server, key, options))
        asyncio.run(measure_plain(server, key, options))


if __name__ == "__main__":
    main()
