"""Redaction of prompts and replies before they are stored: what looks like a secret or like a person's data is masked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

MASK = "[redacted]"
MAX_RULES = 32
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
    return None


def redactor(patterns: Sequence[str]) -> Callable[[str], str]:
    """Return what masks everything that one of ``patterns`` matches, and what is always masked."""
    every = re.compile("|".join(f"(?:{pattern})" for pattern in [*ALWAYS[:1], *ALWAYS[2:]]))
    own = [re.compile(pattern) for pattern in (ALWAYS[1], *patterns) if fault_of(pattern) is None]

    def redacted(text: str) -> str:
        text = every.sub(MASK, text)
        for rule in own:
            text = rule.sub(MASK, text)
        return text

    return redacted
