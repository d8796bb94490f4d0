"""What a span says of itself in words, worked out once for all spans that say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controlplane.telemetry.otlp.attributes import Word
from controlplane.telemetry.otlp.vocabulary import (
    AGENT,
    DECISION,
    ENTITY,
    MODEL,
    PROVIDER,
    REFUSED,
    RELEASE,
    ROUTE,
    TOOL,
    operation_of,
    provider_of,
)

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


_Words = tuple[Word, ...]
_known: dict[tuple[_Words, _Words], Facts] = {}


def facts_of(resource: _Words, words: _Words) -> Facts:
    """Return the facts of a span that says ``words``, of a resource that says some for all its spans."""
    found = _known.get((resource, words))
    if found is None:
        if len(_known) >= _MOST:
            _known.clear()
        found = _known[resource, words] = _made({**{word.slot: word.said for word in resource}, **_heeded(words)})
    return found


def _heeded(words: _Words) -> dict[int, str]:
    """Return what counts by slot: the last that was said under the name of the lowest rank."""
    ranks: dict[int, int] = {}
    heeded: dict[int, str] = {}
    for word in words:
        if word.rank <= ranks.get(word.slot, word.rank):
            ranks[word.slot] = word.rank
            heeded[word.slot] = word.said
    return heeded


def _made(said: Mapping[int, str]) -> Facts:
    operation, refused = operation_of(said), said.get(REFUSED)
    return Facts(
        operation[:64],
        provider_of(said.get(PROVIDER, ""))[:64],
        said.get(MODEL, "")[:120],
        said.get(ROUTE, "")[:64],
        said.get(RELEASE, "")[:64],
        (f"refused: {refused}" if refused else said.get(DECISION, ""))[:64],
        _named(said, AGENT, entity=operation == "invoke_agent"),
        _named(said, TOOL, entity=operation == "execute_tool"),
    )


def _named(said: Mapping[int, str], slot: int, *, entity: bool) -> str:
    return (said.get(slot) or (said.get(ENTITY, "") if entity else ""))[:120]
