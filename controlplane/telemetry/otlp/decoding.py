"""What the decoders of all signals share: who sent it, what may be kept of it, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from controlplane.problems import Problem
from controlplane.telemetry.otlp.attributes import Attribute, Word
from controlplane.telemetry.redaction import Redactor
from controlplane.telemetry.schemas import MessageRow

Row = TypeVar("Row")
Pricer = Callable[[str, int, int, int], int | None]  # model, input, cached and output tokens; nano-USD or no price
_HEX = frozenset("0123456789abcdef")
LATEST_NS = 4_102_444_800 * 10**9  # the year 2100


class BadRequest(Problem):
    """The body is no export request."""


class Reading(NamedTuple):
    """What the edge knows. ``tenant_of`` maps the tenant that a record claims; ``redactor_of`` is ``None`` for tenants whose
    messages are not kept; ``price_of`` is asked for what an inference costs that does not say it itself. What says that it happens at
    ``until_ns`` or later, in nanoseconds since 1970, can't be true, and would stay on top of every list."""

    tenant_of: Callable[[str], str]
    redactor_of: Callable[[str], Redactor | None] = lambda _: None
    price_of: Pricer = lambda *_: None
    until_ns: int = LATEST_NS


@dataclass(slots=True)
class Decoded(Generic[Row]):
    """The rows of a request, what was said in them, and how many records can't be kept, with the last reason."""

    rows: list[Row] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)
    rejected: int = 0
    reason: str = ""

    def reject(self, reason: str, count: int = 1) -> None:
        self.rejected += count
        self.reason = reason


class Said:
    """What was said in the records of a request, by who masks it: all of it at once, when the request has been read."""

    def __init__(self) -> None:
        self._heads: dict[Redactor, list[tuple[int, str, str, str, str]]] = {}
        self._texts: dict[Redactor, list[str]] = {}

    def add(
        self,
        redactor: Redactor,
        starts_us: int,
        trace_id: str,
        span_id: str,
        tenant: str,
        said: Iterable[tuple[str, Any]],
    ) -> None:
        """Take what was said under names in one record."""
        heads, texts = self._heads.setdefault(redactor, []), self._texts.setdefault(redactor, [])
        for name, value in said:
            heads.append((starts_us, trace_id, span_id, name[:200], tenant))
            texts.append(value if isinstance(value, str) else orjson.dumps(value).decode())

    def masked(self) -> list[MessageRow]:
        """Return the rows."""
        return [
            MessageRow(*head, text)
            for redactor, heads in self._heads.items()
            for head, text in zip(heads, redactor.every(self._texts[redactor]), strict=True)
        ]


class Origin(NamedTuple):
    """The resource of a group of records, read once. ``said`` is by slot of the vocabulary, ``words`` are part of it; ``alone``: its
    instance names one process."""

    service: str
    instance: str
    json: bytes
    said: dict[int, Any]
    alone: bool = False
    words: tuple[Word, ...] = ()

    @classmethod
    def of(cls, attributes: Iterable[Attribute]) -> Origin:
        """Return the origin of a resource with these attributes."""
        named: dict[str, Any] = {}
        said: dict[int, Any] = {}
        kept: list[bytes] = []
        words: list[Word] = []
        for attribute in attributes:
            kept.append(attribute.json)
            named[attribute.key] = attribute.value
            if attribute.slot:
                said[attribute.slot] = attribute.said
            if attribute.word is not None:
                words.append(attribute.word)
        service = str(named.get("service.name") or "")[:120]
        instance = named.get("service.instance.id") or named.get("host.name") or named.get("k8s.pod.name") or ""
        alone = bool(named.get("service.instance.id"))
        return cls(service, str(instance)[:120], b"{" + b",".join(kept) + b"}", said, alone, tuple(words))


def hex_id(text: str, length: int) -> bool:
    """Return whether ``text`` is an id of that many lower-case hex digits, not all zero."""
    return len(text) == length and not names_nothing(text) and _HEX.issuperset(text)


def hex_of(value: Any) -> str:
    """Return an id out of JSON in lower case; what is not hex is too short to be one."""
    text = str(value or "").lower()
    return text if _HEX.issuperset(text) else "?"


def names_nothing(text: str) -> bool:
    return not text.strip("0")
