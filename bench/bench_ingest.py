"""How many spans one edge process makes durable and queryable, beside psycopg's bare binary COPY of the same rows.

Spans are those of agents, eight a trace: a root, inferences, tools, with the attributes that instrumentations write. They come as stock
exporters send them: batches of 512 in gzipped protobuf, over a few connections; each is answered after its commit. The COPY has
nothing to read, check or map: its rows are ready in memory, in the same table with the same indexes. Rounds are interleaved.

    python -m bench.bench_ingest [--rounds 3] [--batches 200] [--connections 8] [--peers python-of-a-venv]
        [--per-trace 8]

With ``--per-trace 1`` each span is a trace of its own, as those of plain calls are.
``--peers`` names the Python of an environment in which MLflow or Phoenix are installed: in every round they get such requests (fewer of
them), on the same PostgreSQL server, and are waited for until every span can be counted.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.ground import Plane, plane
from bench.peers.tracing import Turn, peers

BATCH = 512
_INFERENCE = 1  # a place in a trace of eight that is one
MODELS = ("gpt-4o-2024-08-06", "gpt-4o-mini", "claude-sonnet-4-5", "text-embedding-3-small")


class Batch(NamedTuple):
    """One request: its body as it is sent, and how many spans it holds."""

    body: bytes
    packed: bytes
    spans: int


def _set(attributes: Any, **values: object) -> None:
    for name, value in values.items():
        pair = attributes.add(key=name.replace("__", "."))
        if isinstance(value, int):
            pair.value.int_value = value
        else:
            pair.value.string_value = str(value)


def make(batches: int, seed: int, per_trace: int) -> list[Batch]:
    """Make batches of traces that ended a moment ago: of an agent's eight spans, or of one inference."""
    chance = random.Random(seed)
    made = []
    now_ns = time.time_ns() - 60 * 10**9
    for _ in range(batches):
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        _set(group.resource.attributes, service__name="support-bot", service__version="7.3.0", telemetry__sdk__language="python",
             telemetry__sdk__name="opentelemetry", telemetry__sdk__version="1.38.0", host__name=f"host-{chance.randrange(20)}")  # fmt: skip
        scope = group.scope_spans.add()
        scope.scope.name = "opentelemetry.instrumentation.openai_v2"
        for number in range(BATCH):
            place = number % per_trace
            if place == 0:
                trace_id, root = chance.randbytes(16), chance.randbytes(8)
            span = scope.spans.add()
            span.trace_id, span.span_id = trace_id, chance.randbytes(8) if place else root
            span.parent_span_id = root if place else b""
            _fill(span, place if per_trace > 1 else _INFERENCE, now_ns + number * 10**6, chance)
        body = request.SerializeToString()
        made.append(Batch(body, gzip.compress(body, 5), BATCH))
    return made


def _fill(span: Any, place: int, start_ns: int, chance: random.Random) -> None:
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, start_ns + chance.randrange(10**6, 3 * 10**9)
    session = f"conv-{chance.randrange(5000)}"
    if place == 0:
        span.name, span.kind = "invoke_agent coordinator", 1
        _set(span.attributes, gen_ai__operation__name="invoke_agent", gen_ai__agent__name="coordinator",
             gen_ai__conversation__id=session, enduser__id=f"user-{chance.randrange(900)}", tidegate__tenant="")  # fmt: skip
    elif place in (3, 6):
        span.name, span.kind = "execute_tool search_orders", 1
        _set(span.attributes, gen_ai__operation__name="execute_tool", gen_ai__tool__name="search_orders",
             gen_ai__tool__call__id=f"call_{chance.getrandbits(96):024x}", gen_ai__tool__type="function")  # fmt: skip
    else:
        model = chance.choice(MODELS)
        span.name, span.kind = f"chat {model}", 3
        _set(span.attributes, gen_ai__operation__name="chat", gen_ai__provider__name="openai", gen_ai__request__model=model,
             gen_ai__response__model=model, gen_ai__response__id=f"chatcmpl-{chance.getrandbits(112):029x}",
             gen_ai__request__max_tokens=1024, gen_ai__usage__input_tokens=chance.randrange(100, 9000),
             gen_ai__usage__output_tokens=chance.randrange(5, 900), gen_ai__conversation__id=session,
             server__address="api.openai.com", server__port=443, gen_ai__response__finish_reasons="stop")  # fmt: skip
    if chance.random() < 0.02:
        span.status.code, span.status.message = 2, "upstream timed out"


async def send(port: int, headers: Mapping[str, str], batches: Sequence[Batch], connections: int) -> None:
    """Send all batches over some connections; end with the status of one that is not taken."""
    left = list(batches)
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left:
            batch = left.pop()
            head = (
                f"POST /v1/traces HTTP/1.1\r\nhost: 127.0.0.1\r\n{more}"
                "content-type: application/x-protobuf\r\ncontent-encoding: gzip\r\n"
                f"content-length: {len(batch.packed)}\r\n\r\n"
            )
            writer.write(head.encode() + batch.packed)
            answered = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in answered.split(b"\r\n", 1)[0]:
                sys.exit(f"A batch was refused: {answered!r}")
            length = int(answered.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            await reader.readexactly(length)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))


