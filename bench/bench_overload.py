"""Whether the server's memory stays flat while more spans arrive than it can take, and whether it keeps what it accepted.

Some hundred connections send batches of 512 agents' spans at once and again, without a pause but those that a 429 asks for, for ten
minutes. Beside them, bombs arrive (small in gzip, huge unpacked) and bodies that take for ever. Afterwards all accepted spans must be
in the table, and no others; a Retry-After above two seconds, another answer than 200, 429 or 503, or growing memory is a failure.

    python -m bench.bench_overload [--minutes 10] [--connections 256]
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import statistics
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.bench_ingest import Database
from bench.ground import Plane, plane
from bench.spans import BATCH, make

EVERY_S = 5.0
BOMB = gzip.compress(bytes(300 << 20), 9)
SLOW = 16  # connections whose bodies never end
MOST_GROWTH = 1.1
_ID_FIELD = b"\x0a\x10"  # the tag and the length of a span's trace id, its first field


class Template:
    """A request of 512 spans that can be made again with other trace ids, without being built anew."""

    def __init__(self, body: bytes, trace_ids: set[bytes]) -> None:
        self._body = bytearray(body)
        self._places = []
        for trace_id in trace_ids:
            at = body.find(_ID_FIELD + trace_id)
            while at >= 0:
                self._places.append(at + len(_ID_FIELD))
                at = body.find(_ID_FIELD + trace_id, at + 1)

    def numbered(self, number: int) -> bytes:
        """Return the request with trace ids that no other number has."""
        for place in self._places:
            struct.pack_into(">Q", self._body, place, number)
        return bytes(self._body)


def templates(count: int) -> list[Template]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    made = []
    for batch in make(count, 5):
        request = ExportTraceServiceRequest.FromString(batch.body)
        spans = request.resource_spans[0].scope_spans[0].spans
        made.append(Template(batch.body, {span.trace_id for span in spans}))
    return made


@dataclass
class Tally:
    """What was answered, and how much memory the server had, in MB, by the second."""

    ends: float
    answers: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    longest_retry_s: int = 0
    rss: list[tuple[float, float]] = field(default_factory=list)
    numbers: int = 0

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.ends


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Read an answer; return its status and Retry-After."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0))
    return int(head.split(b" ", 2)[1]), int(head.partition(b"retry-after: ")[2].partition(b"\r\n")[0] or 0)


async def sender(port: int, key: str, made: list[Template], tally: Tally) -> None:
    """Send batches until it is over; a refused one is not sent again, but the pause is kept."""
    while not tally.over:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            tally.answers["not connected"] += 1
            await asyncio.sleep(1)
            continue
        with suppress(OSError, asyncio.IncompleteReadError):
            while not tally.over:
                tally.numbers += 1
                body = made[tally.numbers % len(made)].numbered(tally.numbers)
                writer.write(head_of(key, len(body)) + body)
                status, pause_s = await answer_of(reader)
                tally.answers[f"{status}"] += 1
                tally.accepted += BATCH * (status == 200)
                tally.longest_retry_s = max(tally.longest_retry_s, pause_s)
                await asyncio.sleep(pause_s)
        writer.close()


def head_of(key: str, length: int, more: str = "") -> bytes:
    return (
        f"POST /v1/traces HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n{more}"
        f"content-type: application/x-protobuf\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


async def bomber(port: int, key: str, tally: Tally) -> None:
    """Send a bomb every two seconds: 300 kB that unpack to 300 MB."""
    while not tally.over:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head_of(key, len(BOMB), "content-encoding: gzip\r\n") + BOMB)
            tally.answers[f"bomb {(await answer_of(reader))[0]}"] += 1
            writer.close()
        await asyncio.sleep(2)


async def dawdler(port: int, key: str, tally: Tally) -> None:
    """Announce a body and send a byte of it a second."""
    while not tally.over:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head_of(key, 1 << 20))
            answered = asyncio.create_task(answer_of(reader))
            while not answered.done() and not tally.over:
                writer.write(b"\0")
                await asyncio.sleep(1)
            if answered.done():
                tally.answers[f"slow body {answered.result()[0]}"] += 1
            answered.cancel()
            writer.close()


async def watch(server: Plane, tally: Tally) -> None:
    """Note the memory of the server's processes, and tell of each minute."""
    pids, began = server.server_pids(), time.monotonic()
    before: Counter[str] = Counter()
    while not tally.over:
        await asyncio.sleep(EVERY_S)
        at = time.monotonic() - began
        tally.rss.append((at, sum(map(rss_mb, pids))))
        if len(tally.rss) % int(60 / EVERY_S) == 0:
            step = tally.answers - before
            before = tally.answers.copy()
            sent = step["200"] + step["429"] + step["503"]
            print(f"{at / 60:>4.0f} min {tally.rss[-1][1]:>7.0f} MB, {step['200'] * BATCH / 60:>7,.0f} spans/s accepted, "
                  f"{100 * (step['429'] + step['503']) / max(1, sent):.0f} % of {sent:,} batches refused", flush=True)  # fmt: skip


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process in MB, 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


async def drive(server: Plane, key: str, minutes: float, connections: int) -> Tally:
    made = templates(16)
    tally = Tally(time.monotonic() + 60 * minutes, numbers=random.getrandbits(40) << 20)
    await asyncio.gather(
        watch(server, tally),
        bomber(server.port, key, tally),
        *(dawdler(server.port, key, tally) for _ in range(SLOW)),
        *(sender(server.port, key, made, tally) for _ in range(connections)),
    )
    return tally


def judge(tally: Tally, stored: int, minutes: float) -> list[str]:
    """Return what is not as it shall be."""
    early = [mb for at, mb in tally.rss if 0.1 <= at / 60 / minutes < 0.4]
    late = [mb for at, mb in tally.rss if at / 60 / minutes >= 0.8]
    growth = statistics.median(late) / statistics.median(early) if early and late else 0.0
    print(f"memory at its median {statistics.median(early):.0f} MB early, {statistics.median(late):.0f} MB late, "
          f"at most {max(mb for _, mb in tally.rss):.0f} MB; longest Retry-After {tally.longest_retry_s} s")  # fmt: skip
    print(f"{tally.accepted:,} spans accepted, {stored:,} stored; answers {dict(sorted(tally.answers.items()))}")
    faults = []
    if growth > MOST_GROWTH:
        faults.append(f"memory grew by {100 * (growth - 1):.0f} %")
    if stored != tally.accepted:
        faults.append("what was accepted is not what is stored")
    if tally.longest_retry_s > 2:
        faults.append("exporters give up on such a Retry-After")
    strange = set(tally.answers) - {"200", "429", "503", "bomb 413", "bomb 429", "slow body 408", "slow body 429"}
    return [*faults, *(f"{tally.answers[each]} times {each}" for each in sorted(strange))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--connections", type=int, default=256)
    options = parser.parse_args()
    with plane() as server:
        key = server.api("POST", "keys/", {"name": "bench"})["key"]
        tally = asyncio.run(drive(server, key, options.minutes, options.connections))
        time.sleep(5)
        faults = judge(tally, Database(server).count(), options.minutes)
    for fault in faults:
        print(f"NOT AS IT SHALL BE: {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
