"""What became of one try to send a notification."""

from __future__ import annotations

from typing import NamedTuple


class Outcome(NamedTuple):
    """What became of it; ``again`` says whether another try may help, ``silent`` that nobody answered, or too slowly.

    ``slow``: it took so long that others should not have to wait for the next one.
    """

    arrived: bool
    again: bool
    text: str
    silent: bool = False
    slow: bool = False
