"""The shared board of a run, in ``state.shared``: its steps, effects, notes, who runs it, and whether it was cancelled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tidegate.state import Space, VersionConflict

Status = Literal["sent", "running", "done", "failed"]
STEP, EFFECT, NOTE, LATE, CLAIM, CANCELLED = "step/", "effect/", "note/", "late/", "claim", "cancelled"
CLAIM_S = 15.0
CALLED_BACK = "called back"


class RunError(Exception):
    """Something ended a run, or a step of it."""


class AlreadyRunning(RunError):
    """Another process runs the run, or did until seconds ago."""


class RunCancelled(RunError):
    """Somebody has cancelled the run."""


class RunLate(RunError):
    """The run's deadline has passed."""


class StepFailed(RunError):
    """A step failed as often as its agent may."""


class EffectUncertain(RunError):
    """An effect was begun and nobody knows whether it happened: it is not done again. ``Board.resolve`` says what became of it."""


@dataclass
class Record:
    """A step as the board has it. Money is the step's own, without that of steps below it; what is held counts as spent
    when nobody is there to settle it. ``late_nusd`` is what calls turned out to have cost more, or less, when the run was over.
    """

    agent: str
    attempt: int = 0
    status: Status = "running"
    spent_nusd: int = 0
    held_nusd: int = 0
    calls: int = 0
    result: Any = None
    error: str = ""
    late_nusd: int = 0

    @property
    def presumed_nusd(self) -> int:
        return self.spent_nusd + self.held_nusd + self.late_nusd

    def presume(self) -> None:
        """Count what is held as spent."""
        self.spent_nusd, self.held_nusd = self.spent_nusd + self.held_nusd, 0


class Board:
    """What agents of one run share. Values are JSON below 64 KiB, kept for ``keep_s`` after they were written."""

    def __init__(self, space: Space, keep_s: float) -> None:
        self.space = space
        self.keep_s = keep_s

    async def steps(self) -> dict[str, Record]:
        """Return the records of all steps, by path."""
        found = await self.space.aall()
        records = {key[len(STEP) :]: Record(**value) for key, value in found.items() if key.startswith(STEP)}
        for path, record in records.items():
            record.late_nusd = found.get(LATE + path, 0)
        return records

    async def step(self, path: str) -> Record | None:
        found = await self.space.aget(STEP + path)
        return None if found is None else Record(**found)

    async def put_step(self, path: str, record: Record) -> None:
        await self.space.aset(STEP + path, {**asdict(record), "late_nusd": 0}, ttl=self.keep_s)

    async def put_late(self, path: str, nusd: int) -> None:
        """Count what a call of a step did cost more, or less, than its run knew; whoever has taken the step up writes its record."""
        await self.space.aincr(LATE + path, nusd, ttl=self.keep_s)

    async def take_step(self, path: str, attempt: int) -> Record | None:
        """Turn a step that was sent into a running one; ``None`` when this attempt of it is not there to be taken."""
        item = await self.space.aread(STEP + path)
        if item is None or item.value["status"] != "sent" or item.value["attempt"] != attempt:
            return None
        record = Record(**{**item.value, "status": "running", "held_nusd": 0})
        try:
            await self.space.acas(STEP + path, asdict(record), item.version, ttl=self.keep_s)
        except VersionConflict:
            return None
        return record

    async def call_back(self, path: str, attempt: int) -> Status | None:
        """End an attempt at a step that was sent: who does it stops, who comes for it gets nothing.

        Return how it stood, ``None`` when nobody can say. What was held of a running one stays held.
        """
        item = await self.space.aread(STEP + path)
        if item is None or item.value["attempt"] != attempt:
            return None
        was: Status = item.value["status"]
        if was in ("sent", "running"):
            held = 0 if was == "sent" else item.value["held_nusd"]
            ended = {**item.value, "status": "failed", "held_nusd": held, "error": CALLED_BACK}
            try:
                await self.space.acas(STEP + path, ended, item.version, ttl=self.keep_s)
            except VersionConflict:
                return None
        return was

    async def note(self, name: str, default: Any = None) -> Any:
        return await self.space.aget(NOTE + name, default)

    async def put_note(self, name: str, value: Any) -> None:
        await self.space.aset(NOTE + name, value, ttl=self.keep_s)

    # Effects

    async def begin_effect(self, key: str) -> tuple[bool, Any]:
        """Claim an effect; return whether it is ours to do, and if not, what came of it. Raises ``EffectUncertain``."""
        try:
            await self.space.acas(EFFECT + key, {"done": False, "result": None}, 0, ttl=self.keep_s)
        except VersionConflict:
            found = await self.space.aread(EFFECT + key)
            if found is None or not found.value["done"]:
                raise EffectUncertain(f"The effect {key!r} was begun; nobody knows whether it happened.") from None
            return False, found.value["result"]
        return True, None

    async def resolve(self, key: str, *, happened: bool, result: Any = None) -> None:
        """Say what became of an effect: it happened, with a result, or it did not and may be done again."""
        if happened:
            await self.space.aset(EFFECT + key, {"done": True, "result": result}, ttl=self.keep_s)
        else:
            await self.space.adelete(EFFECT + key)

    # Who runs it, and whether it is to go on

    async def claim(self, who: str) -> None:
        """Become, or stay, the one that runs the run, for 15 s. Raises ``AlreadyRunning``."""
        item = await self.space.aread(CLAIM)
        if item is not None and item.value not in (who, ""):
            raise AlreadyRunning("The run is at work in another process.")
        try:
            await self.space.acas(CLAIM, who, item.version if item is not None else 0, ttl=CLAIM_S)
        except VersionConflict:
            raise AlreadyRunning("The run is at work in another process.") from None

    async def release(self) -> None:
        await self.space.adelete(CLAIM)

    async def cancel(self, reason: str) -> None:
        await self.space.aset(CANCELLED, reason, ttl=self.keep_s)

    async def uncancel(self) -> None:
        await self.space.adelete(CANCELLED)

    async def cancelled(self) -> str | None:
        """Return why the run was cancelled, ``None`` when it was not: out of memory, told of within a tenth of a second."""
        found: str | None = await self.space.aget(CANCELLED)
        return found
