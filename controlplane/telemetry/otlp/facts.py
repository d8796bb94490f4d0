"""What a span says of itself in words, worked out once for all spans that say the same."""

from __future__ import annotations

from typing import NamedTuple

from controlplane.telemetry.otlp.vocabulary import (
    AGENT,
    DECISION,
    ENTITY,
    MODEL,
    OI_KIND,
    OPERATION,
    PROVIDER,
    REFUSED,
    RELEASE,
    REQUEST_TYPE,
    ROUTE,
    TOOL,
    TRACELOOP_KIND,
    operation_of,
    provider_of,
)  # fmt: skip

FACTS = (
    OPERATION, OI_KIND, TRACELOOP_KIND, REQUEST_TYPE, ENTITY, PROVIDER, MODEL, ROUTE, RELEASE, DECISION, REFUSED, AGENT, TOOL,
)  # fmt: skip
_MOST = 20_000


class Facts(NamedTuple):
    """Columns of a span, cut to their lengths. ``operation`` is empty where only its tokens can tell what it is."""

    operation: str
    provider: str
    model: str
    route: str
    release: str
    decision: str
    agent: str
    tool: str


_known: dict[tuple[str | None, ...], Facts] = {}


def facts_of(said: tuple[str | None, ...]) -> Facts:
    """Return the facts of a span that says ``said`` in the places of ``FACTS``."""
    found = _known.get(said)
    if found is None:
        if len(_known) >= _MOST:
            _known.clear()
        found = _known[said] = _made({slot: text for slot, text in zip(FACTS, said, strict=True) if text is not None})
    return found


def _made(said: dict[int, str]) -> Facts:
    operation, refused = operation_of(said), said.get(REFUSED)
    return Facts(
        operation,
        provider_of(said.get(PROVIDER, ""))[:64],
        said.get(MODEL, "")[:120],
        said.get(ROUTE, "")[:64],
        said.get(RELEASE, "")[:64],
        (f"refused: {refused}" if refused else said.get(DECISION, ""))[:64],
        _named(said, AGENT, entity=operation == "invoke_agent"),
        _named(said, TOOL, entity=operation == "execute_tool"),
    )


def _named(said: dict[int, str], slot: int, *, entity: bool) -> str:
    return (said.get(slot) or (said.get(ENTITY, "") if entity else ""))[:120]
