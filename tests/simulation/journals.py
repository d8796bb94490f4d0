"""Journals that outlive their processes: the SDK's own records, in memory, and who finds them and speaks for the dead."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tidegate.exchange import Sent
from tidegate.journal import HEAD, RECORD, WORDS, Dead, Journal, Journals, _records
from tidegate.replaying import last_words

if TYPE_CHECKING:
    from tests.simulation.process import Process

NOBODY = Journals(Path("/nowhere"), "")
RECORDS = 64


class Notes(Journal):
    """The journal of one process, in memory that no file is behind."""

    def __init__(self, incarnation: UUID) -> None:
        self.identity = {"incarnation": str(incarnation), "app": "", "host": "", "pid": 0, "sdk": ""}
        super().__init__(NOBODY, self.identity)

    def _open(self) -> None:
        self._map = mmap.mmap(-1, HEAD + RECORD * RECORDS)
        self._words = memoryview(self._map)[HEAD:].cast("Q")
        self._free = [number * WORDS for number in reversed(range(RECORDS))]

    def left(self) -> Dead:
        """Return what it says when its process is dead."""
        data = self._map[:] if self._map is not None else b" " * HEAD
        return Dead(NOBODY.folder, -1, self.identity, tuple(_records(data)))


class Mourner:
    """Finds the journal of a dead process some time later, and says its last words until they are confirmed."""

    def __init__(self, process: Process, journal: Notes) -> None:
        self.buried = False
        self._process = process
        self._world = process.world
        self._dead = journal.left()
        self._world.truth.died(process, self._dead.leases)
        self._tries = 0
        self._world.kernel.after(process.chance.uniform(0.0, 5.0), self._say, 0)

    def _say(self, tries: int) -> None:
        if self.buried or tries != self._tries:
            return
        self._tries += 1
        if not self._dead.leases:
            self.buried = True
            return
        process = self._process
        body = last_words(self._dead, self._dead.leases, final=True)
        sent = Sent(body["seq"], [], process.clock.boot(), process.clock.wall_ms())
        self._world.network.send(process, body, sent, self._heard)
        self._world.kernel.after(self._world.setup.patience, self._say, self._tries)

    def _heard(self, sent: Sent, answer: dict[str, Any] | None, sent_at: float) -> None:
        if answer is not None:
            closed = {line["number"] for line in answer["leases"] if line["closed"]}
            self.buried = all(lease.number in closed for lease in self._dead.leases)
