"""How one JSON document differs from another, line by line."""

from __future__ import annotations

import difflib
import json
from typing import Any, NamedTuple


class Line(NamedTuple):
    """One line; ``sign`` is ``+``, ``-`` or a space."""

    sign: str
    text: str


def lines_of(before: Any, after: Any) -> list[Line]:
    """Return the lines of both documents, those that they share once. ``None`` is no document."""
    old, new = _lines(before), _lines(after)
    made = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            made += [Line(" ", text) for text in old[a:b]]
        else:
            made += [Line("-", text) for text in old[a:b]] + [Line("+", text) for text in new[c:d]]
    return made


def _lines(document: Any) -> list[str]:
    return [] if document is None else json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True).splitlines()
