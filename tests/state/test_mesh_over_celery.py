"""A mesh whose agents work in a Celery worker: another process, brought its errands by a real queue on Valkey, which may be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

import tidegate
from tests.state import celery_agents
from tests.state.celery_agents import CALL_NUSD, sending_mesh_of
from tests.state.served import ROOT, Served, Server, eventually, served
from tidegate.patterns import Mesh, RunCancelled, RunLate, StepFailed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("mesh")) as made:
        made.serve()
        yield made


@pytest.fixture(scope="module")
def key(plane: Served) -> str:
    return plane.key_of("acme")


@pytest.fixture(scope="module")
def worker(plane: Served, key: str) -> Iterator[Server]:
    env = {
        **plane.env,
        "TIDEGATE_URL": plane.urls[0],
        "TIDEGATE_KEY": key,
        "TIDEGATE_CACHE_DIR": "",
        "CELERY_BROKER_URL": plane.valkey_url,
    }
    command = [
        *(sys.executable, "-m", "celery", "--quiet", "-A", "tests.state.celery_agents", "worker"),
        *("--pool", "threads", "--concurrency", "4", "--loglevel", "warning"),
    ]
    made = Server(command, ready=lambda: None, env=env, cwd=ROOT)
    yield made
    with contextlib.suppress(ProcessLookupError):
        made.kill()


@pytest.fixture
def gate(plane: Served, key: str) -> Iterator[tidegate.Gate]:
    with tidegate.connect(plane.urls[0], key, app="coordinator", cache_dir="") as made:
        yield made


@pytest.fixture
def mesh(plane: Served, worker: Server, gate: tidegate.Gate) -> Mesh:
    return sending_mesh_of(gate, plane.valkey_url)


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


async def until(file: Path, line: str) -> None:
    """Wait until a process elsewhere has noted a line."""
    await asyncio.to_thread(eventually, lambda: line in lines(file), patience_s=60)


async def spent(mesh: Mesh, run: str) -> int:
    return sum(step.presumed_nusd for step in (await mesh.board(run).steps()).values())


def spans_of(plane: Served, run: str, wanted: int) -> dict[str, dict[str, Any]]:
    """Return the spans of a run by name, once there are as many as are wanted."""

    def ask() -> list[dict[str, Any]]:
        with psycopg.connect(plane.database_url, row_factory=dict_row) as connection:
            query = (
                "SELECT trace_id, span_id, parent_span_id, name, service FROM telemetry_span"
                " WHERE trace_id = (SELECT max(trace_id) FROM telemetry_span WHERE session = %s)"
            )
            return connection.execute(query, [run]).fetchall()

    eventually(lambda: len(ask()) >= wanted)
    return {span["name"]: span for span in ask()}


async def test_run__agents_in_a_worker__work_there_and_are_one_trace(plane: Served, mesh: Mesh, tmp_path: Path) -> None:
    result = await mesh.run("whole", "coordinator", {"folder": str(tmp_path)}, usd="0.02", timeout_s=90)

    there = {result[step]["pid"] for step in ("tides", "moon", "report", "check")}
    assert len(there) == 1
    assert there.isdisjoint({os.getpid()})
    assert result["coordinator"] == os.getpid()
    assert result["report"]["of"] == ["moon", "tides"]
    assert result["check"]["valid"]
    assert await spent(mesh, "whole") == 5 * CALL_NUSD  # the coordinator, research twice, subtask, validator
    # invoke_workflow, invoke_agent 6 times, execute_tool, and 5 calls
    spans = spans_of(plane, "whole", 13)
    by_id = {span["span_id"]: span["name"] for span in spans.values()}
    parents = {name: by_id.get(span["parent_span_id"], "") for name, span in spans.items()}
    assert parents["invoke_workflow m"] == ""
    assert parents["invoke_agent coordinator"] == "invoke_workflow m"
    for agent in ("research", "builder", "validator"):
        assert parents[f"invoke_agent {agent}"] == "invoke_agent coordinator"
        assert spans[f"invoke_agent {agent}"]["service"] == "agents"
    assert parents["invoke_agent subtask"] == "invoke_agent builder"
    assert parents["execute_tool measure"] == "invoke_agent validator"


async def test_run__agents_that_run_away_in_a_worker__spend_no_more_than_the_run_may(plane: Served, mesh: Mesh) -> None:
    """Three take along $0.002 each where the run has $0.005: it ends before the call that it could not afford."""
    with pytest.raises((tidegate.BudgetExhausted, StepFailed), match=r"left of|may make"):
        await mesh.run("runaway", "spending", usd="0.005", timeout_s=90)

    money = await spent(mesh, "runaway")
    assert CALL_NUSD <= money <= 5_000_000
    assert sum(step.calls for step in (await mesh.board("runaway").steps()).values()) * CALL_NUSD == money


async def test_run__worker_killed_in_the_middle__goes_on_from_what_was_done_and_repeats_no_effect(
    mesh: Mesh, worker: Server, tmp_path: Path
) -> None:
    (tmp_path / "die").touch()
    running = asyncio.create_task(
        mesh.run("killed", "coordinator", {"folder": str(tmp_path)}, usd="0.02", timeout_s=180)
    )
    await asyncio.to_thread(eventually, lambda: lines(tmp_path / "pid"), patience_s=60)
    assert worker.process is not None
    assert lines(tmp_path / "pid") == [str(worker.process.pid)]

    worker.kill()
    (tmp_path / "die").unlink()
    worker.start()
    result = await running

    report = result["report"]
    assert report["attempt"] >= 2
    assert report["pid"] == worker.process.pid
    assert (report["part"], report["mail"]) == ("a part", "sent")
    assert lines(tmp_path / "mails") == ["killed/mail"]
    assert len(lines(tmp_path / "subtasks")) == 1
    assert await spent(mesh, "killed") == 5 * CALL_NUSD  # as if nobody had been killed


async def test_run__cancelled__ends_what_a_worker_is_at(mesh: Mesh, plane: Served, key: str, tmp_path: Path) -> None:
    file = tmp_path / "sleeper"
    running = asyncio.create_task(mesh.run("cancelled", "sleeper", str(file), usd="0.01", timeout_s=90))
    await until(file, "begun")

    with tidegate.connect(plane.urls[0], key, app="operator", cache_dir="", traces=False) as other:
        await celery_agents.mesh_of(other).cancel("cancelled", "nobody needs it")

    with pytest.raises(RunCancelled, match="nobody needs it"):
        await running
    await until(file, "ended")


async def test_run__beyond_its_deadline__ends_what_a_worker_is_at(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "sleeper"

    with pytest.raises((RunLate, StepFailed), match="deadline"):
        await mesh.run("late", "sleeper", str(file), usd="0.01", timeout_s=8)

    await until(file, "ended")
