"""Redaction of prompts and replies before they are stored: what looks like a secret or like a person's data is masked.

What people write is matched by RE2, in time that grows with the text and nothing else: no pattern can keep a server busy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

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


def redactor(patterns: Sequence[str]) -> Callable[[str], str]:
    """Return what masks what one of ``patterns`` matches, and what is always masked; everything, if one of them can't be read."""
    if any(map(fault_of, patterns)):
        return lambda _: MASK
    every = re.compile("|".join(f"(?:{pattern})" for pattern in [*ALWAYS[:1], *ALWAYS[2:]]))
    bearer = re.compile(ALWAYS[1])
    own = [re2.compile(pattern, _OPTIONS) for pattern in patterns]

    def redacted(text: str) -> str:
        text = bearer.sub(MASK, every.sub(MASK, text))
        for rule in own:
            text = rule.sub(MASK, text)
        return text

    return redacted
