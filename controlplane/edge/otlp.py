"""``POST /v1/traces``, ``/v1/metrics``, ``/v1/logs``: what any OpenTelemetry exporter sends, durable before the 200."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import structlog
from django.conf import settings
from django.utils import timezone
from psycopg import AsyncConnection

from controlplane.edge.database import Pool
from controlplane.edge.encoding import read_body
from controlplane.edge.http import JSON, Request, Response
from controlplane.edge.mirror import Key, Mirror
from controlplane.edge.status import PROTOBUF, refusal
from controlplane.edge.writer import Busy, Writer
from controlplane.problems import Problem
from controlplane.telemetry import binary
from controlplane.telemetry.actions import points, spans
from controlplane.telemetry.actions.late import Slots, note_late_spans, slots_of
from controlplane.telemetry.otlp import logs as log_records
from controlplane.telemetry.otlp import metrics as metric_points
from controlplane.telemetry.otlp import spans as trace_spans
from controlplane.telemetry.otlp.decoding import Decoded, Reading
from controlplane.telemetry.otlp.response import answer
from controlplane.telemetry.otlp.series import PointRow
from controlplane.telemetry.schemas import LogRow, SpanRow

log = structlog.get_logger(__name__)

# Bodies beyond this are decoded on a thread, so that the loop keeps answering the others.
_SMALL = 16 * 1024
MAX_HELD = 256 << 20  # bytes of all bodies that are on their way into the database at one time
# What is on its way beside a request that goes on being read. It bounds how long an exporter waits, which gives up after ten seconds.
MAX_OTHERS = 32 << 20
MAX_AGE_S = 3.0  # of the oldest body that waits: beyond that, more of them would be waited for in vain
_KINDS = {b"application/x-protobuf": False, b"application/json": True}
Row = TypeVar("Row")
Batch = TypeVar("Batch")
Made = TypeVar("Made")


class UnknownType(Problem):
    status, kind, title = 415, "unknown-type", "The type of the body is not known"


class Broken(Problem):
    status, kind, title = 500, "broken", "Something is wrong here"


class Signal(NamedTuple, Generic[Row, Batch]):
    """One of the three: how its requests are read, what is made of the rows on the thread, and who writes that."""

    decode_protobuf: Callable[[bytes, Reading], Decoded[Row]]
    decode_json: Callable[[bytes, Reading], Decoded[Row]]
    prepare: Callable[[Decoded[Row]], tuple[Batch, int]]  # the batch and its size in bytes
    rejected: str  # JSON's name in the response for how many were not kept
    writer: Writer[Batch]


class Ready(NamedTuple):
    """A batch of records, and what was said in them, ready for COPY; of spans, when they were under way."""

    rows: list[bytes]
    messages: list[bytes]
    slots: Slots = frozenset()

    @classmethod
    def of(cls, decoded: Decoded[Row], as_row: Callable[[Row], bytes]) -> tuple[Ready, int]:
        made = cls(list(map(as_row, decoded.rows)), list(map(binary.message, decoded.messages)))
        return made, sum(map(len, made.rows)) + sum(map(len, made.messages))

    @classmethod
    def of_spans(cls, decoded: Decoded[SpanRow]) -> tuple[Ready, int]:
        made, size = cls.of(decoded, binary.span)
        return made._replace(slots=slots_of(decoded.rows)), size


def _joined(batches: Sequence[Ready]) -> tuple[list[bytes], list[bytes]]:
    return [row for batch in batches for row in batch.rows], [said for batch in batches for said in batch.messages]


async def _store_spans(connection: AsyncConnection[Any], batches: Sequence[Ready]) -> None:
    await spans.store(connection, *_joined(batches))
    slots = frozenset[tuple[int, int]]().union(*(batch.slots for batch in batches))
    await note_late_spans(connection, slots, now=timezone.now())


async def _store_logs(connection: AsyncConnection[Any], batches: Sequence[Ready]) -> None:
    await spans.store_logs(connection, *_joined(batches))


async def _store_points(connection: AsyncConnection[Any], batches: Sequence[Decoded[PointRow]]) -> None:
    await points.store(connection, batches, now=timezone.now())


_POINT_SIZE = 500  # of a point in memory, about


def _as_is(decoded: Decoded[PointRow]) -> tuple[Decoded[PointRow], int]:
    return decoded, len(decoded.rows) * _POINT_SIZE


@dataclass(slots=True)
class _Hold:
    """What one request keeps in memory, out of what all may."""

    intake: Otlp
    size: int = 0

    def take(self, size: int) -> None:
        others = self.intake.held - self.size
        self.size += size
        self.intake.held += size
        if others > MAX_OTHERS or self.intake.held > MAX_HELD:
            raise Busy("More arrives than can be dealt with: send it again.", retry_after_s=1)

    def give_back(self) -> None:
        self.intake.held -= self.size


class Otlp:
    """The three endpoints of one edge process."""

    def __init__(
        self, mirror: Mirror, pool: Pool, told: Callable[[frozenset[str]], None], reading_of: Callable[[Key], Reading]
    ) -> None:
        self._mirror = mirror
        self._told = told
        self._reading_of = reading_of
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="otlp")
        self._since: dict[
            object, float
        ] = {}  # when the bodies that wait for the thread, or are on it, began to; the oldest first
        self.held = 0
        self.rejected = 0
        self.traces: Signal[SpanRow, Ready] = Signal(
            trace_spans.decode_protobuf,
            trace_spans.decode_json,
            Ready.of_spans,
            "rejectedSpans",
            Writer("spans", pool, _store_spans),
        )
        self.metrics: Signal[PointRow, Decoded[PointRow]] = Signal(
            metric_points.decode_protobuf,
            metric_points.decode_json,
            _as_is,
            "rejectedDataPoints",
            Writer("points", pool, _store_points),
        )
        self.logs: Signal[LogRow, Ready] = Signal(
            log_records.decode_protobuf,
            log_records.decode_json,
            lambda decoded: Ready.of(decoded, binary.log),
            "rejectedLogRecords",
            Writer("logs", pool, _store_logs),
        )

    @property
    def writers(self) -> list[Writer[Any]]:
        return [self.traces.writer, self.metrics.writer, self.logs.writer]

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run all the time."""
        return [writer.run() for writer in self.writers]

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    async def take(self, signal: Signal[Any, Any], request: Request) -> Response:
        """Store the records of an export request; say what could not be kept."""
        kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        as_json = _KINDS.get(kind, True)
        hold = _Hold(self)
        try:
            key = await self._mirror.key_of(request.headers.get(b"authorization"))
            if kind not in _KINDS:
                raise UnknownType("Content-Type must be application/x-protobuf or application/json.")
            self._check(signal)
            limit = settings.OTLP_MAX_BYTES
            body = await read_body(request, limit=limit, unpacked=limit, take=hold.take)
            decoded = await self._stored(signal, body, key, as_json=as_json) if body else Decoded[Any]()
        except Problem as problem:
            signal.writer.refused += isinstance(problem, Busy)
            return refusal(problem, as_json=as_json)
        finally:
            hold.give_back()
        self.rejected += decoded.rejected
        return Response(200, answer(decoded, signal.rejected, as_json=as_json), (JSON if as_json else PROTOBUF,))

    def _check(self, signal: Signal[Any, Any]) -> None:
        """Raise ``Busy`` when a request would be answered too late, before anybody reads it."""
        signal.writer.check()
        now = asyncio.get_running_loop().time()
        if max(now - next(iter(self._since.values()), now), signal.writer.lag_s) > MAX_AGE_S:
            raise Busy("What came before has not been dealt with yet: send it again.", retry_after_s=1)

    async def _on_thread(self, work: Callable[[], Made]) -> Made:
        loop, turn = asyncio.get_running_loop(), object()
        self._since[turn] = loop.time()
        try:
            return await loop.run_in_executor(self._thread, work)
        finally:
            del self._since[turn]

    async def _stored(self, signal: Signal[Any, Any], body: bytes, key: Key, *, as_json: bool) -> Decoded[Any]:
        decode = signal.decode_json if as_json else signal.decode_protobuf
        reading = self._reading_of(key)

        def made() -> tuple[Decoded[Any], Any, int]:
            decoded = decode(body, reading)
            return decoded, *signal.prepare(decoded)

        try:
            work = made() if len(body) <= _SMALL else await self._on_thread(made)
        except Problem:
            raise
        except Exception:
            log.exception("otlp.not_decoded", signal=signal.writer.name, size=len(body))
            raise Broken("This request could not be read. It will not get better by being sent again.") from None
        decoded, batch, size = work
        if decoded.rows:
            await signal.writer.submit(batch, size=size, records=len(decoded.rows))
            self._told(frozenset({"telemetry"}))
        return decoded
