"""Gates that are closed, programs that end, processes that fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from sdk.python.tests.end_to_end.calling import BOUND_NUSD, CALL, COST_NUSD, spend
from tidegate.errors import Closed
from tidegate.testing import KEY, FakeControlPlane


def test_close__calls_in_flight__waited_for_a_while_then_presumed(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()
    call = gate.call("chat", **CALL)
    call.__enter__()

    gate.close(timeout_s=0.6)
    gate.close()
    call.__exit__(None, None, None)

    assert plane.settled_nusd("all") == plane.total("cost_nusd") == BOUND_NUSD
    assert plane.total("calls") == 1
    with pytest.raises(Closed):
        spend(gate)


def test_close__server_away__bounded(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()
    spend(gate)
    plane.down()

    gate.close(timeout_s=0.5)

    assert gate.status()["unconfirmed_windows"] == 1


PROGRAM = """
import os, sys, tidegate
gate = tidegate.connect(app="program")
def spend():
    with gate.call("chat", model="gpt-4o-mini", input_tokens=400, max_output_tokens=800) as call:
        call.record(input_tokens=400, output_tokens=100)
"""


def run_program(plane: FakeControlPlane, body: str) -> None:
    environment = {**os.environ, "TIDEGATE_URL": plane.url, "TIDEGATE_KEY": KEY, "TIDEGATE_CACHE_DIR": ""}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM + body],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # On a slow machine asyncio says "Executing <".
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert (done.returncode, complaints) == (0, [])


def test_exit__without_close__everything_is_flushed(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")

    run_program(plane, "spend(); spend()")

    assert plane.settled_nusd("all") == plane.total("cost_nusd") == 2 * COST_NUSD
    assert all(lease.closed for lease in plane.leases.values())
    assert len(plane.spans) == 2


FORKS = {
    "os.fork": """
if not (pid := os.fork()):
    spend(); spend()
    sys.exit(0)
os.waitpid(pid, 0)
""",
    "os.fork inside a call": """
with gate.call("chat", model="gpt-4o-mini", input_tokens=400, max_output_tokens=800) as call:
    pid = os.fork()
    call.record(input_tokens=400, output_tokens=100)
if not pid:
    spend()
    sys.exit(0)
os.waitpid(pid, 0)
""",
    "multiprocessing": """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=lambda: (spend(), spend()))
process.start()
process.join()
""",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
def test_fork__parent_and_child__two_incarnations_and_every_call_counted_once(
    plane: FakeControlPlane, fork: str
) -> None:
    plane.put_budget("all", "1.00")

    run_program(plane, "spend()\n" + fork + "spend()")

    assert plane.total("calls") == 4
    assert plane.settled_nusd("all") == plane.total("cost_nusd") == 4 * COST_NUSD
    assert len({sync["incarnation"] for sync in plane.syncs}) == 2
    assert all(lease.closed for lease in plane.leases.values())


def test_threads__whatever_goes_on__one_of_ours(plane: FakeControlPlane) -> None:
    before = set(threading.enumerate())
    plane.put_budget("all", "1.00")
    gate = plane.connect()

    for _ in range(20):
        spend(gate)

    new = [thread for thread in threading.enumerate() if thread not in before]
    ours = [thread for thread in new if thread.name.startswith(("tidegate", "asyncio"))]
    assert [thread.name for thread in ours] == ["tidegate"]
    gate.close()
    assert not ours[0].is_alive()
