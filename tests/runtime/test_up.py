"""``manage.py up`` as people meet it: it starts, says where, survives its children's deaths, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from controlplane.runtime.engines import kept_environment
from tests.runtime.running import (
    PATIENCE_S,
    ROOT,
    Running,
    command_line,
    environment,
    eventually,
    family_of,
    refused,
    running,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # every start is one of five processes: on a busy machine it takes minutes
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc"),
]

LEFT_S = 60.0  # within which the children of a dead parent are gone
CHILDREN = {
    "server": "granian",
    "worker": "celery --quiet -A controlplane.celery worker",
    "beat": "celery --quiet -A controlplane.celery beat",
    "valkey": "valkey-server",
    "postgres": "/postgres ",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place that PostgreSQL's own user can get to, as pytest's folders are for their owner alone."""
    base = tmp_path_factory.mktemp("up")
    for path in (base, base.parent, base.parent.parent):
        path.chmod(0o755)
    return base / "data"


@pytest.fixture(scope="module")
def one(folder: Path) -> Iterator[Running]:
    with running(folder) as up:
        yield up


def test_up__fresh_directory__says_where_and_how_to_sign_in(one: Running, folder: Path) -> None:
    password = (folder / "admin-password").read_text()

    assert f"Sign in as admin with the password {password}" in one.log
    assert one.status("/readyz") == 200


def test_up__fresh_directory__keeps_secrets_to_the_owner(one: Running, folder: Path) -> None:
    secrets = ["admin-password", "secret-key", "postgres/password", "valkey/password", "valkey/valkey.conf"]

    assert {name: (folder / name).stat().st_mode & 0o777 for name in secrets} == dict.fromkeys(secrets, 0o600)


def test_up__directory_in_use__names_the_other_one(one: Running, folder: Path) -> None:
    second = refused(folder)

    assert second.returncode == 1
    assert second.stderr.strip().endswith(f"is already running on {folder}: {one.url} (pid {one.process.pid}).")


def test_up__port_in_use__says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        second = refused(tmp_path / "data", f"--port={port}")

    assert second.returncode == 1
    assert second.stderr.startswith(f"Port {port} of 127.0.0.1 is in use")


def database_answers(folder: Path) -> bool:
    try:
        psycopg.connect(kept_environment(folder)["DATABASE_URL"], connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("name", CHILDREN)
def test_up__child_killed__starts_it_again(one: Running, folder: Path, name: str) -> None:
    before = eventually(lambda: one.child(CHILDREN[name]))

    os.kill(before, signal.SIGKILL)

    eventually(lambda: one.child(CHILDREN[name]) not in (0, before))
    eventually(lambda: database_answers(folder))  # readiness lasts for some seconds without it
    eventually(lambda: one.status("/readyz") == 200)
    assert f"{name:<10} | died (killed by SIGKILL)" in one.log


def test_token__beside_a_running_up__prints_one_that_is_kept_as_a_digest_only(one: Running, folder: Path) -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "token", "create", "deploy-bot", "--role", "operator"],
        env=environment(TIDEGATE_DATA_DIR=str(folder)),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("tgo_")
    assert made.stdout.count("\n") == 1


def test_up__sigterm__exits_0_and_leaves_no_process(one: Running, folder: Path) -> None:
    for part in CHILDREN.values():
        eventually(partial(one.child, part))  # those killed before are back
    family = {pid: command_line(pid) for pid in family_of(one.process.pid)}

    code = one.stop()

    assert code == 0
    assert len(family) >= len(CHILDREN)
    eventually(lambda: not [line for pid, line in family.items() if command_line(pid) == line])


def test_up__killed_itself__leaves_no_process_and_starts_again(folder: Path) -> None:
    with running(folder) as second:
        family = {pid: command_line(pid) for pid in family_of(second.process.pid)}

        second.process.kill()

        deadline = time.monotonic() + LEFT_S
        while alive := {pid: line for pid, line in family.items() if command_line(pid) == line}:
            assert time.monotonic() < deadline, alive
            time.sleep(0.1)
    with running(folder) as third:
        assert f"Sign in as admin with the password in {folder}/admin-password" in third.log
        assert third.stop() == 0


def test_up__database_out_of_reach__says_so_without_the_password(tmp_path: Path) -> None:
    second = refused(tmp_path / "data", DATABASE_URL="postgresql://anna:hunter22@127.0.0.1:1/tidegate")

    assert second.returncode == 1
    assert second.stderr.startswith("PostgreSQL at 127.0.0.1:1/tidegate, named by DATABASE_URL, can't be used:")
    assert "hunter22" not in second.stderr + second.stdout


def test_up__valkey_out_of_reach__says_so_without_the_password(tmp_path: Path) -> None:
    second = refused(tmp_path / "data", VALKEY_URL="redis://:hunter22@127.0.0.1:1/0")

    assert second.returncode == 1
    assert second.stderr.startswith("Valkey at 127.0.0.1:1/0, named by VALKEY_URL, can't be used:")
    assert "hunter22" not in second.stderr + second.stdout


def test_up__data_of_another_postgresql__says_what_to_do(tmp_path: Path) -> None:
    data = tmp_path / "data" / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")

    second = refused(tmp_path / "data")

    assert second.returncode == 1
    assert f"{data} belongs to PostgreSQL 16, this is 18" in second.stderr


def test_up__folder_that_cant_be_made__says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    second = refused(tmp_path / "file" / "data")

    assert second.returncode == 1
    assert "can't hold the data" in second.stderr


def test_up__trace_with_a_bad_row__says_which(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("0,10,20\n1,ten,20\n")

    second = refused(tmp_path / "data", f"--trace={trace}")

    assert second.returncode == 1
    assert f"{trace}, line 2: the input tokens 'ten'" in second.stderr


def test_up__servers_named__uses_them_and_starts_none_of_its_own(tmp_path: Path) -> None:
    cluster = os.environ["DATABASE_URL"]
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS named WITH (FORCE)")
        connection.execute("CREATE DATABASE named")
    named = cluster.rpartition("/")[0] + "/named"

    with running(tmp_path / "data", DATABASE_URL=named, VALKEY_URL=os.environ["VALKEY_URL"]) as up:
        children = [command_line(pid) for pid in family_of(up.process.pid)]
        code = up.stop()

    assert code == 0
    assert not [line for line in children if "postgres -D" in line or "valkey-server" in line]
    assert not (tmp_path / "data" / "postgres").exists()
