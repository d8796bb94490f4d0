"""What a guarded reply costs, as it comes: whole, or in pieces of a stream."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from tidegate.call import Call
from tidegate.core.asking import tokens_of
from tidegate.core.usage import read_usage

_CARRIED = ("model", "modelVersion", "model_version", "service_tier", "speed")
_USAGE = ("usage", "usageMetadata", "usage_metadata")
_INSIDE = ("response", "message")  # where events of a stream have the reply


def member(holder: Any, name: str) -> Any:
    """Return a key of a mapping or an attribute of an object, ``None`` when there is none."""
    if isinstance(holder, Mapping):
        return holder.get(name)
    return getattr(holder, name, None)


def plain(value: Any) -> Any:
    """Return an object of a client library as plain data."""
    dump = getattr(value, "model_dump", None) or getattr(value, "to_dict", None)
    return dump() if callable(dump) else value


def usage_document(reply: Any) -> dict[str, Any]:
    """Return what a reply, or an event of a stream, says of its usage, as ``read_usage`` takes it; empty when it says nothing."""
    for holder in (reply, *(member(reply, name) for name in _INSIDE)):
        for name in _USAGE:
            said = member(holder, name) if holder is not None else None
            counts = plain(said) if said is not None else None
            if isinstance(counts, Mapping):
                carried = {key: member(holder, key) for key in _CARRIED}
                return {**{key: value for key, value in carried.items() if isinstance(value, str)}, name: dict(counts)}
    return {}


class Meter:
    """Tells a call what its reply used. ``provider`` is the price list's name of who answered, where the model's maker did not."""

    def __init__(self, call: Call, provider: str | None = None) -> None:
        self._call = call
        self._provider = provider
        self._told: dict[str, Any] = {}
        self._begun = False  # a message of Anthropic's has begun and not said yet what it came to
        self.text_tokens = 0  # of a stream so far, about

    def reply(self, reply: Any) -> None:
        """Record a whole reply."""
        document = usage_document(reply)
        if not document and callable(getattr(reply, "parse", None)):  # a raw response of a client library
            with contextlib.suppress(Exception):  # it is no reply of a known kind: whoever called gets to see it anyway
                document = usage_document(reply.parse())
        self._told = document
        self.finish()

    def snapshot(self, reply: Any) -> None:
        """Take what a reply that is not complete yet says of its usage so far."""
        self._told = usage_document(reply) or self._told

    def event(self, event: Any) -> None:
        """Take a piece of a stream; raises ``BudgetExhausted`` when the call is to be cut."""
        kind = member(event, "type")
        if kind in ("message_start", "message_delta"):
            self._begun = kind == "message_start"
        document = usage_document(event)
        for name, value in document.items():
            known = self._told.get(name)
            if isinstance(known, dict) and isinstance(value, dict):
                known.update({key: count for key, count in value.items() if count is not None})
            else:
                self._told[name] = value
        self.text(_text_of(event))

    def text(self, came: str) -> None:
        """Take some text of a stream; raises ``BudgetExhausted`` when the call is to be cut."""
        if came:
            self.text_tokens += tokens_of(came)
            self._call.progress(output_tokens=self.text_tokens)

    def finish(self, *, complete: bool = True) -> None:
        """Record what was said of usage, if anything was; of a stream that was not read to its end, at least the output that came."""
        read = read_usage(self._told)
        if read is not None:
            if not complete or self._begun:  # a connection that breaks off need not raise anything
                read.usage["output"] = max(read.usage.get("output", 0), self.text_tokens)
            self._call.record_usage(read.usage, model=read.model, provider=self._provider, context=read.context)


def _text_of(event: Any) -> str:
    """Return the text that a piece of a stream brings, whoever's stream it is."""
    delta = member(event, "delta")
    if isinstance(delta, str):  # OpenAI's responses
        return delta
    if delta is not None:  # Anthropic's messages
        parts = [member(delta, name) for name in ("text", "thinking", "partial_json")]
        return "".join(part for part in parts if isinstance(part, str))
    return "".join(_choice_text(choice) for choice in member(event, "choices") or ()) or _candidates_text(event)


def _choice_text(choice: Any) -> str:
    delta = member(choice, "delta")
    parts = [member(delta, name) for name in ("content", "reasoning_content", "refusal")] + [member(choice, "text")]
    parts += [member(member(tool, "function"), "arguments") for tool in member(delta, "tool_calls") or ()]
    return "".join(part for part in parts if isinstance(part, str))


def _candidates_text(event: Any) -> str:  # Gemini's
    candidates = member(event, "candidates") or ()
    parts = [part for each in candidates for part in member(member(each, "content"), "parts") or ()]
    return "".join(text for part in parts if isinstance(text := member(part, "text"), str))