class Database:
    """The server's database, looked into from outside."""

    def __init__(self, server: Plane) -> None:
        self.address = dict(**server.database, dbname="postgres")
        self.connection = psycopg.connect(**self.address, autocommit=True)  # type: ignore[arg-type]

    def empty(self) -> None:
        self.connection.execute("TRUNCATE telemetry_span")
        self.connection.execute("CHECKPOINT")

    def count(self) -> int:
        row = self.connection.execute("SELECT count(*) FROM telemetry_span").fetchone()
        return int(row[0]) if row else 0

    def columns(self) -> tuple[list[str], list[str]]:
        rows = self.connection.execute(
            "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a WHERE a.attrelid = 'telemetry_span'::regclass "
            "AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        ).fetchall()
        return [row[0] for row in rows], [row[1] for row in rows]

    def rows(self) -> list[tuple[Any, ...]]:
        """Return all spans as Python values, JSON as text that psycopg passes on."""
        names, types = self.columns()
        chosen = ", ".join(
            f'"{name}"::text' if kind == "jsonb" else f'"{name}"' for name, kind in zip(names, types, strict=True)
        )
        with self.connection.cursor(binary=True) as cursor:
            return cursor.execute(f"SELECT {chosen} FROM telemetry_span").fetchall()

    def copy(self, rows: Sequence[tuple[Any, ...]], size: int) -> float:
        """Copy rows in batches of ``size``, each committed; return the seconds that took."""
        names, types = self.columns()
        statement = f"COPY telemetry_span ({', '.join(map(_quoted, names))}) FROM STDIN (FORMAT BINARY)"
        began = time.perf_counter()
        for start in range(0, len(rows), size):
            with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types(types)
                for row in rows[start : start + size]:
                    copy.write_row(row)
        return time.perf_counter() - began


def _quoted(name: str) -> str:
    return f'"{name}"'


def wrapped(rows: Sequence[tuple[Any, ...]], types: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return rows whose JSON is marked as such, made before the clock starts."""
    from psycopg.types.json import Jsonb

    def keep(text: Any) -> str:
        return str(text)

    return [
        tuple(Jsonb(value, dumps=keep) if kind == "jsonb" else value for value, kind in zip(row, types, strict=True))
        for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--peers", default="", help="the Python of an environment with MLflow or Phoenix")
    parser.add_argument("--peer-batches", type=int, default=8)
    parser.add_argument(
        "--per-trace", type=int, choices=(1, 8), default=8, help="spans: of an agent, or of one inference"
    )
    options = parser.parse_args()
    with plane() as server:
        key = server.api("POST", "keys/", {"name": "bench"})["key"]
        server.pin_server(0)
        os.sched_setaffinity(0, {1})
        (first,) = make(1, 999, options.per_trace)
        with peers(options.peers, server, first, send, options.connections) as rivals:
            measure(server, key, rivals, options)


def measure(server: Plane, key: str, rivals: Mapping[str, Turn], options: argparse.Namespace) -> None:
    """Print rounds, in each of which everybody takes a turn, and what the best ones come to."""
    database = Database(server)
    least: dict[str, float] = {}
    best = dict.fromkeys(("ours", "COPY, 512 rows a transaction", "COPY, all in one", *rivals), 0.0)
    for number in range(options.rounds):
        batches = make(options.batches, number, options.per_trace)
        total = sum(batch.spans for batch in batches)
        database.empty()
        work: dict[str, float] = {}  # seconds of processor a span
        began, ran = time.perf_counter(), server.ran()
        asyncio.run(send(server.port, {"authorization": f"Bearer {key}"}, batches, options.connections))
        rates = {"ours": total / (time.perf_counter() - began)}
        work["ours"] = (server.ran() - ran) / total
        if database.count() != total:
            sys.exit(f"{total} spans were taken, {database.count()} are there.")
        _, types = database.columns()
        rows = wrapped(database.rows(), types)
        for name, size in (("COPY, 512 rows a transaction", BATCH), ("COPY, all in one", total)):
            database.empty()
            ran = server.ran(server=False) + time.process_time()
            rates[name] = total / database.copy(rows, size)
            work[name] = (server.ran(server=False) + time.process_time() - ran) / total
        for name, take_turn in rivals.items():
            rates[name], work[name] = take_turn(make(options.peer_batches, 1000 + number, options.per_trace))
        for name, seconds in work.items():
            least[name] = min(least.get(name, 1e9), seconds)
        for name, rate in rates.items():
            best[name] = max(best[name], rate)
            spent = f", {work[name] * 1e6:>7.1f} µs of processor a span"
            print(f"{name:<30} {rate:>9,.0f} spans/s{spent}", flush=True)
    print(f"{sum(len(b.body) for b in batches) / total:.0f} bytes a span")
    for name in list(best)[1:]:
        spent = f", {least[name] / least['ours']:.2f} by the processor"
        print(f"ours / {name}: {best['ours'] / best[name]:.2f} by the clock{spent}")


if __name__ == "__main__":
    main()
