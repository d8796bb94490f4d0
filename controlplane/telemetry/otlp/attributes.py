"""Attributes out of either encoding of OTLP, each made ready once: as JSON for the table, and by its place in the vocabulary.

Most attributes of a batch are those of the span before. So an attribute is looked up by the bytes that it came in, and only
what was never seen is decoded: the walk over attributes, not the parse, is what an ingest costs.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from controlplane.telemetry.otlp.vocabulary import NAMES, NUMBERS, WORDS, is_message
from controlplane.telemetry.otlp.wire import LEN, VARINT, Malformed, fields, varint

MAX_VALUE = 8_192  # characters of an attribute's text
MAX_MESSAGE = 65_536  # characters of a prompt or a reply, where they are kept
MAX_KEY = 256
MAX_DEPTH = 8
MAX_ITEMS = 256  # of a list or a map
_CACHED = 20_000
_CACHED_SIZE = 256
_DOUBLE = struct.Struct("<d").unpack_from
_LINE = 0x7FFF_FFFF_FFFF_FFFF


class Word:
    """What an attribute says in a place of the vocabulary that columns are made of. There is one for all that say the same, known by itself."""

    __slots__ = ("rank", "said", "slot")

    def __init__(self, slot: int, rank: int, said: str) -> None:
        self.slot = slot
        self.rank = rank
        self.said = said


class Attribute(NamedTuple):
    """One attribute. ``json`` is ``"key":value``; ``slot`` and ``rank`` place it in the vocabulary (slot 0: nowhere, or it says nothing).

    ``said`` is the value as the vocabulary takes it: as text, where it is no number. ``cut`` is the length that a text had before it was cut, else 0. ``message`` marks what people or models said.
    ``word`` is the same as ``slot``, ``rank`` and ``said`` in the places that columns are made of.
    """

    key: str
    json: bytes
    slot: int
    rank: int
    value: Any
    cut: int
    message: bool
    said: Any
    word: Word | None


_new = tuple.__new__  # what a NamedTuple does in the end, without its constructor
known_attributes: dict[bytes, Attribute] = {}  # by their bytes
_by_json: dict[tuple[str, str, Any, type], Attribute] = {}


def from_wire(raw: bytes) -> Attribute:
    """Return the attribute of a serialised ``KeyValue``; ``Malformed`` when it is none."""
    found = known_attributes.get(raw)
    if found is None:
        found = _plain(raw) or made(*_pair(raw, 0, len(raw), 0))
        if len(raw) <= _CACHED_SIZE:
            if len(known_attributes) >= _CACHED:
                known_attributes.clear()
            known_attributes[raw] = found
    return found


def _plain(raw: bytes) -> Attribute | None:
    """Return the attribute in the form that nearly all have: a short key, then a text or a small number."""
    try:
        end = raw[1] + 2
        if raw[0] != 10 or raw[1] > 127 or raw[end] != 18:
            return None
        size, at = raw[end + 1], end + 2
        if size > 127:
            size, at = varint(raw, end + 1)
        if at + size != len(raw):
            return None
        key = raw[2:end]
        name = _names.get(key) or _name(key)
        kind = raw[at]
        if kind == 10:
            if raw[at + 1] == size - 2 and size < 130:
                value: Any = raw[at + 2 :].decode("utf-8", "replace")
            else:
                value = _long_text(raw, at + 1, MAX_MESSAGE if name.message else MAX_VALUE)
            if value is None or "\x00" in value:
                return None
        elif kind == 24 and size <= 8:
            value, stop = varint(raw, at + 1)
            if stop != len(raw):
                return None
        else:
            return None
    except IndexError:
        return None
    slot = name.slot
    says = value if not slot else _said(slot, value)
    ready = (
        name.key,
        name.json + orjson.dumps(value),
        0 if says is None else slot,
        name.rank,
        value,
        0,
        name.message,
        says,
        None if says is None or slot not in WORDS else _word(slot, name.rank, says),
    )
    return _new(Attribute, ready)


def _long_text(raw: bytes, at: int, most: int) -> str | None:
    """Return the text whose length is at ``at`` when it goes to the end and is not too long to be kept as it is."""
    size, at = varint(raw, at)
    return raw[at:].decode("utf-8", "replace") if at + size == len(raw) and size <= most else None


class _Name(NamedTuple):
    key: str
    json: bytes
    slot: int
    rank: int
    message: bool


_names: dict[bytes | str, _Name] = {}


def _name(raw: bytes | str) -> _Name:
    """Return what is known of a key, in UTF-8 or as text."""
    found = _names.get(raw)
    if found is None:
        key = clean(raw if isinstance(raw, str) else raw.decode("utf-8", "replace"))[:MAX_KEY]
        if len(_names) >= _CACHED:
            _names.clear()
        found = _names[raw] = _Name(key, orjson.dumps(key) + b":", *NAMES.get(key, (0, 0)), is_message(key))
    return found


_words: dict[tuple[int, int, str], Word] = {}


def _word(slot: int, rank: int, said: str) -> Word:
    found = _words.get((slot, rank, said))
    if found is None:
        if len(_words) >= _CACHED:
            _words.clear()
        found = _words[slot, rank, said] = Word(slot, rank, said)
    return found


def from_json(pair: Mapping[str, Any]) -> Attribute:
    """Return the attribute of a ``KeyValue`` in JSON. ``KeyError``, ``TypeError``, ``ValueError`` when it is none."""
    key = pair["key"]
    for kind, content in (pair.get("value") or {}).items():
        if content.__class__ is not str and content.__class__ is not bool and content.__class__ is not int:
            break
        place = (key, kind, content, content.__class__)  # 1 and True are equal
        found = _by_json.get(place)
        if found is None:
            found = made(str(key), json_value({kind: content}))
            if content.__class__ is not str or len(str(content)) <= _CACHED_SIZE:
                if len(_by_json) >= _CACHED:
                    _by_json.clear()
                _by_json[place] = found
        return found
    return made(str(key), json_value(pair.get("value") or {}))


def made(key: str, value: Any) -> Attribute:
    """Return the attribute of a key and a plain value."""
    name = _name(key)
    value, cut = _capped(value, MAX_MESSAGE if name.message else MAX_VALUE)
    said = _said(name.slot, value)
    slot = 0 if said is None else name.slot
    word = _word(slot, name.rank, said) if slot in WORDS else None
    return Attribute(name.key, name.json + dumps(value), slot, name.rank, value, cut, name.message, said, word)


def _said(slot: int, value: Any) -> Any:
    """Return what a value says in its place of the vocabulary; ``None`` for nothing."""
    if value is None or value == "" or value is False:
        return None
    return value if not slot or slot in NUMBERS else str(value)


def dumps(value: Any) -> bytes:
    """Return JSON; whole numbers beyond 64 bits as text."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(str(value)[:MAX_VALUE])


