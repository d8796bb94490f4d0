"""The journal: what a killed process may have spent is known, said once, and nothing of its leases strands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tidegate
from tidegate.core.budget import Lease
from tidegate.core.snapshot import BudgetRef
from tidegate.journal import HEAD, KEPT_S, RECORDS, SUFFIX, Journal, Journals, find_dead, folder_from, owner_of
from tidegate.leasing import Leases
from tidegate.leasing import Path as LeasePath
from tidegate.testing import KEY, FakeControlPlane

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no file locks")
BOUND_NUSD, COST_NUSD = 540_000, 120_000
OWNER = "o" * 32
PROGRAM = """
import os, sys, threading, time
import tidegate

gate = tidegate.connect(sys.argv[1], sys.argv[2], journal=sys.argv[3], cache_dir="", wait_s=5)
CALL = {"model": "gpt-4o-mini", "input_tokens": 400, "max_output_tokens": 800}

def spend():
    with gate.call("chat", **CALL) as call:
        call.record(input_tokens=400, output_tokens=100)
"""


@pytest.fixture
def plane(plane: FakeControlPlane) -> FakeControlPlane:
    plane.put_budget("all", "1.00")
    return plane


def identity(incarnation: str) -> dict[str, Any]:
    return {"incarnation": incarnation, "app": "test", "host": "h", "pid": 1, "sdk": "python/0"}


def path_of(leases: Leases, *ids: int) -> LeasePath:
    return leases.path(tuple(BudgetRef(key, None, f"b{key}", (), "block") for key in ids))


def kept(folder: Path, owner: str = OWNER) -> list[tuple[int, int, tuple[int, ...]]]:
    """Return what journals without an owner say, and leave them there."""
    found = []
    for dead in find_dead(Journals(folder, owner)):
        found += [tuple(word) for word in dead.leases]
        dead.leave()
    return found


def killed(plane: FakeControlPlane, folder: Path, then: str) -> None:
    """Run a program that says ``ready`` when it has done ``then``, and kill it there."""
    program = PROGRAM + then + "\nprint('ready', flush=True)\ntime.sleep(60)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", program, plane.url, KEY, str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(tidegate.__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


# The file


def test_journal__leases_with_calls_in_flight__says_settled_and_held_to_the_last(tmp_path: Path) -> None:
    leases = Leases()
    leases.journal = journal = Journal(Journals(tmp_path, OWNER), identity("a"))
    one, two = path_of(leases, 9, 7), path_of(leases, 7)
    one.slip.lease = two.slip.lease = Lease(granted=1000)
    one.slip.deadline = two.slip.deadline = 99.0

    slip = leases.hold(one, 300, now=1, boot=1)
    assert slip is not None
    leases.hold(one, 50, now=1, boot=1)
    leases.settle(slip, bound=300, cost=120)
    leases.hold(two, 10, now=1, boot=1)

    assert kept(tmp_path) == []  # its owner is alive
    journal.abandon()
    assert sorted(kept(tmp_path)) == [(1, 170, (9, 7)), (2, 10, (7,))]


def test_journal__a_lease_is_confirmed_closed__its_place_is_used_again_and_the_file_goes_with_the_last(
    tmp_path: Path,
) -> None:
    leases = Leases()
    leases.journal = journal = Journal(Journals(tmp_path, OWNER), identity("a"))
    for number in range(RECORDS + 50):
        path = path_of(leases, number + 1)
        leases.keep(path.slip)
        journal.forget(path.slip.number)
    assert list(tmp_path.iterdir()) != []

    journal.close()

    assert list(tmp_path.iterdir()) == []


def test_journal__more_leases_than_it_has_room_for__the_others_go_on_without(tmp_path: Path) -> None:
    leases = Leases()
    leases.journal = journal = Journal(Journals(tmp_path, OWNER), identity("a"))
    for number in range(RECORDS + 5):
        leases.hold(path_of(leases, number + 1), 5, now=1, boot=1, force=True)
    journal.close()

    assert len(kept(tmp_path)) == RECORDS


def test_journal__nothing_is_leased__makes_no_file(tmp_path: Path) -> None:
    Journal(Journals(tmp_path / "there", OWNER), identity("a")).close()

    assert not (tmp_path / "there").exists()


def test_journal__a_folder_that_can_not_be__is_said_once_and_calls_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    leases = Leases()
    leases.journal = Journal(Journals(tmp_path / "file", OWNER), identity("a"))

    for _ in range(3):
        assert leases.hold(path_of(leases, 1), 5, now=1, boot=1, force=True) is not None

    assert [record.getMessage()[:30] for record in caplog.records] == ["tidegate: no journal is kept: "]


def test_find_dead__of_another_key__is_left_alone(tmp_path: Path) -> None:
    leases = Leases()
    leases.journal = journal = Journal(Journals(tmp_path, owner_of("http://x", "one")), identity("a"))
    leases.hold(path_of(leases, 1), 5, now=1, boot=1, force=True)
    journal.close()

    assert kept(tmp_path, owner_of("http://x", "two")) == []
    assert kept(tmp_path, owner_of("http://x", "one")) == [(1, 5, (1,))]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 10,
        b"{}".ljust(HEAD),
        b"[1]".ljust(HEAD),
        json.dumps({"format": 2, "owner": OWNER}).encode().ljust(HEAD),
    ],
)
def test_find_dead__a_file_that_is_no_journal__is_passed_over(tmp_path: Path, data: bytes) -> None:
    (tmp_path / f"x{SUFFIX}").write_bytes(data)

    assert kept(tmp_path) == []


def test_find_dead__a_journal_cut_short__says_the_records_that_are_whole(tmp_path: Path) -> None:
    leases = Leases()
    leases.journal = journal = Journal(Journals(tmp_path, OWNER), identity("a"))
    leases.hold(path_of(leases, 1), 5, now=1, boot=1, force=True)
    leases.hold(path_of(leases, 2), 6, now=1, boot=1, force=True)
    journal.close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[: HEAD + 1000])

    assert kept(tmp_path) == [(1, 5, (1,))]


def test_find_dead__older_than_anybody_waits__is_deleted(tmp_path: Path) -> None:
    leases = Leases()
    leases.journal = journal = Journal(Journals(tmp_path, OWNER), identity("a"))
    leases.hold(path_of(leases, 1), 5, now=1, boot=1, force=True)
    journal.close()
    (file,) = tmp_path.iterdir()
    os.utime(file, (time.time(), time.time() - KEPT_S - 5))

    assert kept(tmp_path) == []
    assert not file.exists()


def test_folder__argument_before_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_JOURNAL_DIR", "/from/environment")

    assert folder_from(None) == Path("/from/environment")
    assert folder_from("/given") == Path("/given")
    monkeypatch.delenv("TIDEGATE_JOURNAL_DIR")
    assert folder_from(None) is None


# Processes


def test_kill__between_calls__what_was_spent_is_charged_and_the_rest_comes_back(
    plane: FakeControlPlane, tmp_path: Path
) -> None:
    killed(plane, tmp_path, "for _ in range(10): spend()")

    with tidegate.connect(plane.url, KEY, journal=tmp_path, cache_dir="", wait_s=5):
        until(lambda: all(lease.closed for lease in plane.leases.values()))

    assert plane.settled_nusd("all") == 10 * COST_NUSD
    assert list(tmp_path.iterdir()) == []


def test_kill__in_the_middle_of_calls__these_are_presumed_to_have_cost_all_they_may(
    plane: FakeControlPlane, tmp_path: Path
) -> None:
    killed(
        plane,
        tmp_path,
        "for _ in range(3): spend()\nopen_calls = [gate.call('chat', **CALL) for _ in range(2)]\n"
        "for call in open_calls: call.__enter__()",
    )

    with tidegate.connect(plane.url, KEY, journal=tmp_path, cache_dir="", wait_s=5):
        until(lambda: all(lease.closed for lease in plane.leases.values()))

    assert plane.settled_nusd("all") == 3 * COST_NUSD + 2 * BOUND_NUSD


def test_kill__under_load__not_a_nano_dollar_less_than_was_spent_and_nothing_strands(
    plane: FakeControlPlane, tmp_path: Path
) -> None:
    """The program counts on its own what it spent, in a file, before it lets go of each call."""
    books = tmp_path / "books"
    books.write_bytes(b"")
    killed(
        plane,
        tmp_path / "journals",
        f"""
