"""Redaction of prompts and replies before they are stored: what looks like a secret or like a person's data is masked.

What people write is matched by RE2, in time that grows with the text and nothing else: no pattern can keep a server busy.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import re2

MASK = "[redacted]"
MAX_RULES = 32
# Always applied: credentials, e-mail addresses, card numbers.
ALWAYS = (
    r"\b(?:sk|pk|rk|tg|tgo|ghp|gho|xox[abp]|AKIA)[-_]?[A-Za-z0-9_-]{16,}",
    r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{16,}=*",
    r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}\b",
    r"\b(?:\d[ -]?){13,19}\b",
)
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20  # bytes, for each rule
_EVERY = re.compile("|".join(f"(?:{pattern})" for pattern in [*ALWAYS[:1], *ALWAYS[2:]]))
_BEARER = re.compile(ALWAYS[1])
# In every text that one of ``ALWAYS`` matches this does, too; it is searched in all texts at once.
_SUSPECT = re2.compile(
    r"(?:sk|pk|rk|tg|tgo|ghp|gho|xox[abp]|AKIA)[-_]?[A-Za-z0-9_-]{16}|(?i:bearer)|@|(?:\p{Nd}[ -]?){13}", _OPTIONS
)


def fault_of(pattern: str) -> str | None:
    """Return what is wrong with a rule that somebody wrote, or ``None``."""
    if not 0 < len(pattern) <= 200:
        return "must have 1 to 200 characters"
    try:
        if re2.compile(pattern, _OPTIONS).match(""):
            return "must not match nothing at all"
    except re2.error as error:
        said = error.args[0]
        return f"is no regular expression that RE2 reads: {said.decode(errors='replace') if isinstance(said, bytes) else said}"
    return None


class Redactor:
    """Masks what one of some patterns matches, and what is always masked; everything, if one of them can't be read."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._reads = not any(map(fault_of, patterns))
        self._own = [re2.compile(pattern, _OPTIONS) for pattern in patterns] if self._reads else []

    def __call__(self, text: str) -> str:
        """Return one text, masked."""
        return self.every([text])[0]

    def every(self, texts: Sequence[str]) -> list[str]:
        """Return texts, masked. Together they cost little more than one of them does alone."""
        if not self._reads:
            return [MASK] * len(texts)
        masked = list(texts)
        for place in _suspects(texts):
            masked[place] = _BEARER.sub(MASK, _EVERY.sub(MASK, masked[place]))
        for rule in self._own:
            masked = [rule.sub(MASK, text) for text in masked]
        return masked


def redactor(patterns: Sequence[str]) -> Redactor:
    """Return what masks what one of ``patterns`` matches."""
    return Redactor(patterns)


def _suspects(texts: Sequence[str]) -> set[int]:
    """Return the places of the texts in which one of ``ALWAYS`` may match. What ``_SUSPECT`` matches is inside one line, hence inside one text."""
    lines = [text.encode("utf-8", "replace") for text in texts]
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    return {bisect_right(starts, found.start()) - 1 for found in _SUSPECT.finditer(b"\n".join(lines))}
