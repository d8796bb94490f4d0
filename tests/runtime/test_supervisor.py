"""Children of a supervisor: read, started again, stopped, and never left behind. Real processes, small ones."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.runtime import reaper
from controlplane.runtime.console import Console
from controlplane.runtime.engines import CannotStart
from controlplane.runtime.locks import DataLock
from controlplane.runtime.supervisor import FIRST_DELAY_S, LAST_DELAY_S, STEADY_S, Child, Supervisor, back_off
from tests.runtime.running import family_of


class Log(io.StringIO):
    def isatty(self) -> bool:
        return False


def shell(name: str, script: str, **options: object) -> Child:
    return Child(name, ["/bin/sh", "-c", script], **options)  # type: ignore[arg-type]  # options are Child's own


async def until(true: Callable[[], bool], *, patience_s: float = 20) -> None:
    async with asyncio.timeout(patience_s):
        while not true():  # noqa: ASYNC110  what happens, happens in other processes
            await asyncio.sleep(0.01)


@given(previous_s=st.floats(0, LAST_DELAY_S), lived_s=st.floats(0, 1e6))
def test_back_off__any_past__is_bounded_and_afresh_after_a_steady_life(previous_s: float, lived_s: float) -> None:
    delay_s = back_off(previous_s, lived_s=lived_s)

    assert FIRST_DELAY_S <= delay_s <= LAST_DELAY_S or delay_s == previous_s * 2
    assert delay_s == FIRST_DELAY_S or lived_s < STEADY_S


async def test_keep__child_that_dies__starts_again_and_says_so() -> None:
    log = Log()
    supervisor = Supervisor(Console(log))

    supervisor.keep(shell("short", "echo hello; exit 3"))
    await until(lambda: supervisor.deaths("short") >= 2)
    await supervisor.stop()

    assert log.getvalue().count("short      | hello\n") >= 2
    assert "short      | died (exit code 3), starts again in 0.1 s\n" in log.getvalue()


async def test_keep__until_done__is_left_alone_after_success() -> None:
    log = Log()
    supervisor = Supervisor(Console(log))

    supervisor.keep(shell("task", "echo once", until_done=True))
    await until(lambda: "once" in log.getvalue())
    await asyncio.sleep(FIRST_DELAY_S * 3)
    await supervisor.stop()

    assert log.getvalue() == "task       | once\n"


async def test_keep__unsaid_lines__are_left_out() -> None:
    log = Log()
    supervisor = Supervisor(Console(log))

    code = await supervisor.run_once(shell("chatty", "echo small talk; echo news >&2", unsaid=("small talk",)))
    await supervisor.stop()

    assert code == 0
    assert log.getvalue() == "chatty     | news\n"


async def test_keep__child_killed_whose_own_child_holds_the_pipe__is_noticed_and_the_orphan_killed(
    tmp_path: Path,
) -> None:
    supervisor = Supervisor(Console(Log()))
    pids = tmp_path / "pids"

    supervisor.keep(shell("parent", f"sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"))
    await until(pids.exists)
    parent, orphan = map(int, pids.read_text().split())
    os.kill(parent, signal.SIGKILL)
    await until(lambda: supervisor.deaths("parent") == 1)
    await until(lambda: not _lives(orphan))
    await supervisor.stop()


async def test_stop__child_that_does_not_listen__is_killed() -> None:
    log = Log()
    supervisor = Supervisor(Console(log))

    supervisor.keep(shell("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done", stop_s=0.2))
    await until(lambda: "up" in log.getvalue())
    await supervisor.stop()

    assert "deaf       | does not stop, is killed\n" in log.getvalue()


async def test_stop__several__stops_the_latest_first() -> None:
    log = Log()
    supervisor = Supervisor(Console(log))
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"

    for name in ("first", "second"):
        supervisor.keep(shell(name, script))
    await until(lambda: log.getvalue().count("up") == 2)
    await supervisor.stop()

    said = log.getvalue()
    assert 0 < said.index("second     | bye") < said.index("first      | bye")


async def test_stop__children_of_a_wave__are_asked_before_any_of_them_ended() -> None:
    log = Log()
    supervisor = Supervisor(Console(log))
    met = "trap 'echo asked; while [ $(ls {0} | wc -l) -lt 2 ]; do touch {0}/$$; sleep 0.02; done; exit 0' TERM; echo up; while :; do sleep 0.02; done"

    with tempfile.TemporaryDirectory() as meeting:
        for name in ("one", "other"):
            supervisor.keep(shell(name, met.format(meeting), wave="callers", stop_s=20.0))
        await until(lambda: log.getvalue().count("up") == 2)
        await supervisor.stop()

    assert log.getvalue().count("asked") == 2
    assert "does not stop" not in log.getvalue()  # each ends only after the other has been asked


PARENT = """
import asyncio, sys
from controlplane.runtime.console import Console
from controlplane.runtime.supervisor import Child, Supervisor

async def main():
    supervisor = Supervisor(Console(sys.stdout))
    supervisor.keep(Child("deaf", ["/bin/sh", "-c", "trap '' TERM; echo up $$; while :; do sleep 0.05; done"]))
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_supervisor__killed__takes_along_a_child_that_does_not_listen() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = int((await parent.stdout.readline()).rsplit(maxsplit=1)[1])

    parent.kill()

    await until(lambda: not _lives(child), patience_s=reaper.GRACE_S + 20)


async def test_supervisor__stopped__leaves_no_reaper() -> None:
    supervisor = Supervisor(Console(Log()))
    before = set(family_of(os.getpid()))

    await supervisor.run_once(shell("short", "true"))
    during = set(family_of(os.getpid())) - before
    await supervisor.stop()

    assert len(during) == 1
    assert not any(map(_lives, during))


@given(steps=st.lists(st.tuples(st.sampled_from("+-"), st.integers(1, 5))))
def test_groups_left__any_lines__are_those_told_of_last_with_a_plus(steps: list[tuple[str, int]]) -> None:
    last = {group: sign for sign, group in steps}

    assert reaper.groups_left(f"{sign}{group}\n" for sign, group in steps) == {g for g in last if last[g] == "+"}


def _lives(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_data_lock__held__names_the_holder(tmp_path: Path) -> None:
    first = DataLock(tmp_path)
    first.take(url="http://127.0.0.1:8000")

    with pytest.raises(CannotStart, match="already running") as refused:
        DataLock(tmp_path).take(url="http://127.0.0.1:9000")
    first.release()
    DataLock(tmp_path).take(url="http://127.0.0.1:9000")

    assert f"http://127.0.0.1:8000 (pid {os.getpid()})" in str(refused.value)
    assert json.loads((tmp_path / "lock").read_text())["url"] == "http://127.0.0.1:9000"
