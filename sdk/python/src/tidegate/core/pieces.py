"""A JSON text in pieces, as it came over the wire: read as if it were whole, without ever being made so.

One string of some megabytes takes milliseconds to make, most of it for pages of memory that nobody had before, and nobody else runs
meanwhile. Places are counted in characters from the beginning of the text.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

_decoder = json.JSONDecoder()


class Pieces:
    """A text that stays in its pieces."""

    __slots__ = ("_begins", "_texts", "length")

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = [text for text in texts if text] or [""]
        self._begins: list[int] = []
        self.length = 0
        for text in self._texts:
            self._begins.append(self.length)
            self.length += len(text)

    def around(self, at: int) -> tuple[str, int]:
        """Return the piece with the character at ``at``, at the end of the text the last one, and where it begins."""
        number = bisect_right(self._begins, at) - 1
        return self._texts[number], self._begins[number]

    def value_at(self, at: int) -> tuple[Any, int]:
        """Return the value that begins at ``at``, and where it ends; ``json.JSONDecodeError`` when there is none."""
        number = bisect_right(self._begins, at) - 1
        begins, pieces = self._begins[number], 1
        while True:
            text = self._texts[number] if pieces == 1 else "".join(self._texts[number : number + pieces])
            last = number + pieces >= len(self._texts)
            try:
                value, ends = _decoder.raw_decode(text, at - begins)
            except json.JSONDecodeError:
                if last:
                    raise
            else:
                if last or ends < len(text):
                    return value, begins + ends
            pieces *= 2  # it may go on in the next ones
