"""How many spans one edge process makes durable and queryable, beside psycopg's bare binary COPY of the same rows.

They come as stock exporters send them: batches of 512 in gzipped protobuf, over a few connections; each is answered after its commit.
The COPY has nothing to read, check or map: its rows are ready in memory, in the same tables with the same indexes. Rounds are interleaved.

    python -m bench.bench_ingest [--rounds 3] [--batches 200] [--connections 8] [--peers python-of-a-venv]
        [--shape agents|calls|captures]

``agents``: eight spans a trace, a root, inferences, tools, with the attributes that instrumentations write. ``calls``: each span is a
trace of its own. ``captures``: what three instrumentations really sent of an application, its traces as they were (two spans a trace
on average), with prompts and replies, which everybody keeps; it lies in ``shared/`` beside a developer's checkout.
``--peers`` names the Python of an environment in which MLflow or Phoenix are installed: in every round they get such requests (fewer of
them), on the same PostgreSQL server, and are waited for until every span can be counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg

from bench.ground import Plane, plane
from bench.peers.tracing import Turn, peers
from bench.spans import AGENTS, BATCH, CAPTURES, SHAPES, Batch, make

TABLES = ("telemetry_span", "telemetry_message")
SOON_S = 5.0  # edges know by then what an operator wants


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


class Table(NamedTuple):
    """What is in a table, and how it is copied."""

    statement: str
    types: list[str]
    rows: list[tuple[Any, ...]]


class Database:
    """The server's database, looked into from outside."""

    def __init__(self, server: Plane) -> None:
        self.address = dict(**server.database, dbname="postgres")
        self.connection = psycopg.connect(**self.address, autocommit=True)  # type: ignore[arg-type]

    def empty(self) -> None:
        self.connection.execute(f"TRUNCATE {', '.join(TABLES)}".encode())
        self.connection.execute("CHECKPOINT")

    def count(self) -> int:
        row = self.connection.execute("SELECT count(*) FROM telemetry_span").fetchone()
        return int(row[0]) if row else 0

    def contents(self) -> list[Table]:
        """Return all rows of the tables as Python values, JSON as text that psycopg passes on."""
        return [self._content(name) for name in TABLES]

    def _content(self, table: str) -> Table:
        columns = self.connection.execute(
            "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a WHERE a.attrelid = %s::regclass "
            "AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            [table],
        ).fetchall()
        names, types = [f'"{name}"' for name, _ in columns], [kind for _, kind in columns]
        chosen = ", ".join(
            f"{name}::text" if kind == "jsonb" else name for name, kind in zip(names, types, strict=True)
        )
        with self.connection.cursor(binary=True) as cursor:
            rows = cursor.execute(f"SELECT {chosen} FROM {table}".encode()).fetchall()
        return Table(f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)", types, wrapped(rows, types))

    def copy(self, tables: Sequence[Table], times: int) -> float:
        """Copy rows in so many transactions; return the seconds that took."""
        began = time.perf_counter()
        for number in range(times):
            with self.connection.transaction(), self.connection.cursor() as cursor:
                for table in tables:
                    self._copy_part(cursor, table, number, times)
        return time.perf_counter() - began

    def _copy_part(self, cursor: psycopg.Cursor[Any], table: Table, number: int, times: int) -> None:
        rows = table.rows[len(table.rows) * number // times : len(table.rows) * (number + 1) // times]
        if rows:
            with cursor.copy(table.statement.encode()) as copy:
                copy.set_types(table.types)
                for row in rows:
                    copy.write_row(row)


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
    parser.add_argument("--shape", choices=SHAPES, default=AGENTS, help="what is sent")
    parser.add_argument("--mlflow-workers", type=int, default=1, help="its documented default is four")
    options = parser.parse_args()
    with plane() as server:
        key = server.api("POST", "keys/", {"name": "bench"})["key"]
        server.pin_server(0)
        os.sched_setaffinity(0, {1})
        (first,) = make(1, 999, options.shape)
        if options.shape == CAPTURES:
            server.api("PUT", "capture", {"keeps": True})  # the others keep what was said, too
            time.sleep(SOON_S)
        with peers(options.peers, server, first, send, options.connections, options.mlflow_workers) as rivals:
            measure(server, key, rivals, options)


def measure(server: Plane, key: str, rivals: Mapping[str, Turn], options: argparse.Namespace) -> None:
    """Print rounds, in each of which everybody takes a turn, and what the best ones come to."""
    database = Database(server)
    least: dict[str, float] = {}
    best = dict.fromkeys(("ours", "COPY, 512 rows a transaction", "COPY, all in one", *rivals), 0.0)
    for number in range(options.rounds):
        batches = make(options.batches, number, options.shape)
        total = sum(batch.spans for batch in batches)
        database.empty()
        work: dict[str, float] = {}  # seconds of processor a span
        there: dict[str, float] = {}  # how much of it could be counted with the last answer
        began, ran = time.perf_counter(), server.ran()
        asyncio.run(send(server.port, {"authorization": f"Bearer {key}"}, batches, options.connections))
        rates = {"ours": total / (time.perf_counter() - began)}
        work["ours"] = (server.ran() - ran) / total
        if database.count() != total:
            sys.exit(f"{total} spans were taken, {database.count()} are there.")
        tables = database.contents()
        for name, times in (("COPY, 512 rows a transaction", -(-total // BATCH)), ("COPY, all in one", 1)):
            database.empty()
            ran = server.ran(server=False) + time.process_time()
            rates[name] = total / database.copy(tables, times)
            work[name] = (server.ran(server=False) + time.process_time() - ran) / total
        for name, take_turn in rivals.items():
            rates[name], work[name], there[name] = take_turn(make(options.peer_batches, 1000 + number, options.shape))
        for name, seconds in work.items():
            least[name] = min(least.get(name, 1e9), seconds)
        for name, rate in rates.items():
            best[name] = max(best[name], rate)
            spent = f", {work[name] * 1e6:>7.1f} µs of processor a span"
            stored = f", {there[name]:.0%} there when acknowledged" if name in there else ""
            print(f"{name:<30} {rate:>9,.0f} spans/s{spent}{stored}", flush=True)
    print(f"{sum(len(b.body) for b in batches) / total:.0f} bytes a span")
    for name in list(best)[1:]:
        spent = f", {least[name] / least['ours']:.2f} by the processor"
        print(f"ours / {name}: {best['ours'] / best[name]:.2f} by the clock{spent}")


if __name__ == "__main__":
    main()
