"""Operations on state as SDKs send them and are answered (docs/protocol.md, "State")."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from controlplane.domain.state import MAX_CAP, MAX_COUNT, MAX_NAME

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00]*$")]
TenantName = Annotated[str, Meta(max_length=64, pattern=r"^[^\x00:]*$")]
TtlMs = Annotated[int, Meta(ge=1, le=10 * 366 * 86_400_000)]
OpId = Annotated[str, Meta(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9-]*$")]


class _Op(msgspec.Struct, frozen=True, kw_only=True, tag_field="op"):
    kind: Literal["session", "user", "shared"]
    owner: Name
    tenant: TenantName | None = None


class Get(_Op, tag="get", frozen=True, kw_only=True):
    """Without ``keys``: all of them."""

    keys: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=1000)] | None = None


class Set(_Op, tag="set", frozen=True, kw_only=True):
    key: Name
    value: msgspec.Raw
    ttl_ms: TtlMs | None = None


class Delete(_Op, tag="delete", frozen=True, kw_only=True):
    key: Name


class Cas(_Op, tag="cas", frozen=True, kw_only=True):
    key: Name
    value: msgspec.Raw
    expected: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    ttl_ms: TtlMs | None = None
    id: OpId | None = None


class Incr(_Op, tag="incr", frozen=True, kw_only=True):
    key: Name
    by: Annotated[int, Meta(ge=-MAX_COUNT, le=MAX_COUNT)] = 1
    ttl_ms: TtlMs | None = None
    id: OpId | None = None


class Append(_Op, tag="append", frozen=True, kw_only=True):
    key: Name
    value: msgspec.Raw
    cap: Annotated[int, Meta(ge=1, le=MAX_CAP)] = 100
    ttl_ms: TtlMs | None = None
    id: OpId | None = None


class Erase(_Op, tag="erase", frozen=True, kw_only=True):
    """Everything that the owner has."""


Op = Get | Set | Delete | Cas | Incr | Append | Erase


class Hits(msgspec.Struct, frozen=True, kw_only=True):
    """Reads that a caller answered from its own memory since it last said so."""

    kind: Literal["session", "user", "shared"]
    count: Annotated[int, Meta(ge=0, le=2**40)]
    tenant: TenantName | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    ops: Annotated[tuple[Op, ...], Meta(max_length=256)]
    hits: Annotated[tuple[Hits, ...], Meta(max_length=1000)] = ()


class Read(msgspec.Struct, frozen=True):
    """A value, its version, and the ms until it expires."""

    v: msgspec.Raw
    n: int
    left_ms: int | None = None


class MemoryLine(msgspec.Struct, frozen=True):
    generation: int
    since_ms: int
    durable: bool
    ended_ms: int = 0


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one operation; ``error`` is a problem document, and then nothing else is set but ``version``."""

    items: dict[str, Read] | None = None
    memory: MemoryLine | None = None
    version: int | None = None
    result: int | None = None
    existed: bool | None = None
    error: dict[str, object] | None = None


class Answers(msgspec.Struct, frozen=True):
    answers: list[Answer]
