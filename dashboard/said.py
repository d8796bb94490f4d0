"""What was said to a model and by it, as people read it: who spoke, and what, out of any of the forms that it is recorded in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

MOST_TURNS = 200
_WHAT = {"tool_call": "calls", "tool_call_response": "answers", "tool_use": "calls", "tool_result": "answers", "function_call": "calls"}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Text, or what was done instead: ``what`` is "calls", "answers" or the kind of the part, ``name`` the tool's."""

    text: str
    what: str = ""
    name: str = ""


@dataclass(frozen=True)
class Turn:
    role: str
    parts: list[Part]
    ended: str = ""


def turns_of(content: str) -> list[Turn]:
    """Return the turns of a recorded message; none when it is not in a form that is known: then it is shown as it is."""
    try:
        document = orjson.loads(content)
        spoken = document if isinstance(document, list) else [document]
        turns = [_turn(each) for each in spoken[:MOST_TURNS]]
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # no JSON, or nested too deeply to be written again
        return []
    known = [turn for turn in turns if turn is not None]
    return known if known and len(known) == len(turns) else []


def _turn(said: Any) -> Turn | None:
    if not isinstance(said, Mapping):
        return None
    inside = said.get("message")
    said = inside if isinstance(inside, Mapping) else said
    role = said.get("role")
    if not isinstance(role, str):
        return None
    found = said.get("parts", said.get("content"))
    parts = [_part(each) for each in (found if isinstance(found, list) else [found]) if each not in (None, "")]
    calls = said.get("tool_calls")
    parts += [_part({**each, "type": "tool_call"}) for each in (calls if isinstance(calls, list) else []) if isinstance(each, Mapping)]  # fmt: skip
    return Turn(role[:40], parts, str(said.get("finish_reason") or "")[:40])


def _part(part: Any) -> Part:
    if not isinstance(part, Mapping):
        return Part(_text(part))
    kind = str(part.get("type") or "text")
    called = part.get("function")
    inner = called if isinstance(called, Mapping) else part
    if kind in _WHAT:
        told = next(
            (inner[name] for name in ("arguments", "input", "response", "result", "content") if name in inner), ""
        )
        return Part(_text(told), _WHAT[kind], str(inner.get("name") or ""))
    text = next((part[name] for name in ("content", "text") if name in part), None)
    plain = kind in ("text", "input_text", "output_text")
    return Part(_text(part if text is None else text), "" if plain else kind[:40])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
