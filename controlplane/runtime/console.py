"""What a person at the terminal reads: one line per event, with the name of the process that said it in front."""

from __future__ import annotations

import os
import sys
from typing import TextIO

NAME_WIDTH = 10
_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)


def wants_colour(stream: TextIO) -> bool:
    """Tell whether ``stream`` is a terminal of somebody who did not set ``NO_COLOR`` (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


class Console:
    """Writes prefixed lines. A reader that went away is no reason to stop."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = wants_colour(self._stream)
        self._names: list[str] = []

    def line(self, name: str, text: str) -> None:
        """Write ``text`` as said by the process ``name``."""
        self._write(f"{self._prefix(name)} {text}")

    def say(self, text: str) -> None:
        """Write ``text`` as said by ``manage.py up`` itself."""
        self._write(f"\033[1m{text}\033[0m" if self._colour else text)

    def _prefix(self, name: str) -> str:
        padded = f"{name:<{NAME_WIDTH}} |"
        if not self._colour:
            return padded
        if name not in self._names:
            self._names.append(name)
        return f"\033[{_COLOURS[self._names.index(name) % len(_COLOURS)]}m{padded}\033[0m"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            return
