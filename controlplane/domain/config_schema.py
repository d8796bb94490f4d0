"""The part of JSON Schema (2020-12) that releases' configs are checked by. Keywords not understood are refused, not ignored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": lambda value: _is_number(value) and value == int(value),
}
_WORDS = {"$schema", "$id", "$comment", "title", "description", "default", "examples"}
_BOUNDS: Mapping[str, tuple[str, Callable[[Any, Any], bool], str]] = {
    "minimum": ("number", lambda value, bound: value >= bound, "must be at least {}"),
    "maximum": ("number", lambda value, bound: value <= bound, "must be at most {}"),
    "exclusiveMinimum": ("number", lambda value, bound: value > bound, "must be above {}"),
    "exclusiveMaximum": ("number", lambda value, bound: value < bound, "must be below {}"),
    "minLength": ("string", lambda value, bound: len(value) >= bound, "must have at least {} characters"),
    "maxLength": ("string", lambda value, bound: len(value) <= bound, "must have at most {} characters"),
    "minItems": ("array", lambda value, bound: len(value) >= bound, "must have at least {} items"),
    "maxItems": ("array", lambda value, bound: len(value) <= bound, "must have at most {} items"),
}
KEYWORDS = {"type", "enum", "const", "properties", "required", "additionalProperties", "items", *_BOUNDS, *_WORDS}


def schema_faults(schema: Any, where: str = "schema") -> dict[str, str]:
    """Return what is wrong with a schema, by the path of the keyword."""
    if isinstance(schema, bool):
        return {}
    if not isinstance(schema, dict):
        return {where: "must be an object or a truth value"}
    known = f"is not supported; known are {', '.join(sorted(KEYWORDS))}"
    faults = {f"{where}.{name}": known for name in schema if name not in KEYWORDS}
    faults |= _keyword_faults(schema, where)
    properties = schema.get("properties", {})
    if isinstance(properties, dict):
        for name, each in properties.items():
            faults |= schema_faults(each, f"{where}.properties.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            faults |= schema_faults(schema[name], f"{where}.{name}")
    return faults


def _keyword_faults(schema: dict[str, Any], where: str) -> dict[str, str]:
    faults = {}
    kinds = schema.get("type", [])
    named = kinds if isinstance(kinds, list) else [kinds]
    if not all(isinstance(kind, str) and kind in _TYPES for kind in named):
        faults[f"{where}.type"] = f"must be one of {', '.join(_TYPES)}, or a list of them"
    if not isinstance(schema.get("properties", {}), dict):
        faults[f"{where}.properties"] = "must be an object"
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        faults[f"{where}.required"] = "must be a list of names"
    if not isinstance(schema.get("enum", []), list):
        faults[f"{where}.enum"] = "must be a list"
    faults |= {
        f"{where}.{name}": "must be a number" for name in _BOUNDS if name in schema and not _is_number(schema[name])
    }
    return faults


def config_faults(value: Any, schema: Any, where: str = "config") -> dict[str, str]:
    """Return where ``value`` does not fit a schema that has no faults of its own."""
    if isinstance(schema, bool):
        return {} if schema else {where: "is not allowed"}
    fault = _own_fault(value, schema)
    if fault is not None:
        return {where: fault}
    if isinstance(value, dict):
        return _object_faults(value, schema, where)
    faults: dict[str, str] = {}
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            faults |= config_faults(item, schema["items"], f"{where}[{number}]")
    return faults


def _own_fault(value: Any, schema: dict[str, Any]) -> str | None:
    kinds = schema.get("type", [])
    named: list[str] = kinds if isinstance(kinds, list) else [kinds]
    if named and not any(_TYPES[kind](value) for kind in named):
        return f"must be of type {' or '.join(named)}"
    if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
        return f"must be one of {', '.join(map(repr, schema['enum']))}"
    if "const" in schema and not _same(value, schema["const"]):
        return f"must be {schema['const']!r}"
    for name, (kind, fits, text) in _BOUNDS.items():
        if name in schema and _TYPES[kind](value) and not fits(value, schema[name]):
            return text.format(schema[name])
    return None


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _object_faults(value: dict[str, Any], schema: dict[str, Any], where: str) -> dict[str, str]:
    properties = schema.get("properties", {})
    faults = {f"{where}.{name}": "is missing" for name in schema.get("required", []) if name not in value}
    rest = schema.get("additionalProperties", True)
    for name, each in value.items():
        if name in properties:
            faults |= config_faults(each, properties[name], f"{where}.{name}")
        elif rest is False:
            faults[f"{where}.{name}"] = "is not known here"
        elif isinstance(rest, dict):
            faults |= config_faults(each, rest, f"{where}.{name}")
    return faults
