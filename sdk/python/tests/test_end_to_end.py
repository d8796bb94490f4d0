"""A gate and a control plane over real HTTP: what is spent, held and reported adds up, whatever the server does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tidegate
from tidegate.errors import Closed
from tidegate.testing import KEY, FakeControlPlane

CALL: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 400, "max_output_tokens": 800}
BOUND_NUSD = 540_000
COST_NUSD = 120_000


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as running:
        yield running


def spend(gate: tidegate.Gate, **options: Any) -> None:
    with gate.call("chat", **{**CALL, **options}) as call:
        call.record(input_tokens=400, output_tokens=100)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# When all is well


def test_calls__with_a_budget__windows_and_leases_say_the_same_to_the_last_nano_dollar(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()

    for _ in range(100):
        spend(gate)
    gate.close()

    assert plane.total("calls") == 100
    assert plane.total("cost_nusd") == plane.settled_nusd("all") == 100 * COST_NUSD
    assert all(lease.closed for lease in plane.leases.values())


def test_calls__budget_used_up__refused_and_never_overspent(plane: FakeControlPlane) -> None:
    plane.put_budget("small", "0.001")
    gate = plane.connect()

    def spend_all() -> None:
        while True:
            spend(gate)

    with pytest.raises(tidegate.BudgetExhausted) as refused:
        spend_all()
    gate.close()

    assert refused.value.blocked_by == "acme/small"
    assert 1_000_000 - BOUND_NUSD < plane.settled_nusd("small") <= 1_000_000
    assert plane.kinds()["refused.budget_exhausted"] == 1


def test_threads_and_tasks__more_than_the_budget_allows__never_a_nano_dollar_over(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "0.05")
    plane.put_budget("users", "0.02", match={"user": "u-1"})
    plane.put_policy({"queue": {"max_concurrent": 6, "max_waiting": 100, "max_wait_ms": 5000}})
    gate = plane.connect()

    def in_thread(number: int) -> None:
        for _ in range(40):
            with contextlib.suppress(tidegate.Refused):
                spend(gate, user=f"u-{number % 2}", priority=number)

    async def in_task(number: int) -> None:
        for _ in range(40):
            with contextlib.suppress(tidegate.Refused):
                async with gate.call("chat", user=f"u-{number % 2}", **CALL) as call:
                    await asyncio.sleep(0)
                    call.record(input_tokens=400, output_tokens=100)

    async def in_loop() -> None:
        await asyncio.gather(*(in_task(number) for number in range(8)))

    threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(8)]
    threads.append(threading.Thread(target=lambda: asyncio.run(in_loop())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.close()

    assert plane.settled_nusd("all") <= 50_000_000
    assert plane.settled_nusd("users") <= 20_000_000
    assert plane.total("cost_nusd") == plane.settled_nusd("all") == plane.total("calls") * COST_NUSD
    assert plane.total("calls") + plane.total("refused") == 16 * 40
    assert all(lease.closed for lease in plane.leases.values())
    assert gate.status()["in_flight"] == gate.status()["waiting"] == 0


async def test_async__waits_for_funding_and_a_slot__the_loop_goes_on(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    plane.put_policy({"queue": {"max_concurrent": 1, "max_wait_ms": 5000}})
    gate = plane.connect()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def call() -> None:
        async with gate.call("chat", **CALL) as guarded:
            await asyncio.sleep(0.01)
            guarded.record(input_tokens=400, output_tokens=100)

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(call() for _ in range(5)))
    ticking.cancel()
    gate.close()

    assert ticks > 20
    assert plane.settled_nusd("all") == 5 * COST_NUSD


async def test_async__deadline_passes__the_body_is_cancelled_and_settled_as_a_timeout(plane: FakeControlPlane) -> None:
    plane.put_policy({"timeout_ms": 30})
    gate = plane.connect()

    async def hang() -> None:
        async with gate.call("chat"):
            await asyncio.Event().wait()

    async def hang_too(call: tidegate.Call) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as late:
        await hang()
    with pytest.raises(TimeoutError):
        await gate.arun("chat", hang_too)
    gate.close()

    assert "timeout of 30 ms" in late.value.__notes__[0]
    assert plane.kinds() == {"error.timeout": 2}


def test_policy__operator_changes_it__callers_follow_within_a_poll(plane: FakeControlPlane) -> None:
    gate = plane.connect()
    spend(gate)

    plane.put_policy({"breaker": {"mode": "forced_open"}})

    revision = plane.revision
    assert plane.wait_for(lambda _: gate.status()["config"]["revision"] == revision)
    with pytest.raises(tidegate.BreakerOpen):
        spend(gate)
    gate.close()


def test_prices__operator_changes_them__the_next_call_costs_that(plane: FakeControlPlane) -> None:
    gate = plane.connect()
    spend(gate)

    plane.put_prices({"gpt-4o-mini": {"input": 1_000_000, "output": 1_000_000}})

    revision = plane.revision
    assert plane.wait_for(lambda _: gate.status()["config"]["revision"] == revision)
    spend(gate)
    gate.close()
    assert plane.total("cost_nusd") == COST_NUSD + 500


def test_can_afford__asks_when_it_must__and_holds_nothing(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()

    assert gate.can_afford("chat", cost_usd="0.50")
    assert not gate.can_afford("chat", cost_usd="1.01")
    assert not gate.can_afford("chat", cost_usd="1.01")
    assert gate.status()["leases"][0]["held"] == 0
    gate.close()

    assert plane.kinds() == {}
    assert plane.settled_nusd("all") == 0


def test_guarded__def_and_async_def__run_as_calls(plane: FakeControlPlane) -> None:
    plane.put_policy({"retry": {"max_attempts": 2, "base_ms": 0}})
    gate = plane.connect()
    failures = [TimeoutError()]

    @gate.guarded("chat", model="gpt-4o-mini")
    def answer(question: str, *, call: tidegate.Call) -> str:
        """Answers."""
        if failures:
            raise failures.pop()
        call.record(input_tokens=400, output_tokens=100)
        return question.upper()

    @gate.guarded("chat")
    async def answer_later(question: str) -> str:
        return question.upper()

    assert answer("why") == "WHY"
    assert answer.__doc__ == "Answers."
    assert asyncio.run(answer_later("how")) == "HOW"
    gate.close()

    assert (plane.total("calls"), plane.total("retries"), plane.total("cost_nusd")) == (2, 1, COST_NUSD)


def test_traces__calls_refusals_and_attempts__spans_that_belong_together(plane: FakeControlPlane) -> None:
    plane.put_policy({"retry": {"max_attempts": 2, "base_ms": 0}})
    plane.put_policy({"breaker": {"mode": "forced_open"}}, route="shut")
    gate = plane.connect()
    failures = [TimeoutError()]

    def body(call: tidegate.Call) -> None:
        if failures:
            raise failures.pop()
        with gate.call("inner", user="u-1", session="s-1", category="support", **CALL) as inner:
            inner.record(input_tokens=400, output_tokens=100)

    gate.run("outer", body, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    with pytest.raises(tidegate.BreakerOpen):
        gate.run("shut", body)
    gate.close()

    spans = {span["name"]: span for span in plane.spans}
    outer, inner = spans["outer"], spans["inner gpt-4o-mini"]
    attributes = {item["key"]: next(iter(item["value"].values())) for item in inner["attributes"]}
    assert {span["traceId"] for name, span in spans.items() if name != "shut"} == {"0af7651916cd43dd8448eb211c80319c"}
    assert outer["parentSpanId"] == "b7ad6b7169203331"
    assert inner["parentSpanId"] == outer["spanId"]
    assert [spans[f"outer attempt {n}"]["parentSpanId"] for n in (1, 2)] == [outer["spanId"]] * 2
    assert [spans[f"outer attempt {n}"]["status"]["code"] for n in (1, 2)] == [2, 1]
    assert attributes == {
        "tidegate.tenant": "acme", "tidegate.route": "inner", "tidegate.category": "support", "tidegate.cost_nusd": str(COST_NUSD),
        "tidegate.retries": "0", "gen_ai.usage.input_tokens": "400", "gen_ai.usage.output_tokens": "100",
        "gen_ai.request.model": "gpt-4o-mini", "session.id": "s-1", "user.id": "u-1",
    }  # fmt: skip
    assert spans["shut"]["status"]["code"] == 2
    assert spans["shut"]["events"][0]["name"] == "tidegate.refused"


# When the server is not well


def test_connect__nobody_there__calls_pass_ungoverned_and_status_says_so() -> None:
    gate = tidegate.connect(f"http://127.0.0.1:{free_port()}", KEY, wait_s=0.2, cache_dir=None)

    spend(gate)

    status = gate.status()
    assert (status["governed"], status["connected"]) == (False, False)
    assert status["last_error"]
    gate.close()


def test_connect__nobody_there_but_a_kept_policy__governed_by_it(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.put_policy({"breaker": {"mode": "forced_open"}})
    plane.connect(cache_dir=tmp_path).close()
    plane.down()

    gate = plane.connect(cache_dir=tmp_path)

    with pytest.raises(tidegate.BreakerOpen):
        spend(gate)
    assert gate.status()["config"]["source"] == "disk"
    assert gate.status()["config"]["models"] == 1
    gate.close()


def test_connect__kept_policy_is_damaged__not_believed(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.connect(cache_dir=tmp_path).close()
    plane.down()
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes().replace(b'\\"requests\\"', b"").replace(b"revision", b"revisiom"))

    gate = plane.connect(cache_dir=tmp_path, wait_s=0.2)

    assert gate.status()["config"] is None
    gate.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"key": "tg_x"}, "url is missing"), ({"url": "http://x"}, "key is missing"), ({"url": "x:80", "key": "k"}, "written like"),
        ({"url": "http://a:b@x", "key": "k"}, "no user"), ({"url": "http://x:y", "key": "k"}, "can't be read"),
        ({"url": "http://x", "key": "a b"}, "characters that no key has"),
    ],
)  # fmt: skip
def test_connect__url_or_key_wrong__said_clearly(
    arguments: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIDEGATE_URL", raising=False)
    monkeypatch.delenv("TIDEGATE_KEY", raising=False)

    with pytest.raises(ValueError, match=said):
        tidegate.connect(**arguments)


def test_server_restarts__counts_and_leases__go_on_where_they_were(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()
    spend(gate)

    plane.down()
    for _ in range(3):
        spend(gate)
    plane.up()
    gate.close(timeout_s=5)

    assert plane.total("cost_nusd") == plane.settled_nusd("all") == 4 * COST_NUSD


def test_calls_before_the_first_policy__counted_and_owed_to_their_budgets_at_its_prices(
    plane: FakeControlPlane,
) -> None:
    plane.put_budget("all", "1.00")
    plane.down()
    gate = plane.connect(wait_s=0.01)
    for _ in range(50):
        spend(gate)
    running = gate.call("chat", **CALL)
    with running as call:
        plane.up()
        assert plane.wait_for(lambda plane: plane.total("calls") == 50)
        call.record(input_tokens=400, output_tokens=100)
    gate.close()

    assert plane.total("calls") == 51
    assert plane.total("cost_nusd") == plane.settled_nusd("all") == 51 * COST_NUSD


def test_calls_before_the_first_policy__where_they_are_to_be_refused__are(plane: FakeControlPlane) -> None:
    plane.down()
    gate = plane.connect(wait_s=0.01, without_policy="refuse")

    with pytest.raises(tidegate.Stale, match="No policy"):
        spend(gate)

    plane.up()
    assert gate._background.poller.ready.wait(5)
    spend(gate)
    gate.close()
    assert plane.total("calls") == 1


def test_connect__without_policy_that_is_neither__is_turned_down() -> None:
    with pytest.raises(ValueError, match="without_policy"):
        tidegate.connect("http://127.0.0.1:1", KEY, without_policy="maybe")  # type: ignore[arg-type]


def test_server_away__lease_runs_out__stale_and_then_well_again(plane: FakeControlPlane) -> None:
    plane.lease_ttl_ms = 200
    plane.put_budget("all", "1.00")
    gate = plane.connect()
    spend(gate)

    plane.down()
    assert plane.wait_for(lambda _: not gate.status()["leases"][0]["live"])
    with pytest.raises(tidegate.Stale):
        spend(gate)
    plane.up()

    assert plane.wait_for(lambda _: gate.status()["connected"])
    assert plane.wait_for(lambda _: gate.can_afford("chat", **CALL))
    spend(gate)
    gate.close()


def test_server_hangs__call_that_needs_funding__stale_in_good_time(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()
    hanging = threading.Event()
    plane.mangle = lambda _path, answer: hanging.wait(20) and answer

    with pytest.raises(tidegate.Stale):
        spend(gate)

    hanging.set()
    gate.close()


LIES: dict[str, Any] = {
    "not json": b"<html>hello</html>",
    "not an object": b"[1, 2]",
    "another seq": {"seq": -1},
    "no numbers": {"next_sync_ms": "soon"},
    "leases of the wrong shape": {"leases": [{"number": 1}]},
    "negative grant": {"leases": [{"number": 1, "granted": -5, "cap": 0, "ttl_ms": 1, "closed": False}]},
    "shares above one": {"shares": [{"tenant": "acme", "route": "chat", "unit": "requests", "share": 7}]},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_server_lies__answer_is_not_believed__and_nothing_is_lost(plane: FakeControlPlane, lie: Any) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()
    spend(gate)
    plane.mangle = lambda _path, answer: lie if isinstance(lie, bytes) else {**answer, **lie}
    assert plane.wait_for(lambda _: gate.status()["last_error"] is not None)
    spend(gate)

    plane.mangle = lambda _path, answer: answer
    gate.close(timeout_s=5)

    assert plane.total("cost_nusd") == plane.settled_nusd("all") == 2 * COST_NUSD


def test_server_lies__grants_shrink_and_acks_run_ahead__merged_by_maximum(plane: FakeControlPlane) -> None:
    plane.put_budget("all", "1.00")
    gate = plane.connect()
    spend(gate)
    granted = gate.status()["leases"][0]["granted"]

    plane.mangle = lambda _path, answer: {
        **answer, "windows_acked": 10**9, "leases": [{**line, "granted": 0, "ttl_ms": 0} for line in answer["leases"]],
    }  # fmt: skip
    seen = len(plane.syncs)
    assert plane.wait_for(lambda p: len(p.syncs) > seen + 2)

    assert gate.status()["leases"][0]["granted"] >= granted
    plane.mangle = lambda _path, answer: answer
    spend(gate)
    gate.close()
    assert plane.total("calls") == 2


def test_snapshot__cannot_be_compiled__the_old_one_governs_and_the_sync_says_so(plane: FakeControlPlane) -> None:
    gate = plane.connect()
    revision = gate.status()["config"]["revision"]

    plane.put_policy({"limits": "many"})

    assert plane.wait_for(lambda p: p.syncs and p.syncs[-1]["config"]["refused"] is not None)
    assert "limits: must be a list" in plane.syncs[-1]["config"]["refused"]
    assert gate.status()["config"]["revision"] == revision
    plane.put_policy({})
    assert plane.wait_for(lambda p: p.syncs[-1]["config"]["refused"] is None)
    gate.close()


def test_key_revoked__policy_stays__and_no_storm_of_requests(plane: FakeControlPlane) -> None:
    plane.put_policy({"breaker": {"mode": "forced_open"}})
    gate = plane.connect()
    plane.statuses = [401] * 100
    assert plane.wait_for(lambda _: "401" in (gate.status()["last_error"] or ""))

    with pytest.raises(tidegate.BreakerOpen):
        spend(gate)
    gate.close(timeout_s=0.3)

    assert len(plane.statuses) > 80


def test_sync__too_large__sent_in_parts(plane: FakeControlPlane) -> None:
    gate = plane.connect()
    plane.wait_for(lambda p: len(p.syncs) > 0)
    taken = plane.answer_sync

    def choosy(request: dict[str, Any]) -> dict[str, Any]:
        if len(request["windows"]) > 1:
            plane.statuses.append(413)
        return taken(request)

    plane.down()
    for second in range(4):
        gate.guard.report.skew_ms = second * 1000
        spend(gate)
    plane.answer_sync = choosy  # type: ignore[method-assign]  # a server with small pockets
    plane.up()
    gate.close(timeout_s=5)

    assert plane.total("calls") == 4


# Ends


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
    complaints = [
        line for line in done.stderr.splitlines() if not line.startswith("Executing <")
    ]  # asyncio's, of a slow machine
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
