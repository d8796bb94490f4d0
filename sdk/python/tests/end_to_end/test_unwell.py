"""A gate whose server is away, hangs, lies or restarts: nothing is lost and nothing overspent."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import tidegate
from sdk.python.tests.end_to_end.calling import CALL, COST_NUSD, free_port, spend
from tidegate.testing import KEY, FakeControlPlane


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


def test_close__one_conversation_fails_at_its_end__is_said_and_the_others_finish(
    plane: FakeControlPlane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise KeyError("a fault of ours")

    gate = plane.connect()
    monkeypatch.setattr(gate._background._shipper, "finish", broken)
    spend(gate)

    gate.close(timeout_s=5)

    assert "traces: KeyError: 'a fault of ours'" in caplog.text
    assert plane.total("calls") == 1


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


def test_sync__the_incarnation_was_given_up__another_one_goes_on_with_leases_of_its_own(
    plane: FakeControlPlane, tmp_path: Path
) -> None:
    plane.put_budget("all", "1.00")
    gate = tidegate.connect(plane.url, KEY, journal=tmp_path, cache_dir=None, wait_s=5)
    spend(gate)
    before = gate.status()["incarnation"]
    assert plane.wait_for(lambda p: p.syncs[-1]["leases"] and p.syncs[-1]["leases"][0]["settled"] == COST_NUSD)

    with gate.call("chat", **CALL) as call:
        plane.statuses = [410] * 3
        assert plane.wait_for(lambda p: p.syncs[-1]["incarnation"] != before)
        call.record(input_tokens=400, output_tokens=100)
    spend(gate)
    gate.close()

    after = plane.syncs[-1]["incarnation"]
    assert gate.status()["incarnation"] == after != before
    mine = {number: lease for (who, number), lease in plane.leases.items() if who == after}
    assert min(mine) > max(number for who, number in plane.leases if who == before)
    assert sum(lease.settled for lease in mine.values()) == COST_NUSD
    assert plane.total("calls") == 3
    assert not list(tmp_path.iterdir())
