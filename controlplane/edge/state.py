"""``POST /sdk/v1/state/ops``: operations on state, each by itself. ``GET /sdk/v1/state/changes``: what callers must forget.

``GET /sdk/v1/state/map``: the map of nodes and slots, versioned like the configuration.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import orjson
import structlog

from controlplane.domain import state as domain
from controlplane.edge.encoding import read_body
from controlplane.edge.http import JSON, Request, Response
from controlplane.edge.mirror import Key, Mirror
from controlplane.problems import Conflict, Forbidden, Invalid, Problem, TooLarge, Unavailable
from controlplane.state import schemas as wire
from controlplane.state.atlas import Atlas
from controlplane.state.changes import Changes, name_of
from controlplane.state.counts import Counts
from controlplane.state.stores.words import Memory, Space
from controlplane.state.tiers import Found, Tiers, VersionConflict, Written

log = structlog.get_logger(__name__)

MAX_BYTES = 16 * 1024 * 1024
_decoder = msgspec.json.Decoder(wire.Request)
_encoder = msgspec.json.Encoder()
_LINES = (
    (b"content-type", b"application/x-ndjson"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class State:
    """What one edge process knows of state, and its handlers."""

    def __init__(self, mirror: Mirror, atlas: Atlas, changes: Changes, counts: Counts) -> None:
        self._mirror = mirror
        self._atlas = atlas
        self._changes = changes
        self._counts = counts
        self._tiers = Tiers(atlas)

    async def ops(self, request: Request) -> Response:
        """Answer once every operation has been carried out, or refused by itself."""
        key = await self._mirror.key_of(request.headers.get(b"authorization"))
        said = parse(await read_body(request, limit=MAX_BYTES))
        await self._atlas.current()
        for hits in said.hits:
            self._counts.hits(_tenant(key, hits.tenant), hits.kind, hits.count)
        answers: list[wire.Answer] = [wire.Answer()] * len(said.ops)

        async def chain(numbers: list[int]) -> None:
            for number in numbers:
                answers[number] = await self._one(key, said.ops[number])

        chains = _by_owner(said.ops)
        if len(chains) == 1:
            await chain(chains[0])
        else:
            await asyncio.gather(*map(chain, chains))
        return Response(200, _encoder.encode(wire.Answers(answers)), (JSON,))

    async def _one(self, key: Key, op: wire.Op) -> wire.Answer:
        try:
            return await self._act(Space.of(_tenant(key, op.tenant), op.kind, op.owner), op)
        except VersionConflict as conflict:
            return wire.Answer(error=conflict.as_json(), version=conflict.current)
        except Problem as problem:
            return wire.Answer(error=problem.as_json())
        except Exception:
            log.exception("state.failed", op=type(op).__name__)
            return wire.Answer(error=Unavailable("Something went wrong here: try again.").as_json())

    async def _act(self, space: Space, op: wire.Op) -> wire.Answer:
        tiers = self._tiers
        match op:
            case wire.Get():
                return self._read(space, await tiers.read(space, op.keys))
            case wire.Set():
                return await self._written(space, op, tiers.put(space, op.key, _json(op.value), ttl_ms=op.ttl_ms))
            case wire.Delete():
                return await self._written(space, op, tiers.put(space, op.key, None))
            case wire.Cas():
                value, once = _json(op.value), _once(space, op.id)
                work = tiers.compare_and_set(space, op.key, value, expected=op.expected, ttl_ms=op.ttl_ms, op=once)
                return await self._written(space, op, work)
            case wire.Incr() | wire.Append():
                work = tiers.change(space, op.key, _change(op), ttl_ms=op.ttl_ms, op=_once(space, op.id))
                return await self._written(space, op, work)
            case wire.Erase():
                keys = await tiers.erase(space)
                self._changes.tell(space.tenant, name_of(space.tenant, space.kind, space.owner), 0)
                self._counts.write(space)
                return wire.Answer(result=keys)

    def _read(self, space: Space, found: Found) -> wire.Answer:
        self._counts.read(space, found.tiers)
        items = {
            key: wire.Read(msgspec.Raw(value.json), value.version, value.left_ms) for key, value in found.values.items()
        }
        return wire.Answer(items=items, memory=_memory(found.memory))

    async def _written(
        self, space: Space, op: wire.Set | wire.Delete | wire.Cas | wire.Incr | wire.Append, work: Awaitable[Written]
    ) -> wire.Answer:
        written = await work
        self._changes.tell(space.tenant, name_of(space.tenant, space.kind, space.owner, op.key), written.version)
        self._counts.write(space)
        existed = written.existed if isinstance(op, wire.Delete) else None
        memory = _memory(written.memory)
        return wire.Answer(version=written.version, result=written.result, existed=existed, memory=memory)

    async def changes(self, request: Request) -> Response:
        """Keep a line open on which the caller hears what has changed in its scope."""
        key = await self._mirror.key_of(request.headers.get(b"authorization"))

        def sees(tenant: str) -> bool:
            return key.tenants is None or tenant in key.tenants

        return Response(200, b"", _LINES, self._changes.lines(sees, scope=key.scope or ""))

    async def map(self, request: Request) -> Response:
        """Answer which node serves which slot, by names: the map that edges follow."""
        await self._mirror.key_of(request.headers.get(b"authorization"))
        now = await self._atlas.current()
        document: dict[str, Any] = {
            ring: {"version": now.versions[ring], "owners": [now.places[owner].name for owner in owners]}
            for ring, owners in now.owners.items()
        }
        body = orjson.dumps({"format": 1, "rings": document}, option=orjson.OPT_SORT_KEYS)
        etag = f'"{hashlib.sha256(body).hexdigest()}"'.encode()
        if request.headers.get(b"if-none-match") == etag:
            return Response(304, b"", ((b"etag", etag),))
        return Response(200, body, (JSON, (b"etag", etag)))


def parse(body: bytes) -> wire.Request:
    """Return the request in ``body``; ``Invalid`` says which field is wrong."""
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        raise Invalid(f"The operations are not valid: {error}.", errors={path.strip("`.") or "": text}) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"The operations are not JSON: {error}.") from None
    except RecursionError:
        raise Invalid("The operations are nested too deeply to be read.") from None


def _by_owner(ops: tuple[wire.Op, ...]) -> list[list[int]]:
    """Return the numbers of the operations, those of one owner together: they are carried out in order."""
    chains: dict[tuple[str | None, str, str], list[int]] = {}
    for number, op in enumerate(ops):
        chains.setdefault((op.tenant, op.kind, op.owner), []).append(number)
    return list(chains.values())


def _tenant(key: Key, claimed: str | None) -> str:
    """Return whose state is meant: the key's own scope without a claim; ``Forbidden`` for one beyond it."""
    if claimed is None:
        return key.scope or ""
    if key.tenants is not None and claimed not in key.tenants:
        raise Forbidden(f"This key may not touch the state of {claimed!r}.")
    return claimed


def _memory(memory: Memory | None) -> wire.MemoryLine | None:
    return wire.MemoryLine(*memory) if memory is not None else None


def _once(space: Space, op: str | None) -> str | None:
    """Return the name by which an operation is remembered: no tenant hears of another's."""
    return None if op is None else f"{space.tenant}:{op}"


def _json(value: msgspec.Raw) -> bytes:
    text = bytes(value)
    if len(text) > domain.MAX_VALUE:
        raise TooLarge(f"The value has {len(text):,} bytes of JSON, at most {domain.MAX_VALUE:,} are kept.")
    try:
        domain.check_value(text)
    except domain.NotReadable as error:
        raise Invalid(str(error)) from None
    return text


def _change(op: wire.Incr | wire.Append) -> Callable[[bytes | None], domain.Made]:
    def change(current: bytes | None) -> domain.Made:
        try:
            if isinstance(op, wire.Incr):
                return domain.add(current, op.by)
            return domain.append(current, _json(op.value), op.cap)
        except domain.TooMuch as error:
            raise TooLarge(str(error)) from None
        except domain.NotApplicable as error:
            raise Conflict(str(error)) from None

    return change
