"""``POST /ofrep/v1/evaluate/flags[/{key}]``: releases for any OpenFeature OFREP provider, by an SDK key.

Answered from the snapshot in memory; docs/rollouts.md, "OpenFeature". One evaluation counts nowhere: programs that are to be
compared use the SDK.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import NamedTuple

import orjson
from django.conf import settings

from controlplane.edge.http import JSON, Request, Response
from controlplane.edge.mirror import Head, Key, Mirror
from controlplane.problems import Problem, TooLarge
from tidegate.core.ofrep import MAX_BODY, PATH, Answer, Context, Refusal, evaluate, evaluate_all, read_context
from tidegate.core.policy import Snapshot, compile_snapshot

MAX_COMPILED = 256
_HEADERS = b"authorization, x-api-key, if-none-match, content-type"


class _Compiled(NamedTuple):
    snapshot: Snapshot
    version: str  # of what it says of deployments


class Ofrep:
    """The evaluation of one edge process, with the snapshots that it has compiled."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._compiled: OrderedDict[str, _Compiled] = OrderedDict()

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
        head = self._mirror.head_now(key.scope_id) or await self._mirror.head_of(key.scope_id)
        compiled = self._of(head)
        context = _within(read_context(await request.body(limit=MAX_BODY)), key)
        if flag:
            return evaluate(compiled.snapshot, flag, context)
        known = request.headers.get(b"if-none-match", b"").decode("latin-1")
        return evaluate_all(compiled.snapshot, context, known=known, version=compiled.version)

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
        (b"access-control-allow-methods", b"POST"),
        (b"access-control-allow-headers", _HEADERS),
        (b"access-control-expose-headers", b"etag, retry-after"),
        (b"access-control-max-age", b"600"),
    )
