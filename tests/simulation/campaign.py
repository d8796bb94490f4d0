"""How far a great many worlds have come, in a file, so that who was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.simulation.run import Outcome

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".tidegate" / "simulation"
CODE = ("tests/simulation", "controlplane/domain", "controlplane/budgets/schemas.py", "sdk/python/src/tidegate")


def code() -> str:
    """Return a word for everything that a simulation runs: what other code has shown counts no more."""
    told = hashlib.sha256()
    for name in CODE:
        place = ROOT / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            told.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return told.hexdigest()[:16]


@dataclass(slots=True)
class Campaign:
    """The worlds of ``seeds`` seeds from ``first`` on; those under ``first`` + ``done`` have been run."""

    first: int
    seeds: int
    code: str
    done: int = 0
    events: int = 0
    admitted: int = 0
    seconds: float = 0.0
    failed: list[int] = field(default_factory=list)

    @property
    def left(self) -> range:
        return range(self.first + self.done, self.first + self.seeds)

    def count(self, outcome: Outcome) -> None:
        """Take up what became of the next seed."""
        self.done += 1
        self.events += outcome.events
        self.admitted += outcome.admitted
        if outcome.invariant:
            self.failed.append(outcome.setup.seed)

    def told(self) -> str:
        return (
            f"{self.done:,} of {self.seeds:,} seeds, {self.events:,} events, {self.admitted:,} calls let through, "
            f"{len(self.failed)} failures in {self.seconds:,.0f} s"
        )

    def keep(self, folder: Path) -> None:
        """Write how far it has come."""
        folder.mkdir(parents=True, exist_ok=True)
        made = _place(folder, self.first, self.seeds).with_suffix(".new")
        made.write_text(json.dumps(asdict(self)))
        made.rename(_place(folder, self.first, self.seeds))


def _place(folder: Path, first: int, seeds: int) -> Path:
    return folder / f"{first}-{seeds}.json"


def resumed(first: int, seeds: int, folder: Path) -> Campaign:
    """Return the campaign where it stopped; a new one when it never began, is over, or ran other code."""
    new = Campaign(first, seeds, code())
    try:
        kept = Campaign(**json.loads(_place(folder, first, seeds).read_text()))
    except (OSError, ValueError, TypeError):
        return new
    return kept if kept.code == new.code and kept.left else new