out = os.open({str(books)!r}, os.O_WRONLY | os.O_APPEND)
def work():
    while True:
        try:
            with gate.call("chat", **CALL) as call:
                os.write(out, b"x")
                call.record(input_tokens=400, output_tokens=100)
        except tidegate.Refused:
            time.sleep(0.01)
for _ in range(4): threading.Thread(target=work, daemon=True).start()
time.sleep(1.0)
""",
    )
    true = len(books.read_bytes()) * COST_NUSD

    with tidegate.connect(plane.url, KEY, journal=tmp_path / "journals", cache_dir="", wait_s=5):
        until(lambda: all(lease.closed for lease in plane.leases.values()))

    assert true > 0
    assert true <= plane.settled_nusd("all") <= 1_000_000_000


def test_kill__while_nobody_answers__is_said_when_somebody_does(plane: FakeControlPlane, tmp_path: Path) -> None:
    killed(plane, tmp_path, "spend()")
    plane.down()

    with tidegate.connect(plane.url, KEY, journal=tmp_path, cache_dir="", wait_s=0.2):
        assert list(tmp_path.glob(f"*{SUFFIX}")) != []
        plane.up()
        until(lambda: all(lease.closed for lease in plane.leases.values()))

    assert plane.settled_nusd("all") == COST_NUSD


def test_fork__the_child_leaves_the_file_of_its_parent_alone(plane: FakeControlPlane, tmp_path: Path) -> None:
    killed(
        plane,
        tmp_path,
        """
spend()
pid = os.fork()
if not pid:
    spend(); spend()
    gate.close()
    os._exit(0)
os.waitpid(pid, 0)
""",
    )
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == 1

    with tidegate.connect(plane.url, KEY, journal=tmp_path, cache_dir="", wait_s=5):
        until(lambda: all(lease.closed for lease in plane.leases.values()))

    assert plane.settled_nusd("all") == 3 * COST_NUSD


def test_close__in_order__leaves_no_file(plane: FakeControlPlane, tmp_path: Path) -> None:
    gate = tidegate.connect(plane.url, KEY, journal=tmp_path, cache_dir="", wait_s=5)
    with gate.call("chat", model="gpt-4o-mini", input_tokens=400, max_output_tokens=800) as call:
        call.record(input_tokens=400, output_tokens=100)
    assert len(list(tmp_path.iterdir())) == 1

    gate.close()

    assert list(tmp_path.iterdir()) == []
