"""``POST /ofrep/v1/evaluate/flags[/{key}]``: releases for any OpenFeature OFREP provider, by an SDK key.

Answered from the snapshot in memory; docs/rollouts.md, "OpenFeature". One evaluation counts nowhere: programs that are to be
compared use the SDK. ``GET /ofrep/v1/events`` tells pages when there is something new, by an address that the bulk answer names:
an EventSource has no headers, so the address itself is signed, for a key and until the end of the next day.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import NamedTuple

import orjson
from django.conf import settings

from controlplane.edge.config import change_of
from controlplane.edge.http import JSON, Request, Response
from controlplane.edge.mirror import Head, Key, Mirror
from controlplane.problems import Problem, TooLarge, Unauthorized
from tidegate.core.ofrep import (
    EVENTS,
    MAX_BODY,
    PATH,
    STILL_THERE,
    Answer,
    Context,
    Refusal,
    changed_event,
    evaluate,
    evaluate_all,
    read_context,
)
from tidegate.core.snapshot import Snapshot, compile_snapshot

MAX_COMPILED = 256
DAY_S = 86_400
HEARTBEAT_S = 15.0
CATCH_UP_S = 2.0
_HEADERS = b"authorization, x-api-key, if-none-match, content-type, last-event-id"


class _Compiled(NamedTuple):
    snapshot: Snapshot
    version: str  # of what it says of deployments


class Ofrep:
    """The evaluation of one edge process, with the snapshots that it has compiled."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._compiled: OrderedDict[str, _Compiled] = OrderedDict()
        self._closed = False

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._mirror.release_all()

    async def answer(self, request: Request) -> Response:
        """Answer one request, errors too in the form that OFREP has for them."""
        headers = _cors(request)
        if request.method == "OPTIONS":
            return Response(204, b"", headers)
        flag = request.path[len(PATH) + 1 :]
        try:
            answer = await self._evaluate(request, flag)
        except Refusal as refusal:
            answer = Answer(400, {"key": flag, "errorCode": refusal.code, "errorDetails": refusal.details})
        except TooLarge as problem:
            answer = Answer(400, {"key": flag, "errorCode": "PARSE_ERROR", "errorDetails": problem.detail})
        except Problem as problem:
            return _refused(problem, headers)
        if answer.etag:
            headers += ((b"etag", answer.etag.encode()),)
        body = b"" if answer.document is None else orjson.dumps(answer.document)
        return Response(answer.status, body, (JSON, *headers))

    async def _evaluate(self, request: Request, flag: str) -> Answer:
        key = await self._key_of(request)
        compiled = await self._newest(key, request.query.get("flagConfigEtag", "") if request.query_string else "")
        context = _within(read_context(await request.body(limit=MAX_BODY)), key)
        if flag:
            return evaluate(compiled.snapshot, flag, context)
        known = request.headers.get(b"if-none-match", b"").decode("latin-1")
        events = _address(key, int(time.time()) // DAY_S)
        return evaluate_all(compiled.snapshot, context, known=known, version=compiled.version, events=events)

    async def _newest(self, key: Key, told: str) -> _Compiled:
        """Return what the key's scope has; where a client was ``told`` of another version, after a moment to catch up."""
        head = self._mirror.head_now(key.scope_id) or await self._mirror.head_of(key.scope_id)
        compiled = self._of(head)
        if told and told != compiled.version:
            await change_of(head, CATCH_UP_S)
            compiled = self._of(self._mirror.head_now(key.scope_id) or head)
        return compiled

    async def events(self, request: Request) -> Response:
        """Tell of every change of the releases that a key sees, first of one that came since the last that the client saw."""
        headers = _cors(request)
        try:
            key, day = self._signed(request.query)
            await self._newest(key, "")
        except Problem as problem:
            return _refused(problem, headers)
        last = request.headers.get(b"last-event-id", b"").decode("latin-1")
        kind = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"))
        return Response(200, b"", (*kind, *headers), self._changes(key, day, last))

    def _signed(self, query: dict[str, str]) -> tuple[Key, int]:
        number, day = query.get("key", ""), query.get("day", "")
        known = number.isdecimal() and day.isdecimal() and len(number) < 19 and len(day) < 9
        key = self._mirror.key_numbered(int(number)) if known else None
        if key is None or not hmac.compare_digest(
            _signature(key.id, int(day)).encode(), query.get("sign", "").encode()
        ):
            raise Unauthorized(
                "The address of the events is not one of ours, or its key is gone: ask for the flags again."
            )
        if not self._lasts(key, int(day)):
            raise Unauthorized("The address of the events has expired: ask for the flags again.")
        return key, int(day)

    def _lasts(self, key: Key, day: int) -> bool:
        return 0 <= int(time.time()) // DAY_S - day <= 1 and self._mirror.key_numbered(key.id) is not None

    async def _changes(self, key: Key, day: int, last: str) -> AsyncGenerator[bytes]:
        while not self._closed and self._lasts(key, day):
            head = self._mirror.head_now(key.scope_id)
            if head is None:
                return
            version = self._of(head).version
            yield changed_event(version) if version != last else STILL_THERE
            last = version
            if self._mirror.head_now(key.scope_id) is head:
                await change_of(head, HEARTBEAT_S)

    async def _key_of(self, request: Request) -> Key:
        api_key = request.headers.get(b"x-api-key")
        said = request.headers.get(b"authorization") or (b"Bearer " + api_key if api_key else None)
        return await self._mirror.key_of(said)

    def _of(self, head: Head) -> _Compiled:
        found = self._compiled.get(head.etag)
        if found is None:
            document = orjson.loads(head.body)
            said = orjson.dumps(document.get("deployments", {}), option=orjson.OPT_SORT_KEYS)
            found = _Compiled(compile_snapshot(document), hashlib.sha256(said).hexdigest())
            self._compiled[head.etag] = found
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
        return found


def _within(context: Context, key: Key) -> Context:
    """Return the context with a tenant that the key may speak for."""
    return context._replace(tenant=key.tenant_of(context.tenant)) if context.tenant else context


def _address(key: Key, day: int) -> str:
    return f"{EVENTS}?key={key.id}&day={day}&sign={_signature(key.id, day)}"


def _signature(key: int, day: int) -> str:
    said = f"ofrep-events:{key}:{day}".encode()
    return hmac.new(settings.SECRET_KEY.encode(), said, hashlib.sha256).hexdigest()


def _refused(problem: Problem, headers: tuple[tuple[bytes, bytes], ...]) -> Response:
    if problem.retry_after_s is not None:
        headers += ((b"retry-after", str(max(1, round(problem.retry_after_s))).encode()),)
    return Response(problem.status, orjson.dumps({"errorDetails": problem.detail}), (JSON, *headers))


def _cors(request: Request) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that let a page of an allowed origin ask and read the answer."""
    origin = request.headers.get(b"origin", b"")
    allowed: list[str] = settings.OFREP_ORIGINS
    if not origin or not ("*" in allowed or origin.decode("latin-1") in allowed):
        return ()
    return (
        (b"access-control-allow-origin", origin),
        (b"vary", b"origin"),
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", _HEADERS),
        (b"access-control-expose-headers", b"etag, retry-after"),
        (b"access-control-max-age", b"600"),
    )
