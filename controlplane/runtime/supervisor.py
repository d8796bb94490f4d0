"""Child processes that are kept running: started, read, started again when they die, stopped in reverse order.

A child never outlives us. It is told by the kernel when we die (``PR_SET_PDEATHSIG``) and killed by a process of its own, the
reaper, when it does not listen; what a dead child leaves behind in its process group is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from controlplane.runtime import reaper
from controlplane.runtime.console import Console

_PR_SET_PDEATHSIG = 1
_LINE_LIMIT = 1 << 20
# What Celery says of a worker that root runs, and that it stops: nobody can do anything about it.
CELERY_SMALL_TALK = (
    "superuser privileges",
    "absolutely not recommended",
    "--uid option",
    "_warn_or_raise",
    "User information: uid=0",
    "Warm shut",
)
FIRST_DELAY_S, LAST_DELAY_S, STEADY_S = 0.1, 10.0, 20.0


def back_off(previous_s: float, *, lived_s: float) -> float:
    """Return how long to wait before a child that ``lived_s`` is started again: doubling, afresh after a steady life."""
    if previous_s <= 0 or lived_s >= STEADY_S:
        return FIRST_DELAY_S
    return min(LAST_DELAY_S, previous_s * 2)


@dataclass(frozen=True)
class Child:
    """One process: its command, as whom and where it runs, and how it is asked to stop.

    ``before`` runs before every start. ``orphaned`` is the signal it gets when its parent dies. Lines that contain one of
    ``unsaid`` are left out of the log. ``until_done``: it is not started again after it ended with exit code 0. Children that
    were started one after another and share a ``wave`` are stopped at once.
    """

    name: str
    command: list[str]
    env: dict[str, str] | None = None
    user: int | None = None
    group: int | None = None
    cwd: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 10.0
    orphaned: signal.Signals = signal.SIGTERM
    before: Callable[[], Awaitable[None]] | None = None
    unsaid: tuple[str, ...] = ()
    until_done: bool = False
    wave: str = ""


def _leash(orphaned: signal.Signals) -> Callable[[], None] | None:
    """Return what a new child does between fork and exec so that it gets ``orphaned`` when this process dies.

    It runs after the change of user, which would take the wish back.
    """
    if sys.platform != "linux":
        return None
    libc, parent, number = ctypes.CDLL(None), os.getpid(), int(orphaned)

    def leash() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return leash


async def spawn(child: Child) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    """Start ``child`` in a process group of its own; return it and what it and its children say.

    The pipe is ours and not asyncio's, for whom a process has not ended while an orphan of it holds the pipe open.
    """
    ours, theirs = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *child.command,
            env=child.env,
            cwd=child.cwd,
            user=child.user,
            group=child.group,
            extra_groups=[] if child.user is not None else None,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            process_group=0,
            preexec_fn=_leash(child.orphaned),
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    said = asyncio.StreamReader(limit=_LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(said), os.fdopen(ours, "rb", 0)
    )
    return process, said


def kill_group(pid: int) -> None:
    """Kill whatever is left in the process group of a child."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def describe_exit(code: int) -> str:
    """Return a process's exit code as words: ``killed by SIGKILL``, ``exit code 3``."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@dataclass
class _Kept:
    child: Child
    task: asyncio.Task[None] | None = None
    process: asyncio.subprocess.Process | None = None
    stopping: bool = False
    deaths: int = 0


@dataclass
class Supervisor:
    """Keeps children running until ``stop``."""

    console: Console
    _kept: list[_Kept] = field(default_factory=list)
    _reaper: subprocess.Popen[str] | None = None
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, child: Child) -> None:
        """Start ``child`` now and again whenever it dies."""
        kept = _Kept(child)
        self._kept.append(kept)
        kept.task = asyncio.create_task(self._keep(kept), name=child.name)

    def deaths(self, name: str) -> int:
        """Return how often the child ``name`` died by itself."""
        return sum(kept.deaths for kept in self._kept if kept.child.name == name)

    async def run_once(self, child: Child) -> int:
        """Run ``child`` to its end, with its output in the log; return its exit code."""
        process, said = await self._spawn(child)
        try:
            return await self._watch(child, process, said)
        finally:
            self._kill_group(process.pid)

    async def stop(self, *, together: bool = False) -> None:
        """Stop all children, the latest wave first, or ``together`` at once; those who do not listen are killed."""
        for wave in [self._kept] if together else reversed(self._waves()):
            for kept in wave:
                kept.stopping = True
            await asyncio.gather(*map(self._stop, wave))
        self._kept.clear()
        self._end_reaper()

    def _waves(self) -> list[list[_Kept]]:
        waves: list[list[_Kept]] = []
        for kept in self._kept:
            if waves and kept.child.wave and waves[-1][0].child.wave == kept.child.wave:
                waves[-1].append(kept)
            else:
                waves.append([kept])
        return waves

    def hurry(self) -> None:
        """Make ``stop`` kill at once what still runs."""
        self._hurry.set()

    async def _spawn(self, child: Child) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
        process, said = await spawn(child)
        self._tell_reaper(f"+{process.pid}")
        return process, said

    def _kill_group(self, pid: int) -> None:
        kill_group(pid)
        self._tell_reaper(f"-{pid}")

    def _tell_reaper(self, line: str) -> None:
        """Tell the reaper, which is started for the first child. One that somebody killed is done without."""
        if self._reaper is None:
            self._reaper = subprocess.Popen(
                [sys.executable, "-S", reaper.__file__], stdin=subprocess.PIPE, text=True, process_group=0
            )
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self._reaper.stdin, flush=True)

    def _end_reaper(self) -> None:
        if self._reaper is not None:
            self._reaper.communicate()
            self._reaper = None

    async def _keep(self, kept: _Kept) -> None:
        child, delay_s = kept.child, 0.0
        while not kept.stopping:
            if child.before is not None:
                await child.before()
            born = time.monotonic()
            kept.process, said = await self._spawn(child)
            code = await self._watch(child, kept.process, said)
            if kept.stopping or (child.until_done and code == 0):
                return
            kept.deaths += 1
            delay_s = back_off(delay_s, lived_s=time.monotonic() - born)
            self.console.line(child.name, f"died ({describe_exit(code)}), starts again in {delay_s:.1f} s")
            await asyncio.sleep(delay_s)

    async def _watch(self, child: Child, process: asyncio.subprocess.Process, said: asyncio.StreamReader) -> int:
        reading = asyncio.create_task(self._read(child, said))
        code = await process.wait()
        self._kill_group(process.pid)
        # Orphans outside the group may hold the pipe open: what they say later is not waited for.
        await asyncio.wait({reading}, timeout=0.5)
        reading.cancel()
        return code

    async def _read(self, child: Child, said: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await said.readline()
            except ValueError:
                line = b"(a line of more than 1 MiB was left out)\n"
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()
            if text and not any(part in text for part in child.unsaid):
                self.console.line(child.name, text)

    async def _stop(self, kept: _Kept) -> None:
        process = kept.process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(kept.child.stop_signal)
            if not await self._ended(process, kept.child.stop_s):
                self.console.line(kept.child.name, "does not stop, is killed")
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process is not None:
            self._kill_group(process.pid)
        if kept.task is not None:
            await asyncio.wait({kept.task}, timeout=1.0 if process is not None else 0)
            kept.task.cancel()
            await asyncio.gather(kept.task, return_exceptions=True)

    async def _ended(self, process: asyncio.subprocess.Process, patience_s: float) -> bool:
        ended, hurry = asyncio.create_task(process.wait()), asyncio.create_task(self._hurry.wait())
        await asyncio.wait({ended, hurry}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if ended.done():
            return True
        ended.cancel()
        return False
