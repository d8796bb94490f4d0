"""Patterns for names: clauses as a price book carries them, compiled into functions. Names are compared in lower case.

A clause is text (equals), or an object of one key: ``starts_with``, ``ends_with``, ``contains``, ``regex`` (found anywhere), ``or``,
``and`` (lists of clauses).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Matcher = Callable[[str], bool]

MAX_DEPTH = 8
_UNBOUNDED = re.compile(r"(?<!\\)(?:[*+]|\{\d*,\})")
_BACKREFERENCE = re.compile(r"\\[1-9]|\(\?P=")
_REPEATED_GROUP = re.compile(r"(?<!\\)\)(?:[*+]|\{)")


def compile_clause(clause: Any, where: str, depth: int = 0) -> Matcher:
    """Return the function of a clause; ``ValueError`` says where it is not one."""
    if isinstance(clause, str):
        return clause.lower().__eq__
    if not isinstance(clause, dict) or len(clause) != 1 or depth > MAX_DEPTH:
        raise ValueError(f"{where}: is not a clause.")
    ((kind, said),) = clause.items()
    if kind in ("or", "and") and isinstance(said, list):
        parts = [compile_clause(part, f"{where}.{kind}", depth + 1) for part in said]
        return (lambda name: any(part(name) for part in parts)) if kind == "or" else (
            lambda name: all(part(name) for part in parts)
        )  # fmt: skip
    if not isinstance(said, str):
        raise ValueError(f"{where}.{kind}: is not a clause.")
    return _text_matcher(kind, said, where)


def _text_matcher(kind: str, said: str, where: str) -> Matcher:
    text = said.lower()
    if kind == "starts_with":
        return lambda name: name.startswith(text)
    if kind == "ends_with":
        return lambda name: name.endswith(text)
    if kind == "contains":
        return lambda name: text in name
    if kind == "regex":
        fault = regex_fault(said)
        if fault:
            raise ValueError(f"{where}.regex: {fault}.")
        found = re.compile(said).search
        return lambda name: found(name) is not None
    raise ValueError(f"{where}: {kind!r} is not a kind of clause.")


def regex_fault(pattern: str) -> str | None:
    """Return why a pattern must not be run on other people's text: only those that take linear or quadratic time may."""
    if len(pattern) > 200:
        return "is longer than 200 characters"
    if _BACKREFERENCE.search(pattern):
        return "refers back to a group"
    if _REPEATED_GROUP.search(pattern):
        return "repeats a group"
    if len(_UNBOUNDED.findall(pattern)) > 2:
        return "has more than two unbounded repetitions"
    try:
        re.compile(pattern)
    except re.error as error:
        return f"is not a regular expression: {error}"
    return None