def _capped(value: Any, most: int) -> tuple[Any, int]:
    if value.__class__ is str:
        return (value, 0) if len(value) <= most else (f"{value[:most]}…", len(value))
    if value.__class__ is list or value.__class__ is dict:
        text = dumps(value)
        if len(text) > most:
            return f"{text[:most].decode('utf-8', 'ignore')}…", len(text)
    return value, 0


def clean(text: str) -> str:
    """Return text that PostgreSQL can keep: without NUL."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def _finite(value: float) -> Any:
    return value if math.isfinite(value) else str(value)


# Protobuf.


def _text(data: bytes) -> str:
    return clean(data.decode("utf-8", "replace"))


def _pair(data: bytes, start: int, end: int, depth: int) -> tuple[str, Any]:
    key, value = "", None
    for number, kind, begin, stop in fields(data, start, end):
        if number == 1 and kind == LEN:
            key = _text(data[begin:stop])
        elif number == 2 and kind == LEN:
            value = wire_value(data, begin, stop, depth)
    return key, value


def wire_value(data: bytes, start: int, end: int, depth: int = 0) -> Any:
    """Return the plain value of a serialised ``AnyValue``; what is nested too deeply is left out, and says so."""
    found: Any = None
    if depth > MAX_DEPTH:
        return _DEEP
    for number, kind, begin, stop in fields(data, start, end):
        if kind == LEN:
            found = _long_value(data, number, begin, stop, depth)
        elif number == 2 and kind == VARINT:
            found = bool(begin)
        elif number == 3 and kind == VARINT:
            found = begin if begin <= _LINE else begin - (1 << 64)
        elif number == 4:
            found = _finite(_DOUBLE(data, begin)[0])
    return found


def _long_value(data: bytes, number: int, start: int, end: int, depth: int) -> Any:
    if number == 1:
        return _text(data[start:end])
    if number == 7:
        return data[start:end].hex()
    inner = [(begin, stop) for field, kind, begin, stop in fields(data, start, end) if field == 1 and kind == LEN]
    if number == 5:
        return _listed([wire_value(data, begin, stop, depth + 1) for begin, stop in inner[:MAX_ITEMS]], len(inner))
    if number == 6:
        return _mapped(dict(_pair(data, begin, stop, depth + 1) for begin, stop in inner[:MAX_ITEMS]), len(inner))
    return None


_DEEP = "…"


def _listed(items: list[Any], count: int) -> list[Any]:
    return items if count <= MAX_ITEMS else [*items, f"… {count - MAX_ITEMS} more"]


def _mapped(pairs: dict[str, Any], count: int) -> dict[str, Any]:
    return pairs if count <= MAX_ITEMS else {**pairs, _DEEP: f"{count - MAX_ITEMS} more"}


# JSON.


def json_value(value: Mapping[str, Any], depth: int = 0) -> Any:
    """Return the plain value of an ``AnyValue`` in JSON."""
    if not value:
        return None
    if depth > MAX_DEPTH:
        return _DEEP
    kind, content = next(iter(value.items()))
    if kind == "stringValue":
        return clean(str(content))
    if kind == "intValue":
        return int(content)
    if kind == "doubleValue":
        return _finite(float(content))
    if kind == "arrayValue":
        items = content.get("values") or []
        return _listed([json_value(item, depth + 1) for item in items[:MAX_ITEMS]], len(items))
    if kind == "kvlistValue":
        pairs = content.get("values") or []
        found = {clean(str(pair["key"])): json_value(pair.get("value") or {}, depth + 1) for pair in pairs[:MAX_ITEMS]}
        return _mapped(found, len(pairs))
    if kind == "bytesValue":
        return base64.b64decode(str(content)).hex()  # as out of protobuf
    return clean(content) if isinstance(content, str) else content if isinstance(content, bool) else None


__all__ = [
    "Attribute",
    "Malformed",
    "clean",
    "dumps",
    "from_json",
    "from_wire",
    "json_value",
    "known_attributes",
    "made",
    "wire_value",
]
