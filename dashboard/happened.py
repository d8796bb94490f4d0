"""Events of a span as people read them: when, what, and of an exception its type, message and stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

_EXCEPTION = "exception."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Happened:
    """One event; ``after_us`` since its span began, ``None`` when nobody said when. ``kind``, ``message`` and ``stack`` are an exception's."""

    name: str
    after_us: int | None
    kind: str
    message: str
    stack: str
    plain: list[tuple[str, str]]

    @property
    def failed(self) -> bool:
        return bool(self.kind or self.message or self.stack)


def happened(events: Sequence[Any], since: datetime) -> list[Happened]:
    """Return the events of a span that began at ``since``; what is no event is left out."""
    return [_happened(event, since) for event in events if isinstance(event, Mapping)]


def _happened(event: Mapping[str, Any], since: datetime) -> Happened:
    found = event.get("attributes")
    attributes = {name: _text(value) for name, value in found.items()} if isinstance(found, Mapping) else {}
    kind, message, stack = (attributes.pop(_EXCEPTION + name, "") for name in ("type", "message", "stacktrace"))
    return Happened(str(event.get("name") or "event"), _after_us(event.get("at_ns"), since), kind, message, stack, sorted(attributes.items()))  # fmt: skip


def _after_us(at_ns: Any, since: datetime) -> int | None:
    if isinstance(at_ns, bool) or not isinstance(at_ns, int) or at_ns <= 0:
        return None
    return at_ns // 1000 - (since - _EPOCH) // timedelta(microseconds=1)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
