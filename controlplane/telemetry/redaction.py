"""Redaction of prompts and replies before they are stored: what looks like a secret or like a person's data is masked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from re import _parser  # type: ignore[attr-defined]  # the standard library's own reading of patterns
from typing import Any

MASK = "[redacted]"
MAX_RULES = 32
OFTEN = 20
_REPEATS = (_parser.MAX_REPEAT, _parser.MIN_REPEAT, _parser.POSSESSIVE_REPEAT)
# Always applied: credentials, e-mail addresses, card numbers.
ALWAYS = (
    r"\b(?:sk|pk|rk|tg|tgo|ghp|gho|xox[abp]|AKIA)[-_]?[A-Za-z0-9_-]{16,}",
    r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{16,}=*",
    r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}\b",
    r"\b(?:\d[ -]?){13,19}\b",
)


def fault_of(pattern: str) -> str | None:
    """Return what is wrong with a rule that somebody wrote, or ``None``."""
    if not 0 < len(pattern) <= 200:
        return "must have 1 to 200 characters"
    try:
        if re.compile(pattern).match(""):
            return "must not match nothing at all"
    except re.error as error:
        return f"is no regular expression: {error}"
    if _nests(_parser.parse(pattern), often=False):
        return f"repeats what may repeat or be another thing itself more than {OFTEN} times: that can take forever"
    return None


def _nests(part: Any, *, often: bool) -> bool:
    """Return whether something with a choice in it is repeated often, as in ``(a+)+`` and ``(a|b)*``.

    The ways to read a text by it may double with every character, and nobody else would be served while they are tried. ``often``
    says that ``part`` itself is within such a repetition.
    """
    for code, said in part:
        if code in _REPEATS:
            least, most, inner = said
            if (often and least != most) or _nests(inner, often=often or most > OFTEN):
                return True
        elif code is _parser.BRANCH:
            if often or any(_nests(each, often=often) for each in said[1]):
                return True
        elif any(_nests(each, often=often) for each in _inside(said)):
            return True
    return False


def _inside(said: Any) -> list[Any]:
    """Return the parts of a group, a look around or a condition."""
    found = said if isinstance(said, tuple) else (said,)
    return [each for each in found if isinstance(each, _parser.SubPattern)]


def _is_usable(pattern: str) -> bool:
    try:
        return re.compile(pattern).match("") is None
    except re.error:
        return False


def redactor(patterns: Sequence[str]) -> Callable[[str], str]:
    """Return what masks everything that one of ``patterns`` matches, and what is always masked."""
    every = re.compile("|".join(f"(?:{pattern})" for pattern in [*ALWAYS[:1], *ALWAYS[2:]]))
    own = [re.compile(pattern) for pattern in (ALWAYS[1], *patterns) if _is_usable(pattern)]

    def redacted(text: str) -> str:
        text = every.sub(MASK, text)
        for rule in own:
            text = rule.sub(MASK, text)
        return text

    return redacted
