"""What a vector is made of before what must follow is computed. Chance is a small generator with a fixed seed."""

from __future__ import annotations

from typing import Any

Case = dict[str, Any]
Step = dict[str, Any]


class Draw:
    """A linear congruential generator: the same numbers everywhere."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, most: int) -> int:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 33) % most

    def one_of(self, *choices: Any) -> Any:
        return choices[self.below(len(choices))]


def case(name: str, *steps: Step, **given: Any) -> Case:
    """Return a case: its name, what is ``given`` (the parts of a policy and so on) and its ``steps`` in order."""
    return {"name": name, **given, "steps": list(steps)}
