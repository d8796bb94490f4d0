"""Slots move between real engines while callers write, and the mover is killed again and again."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

import tidegate
from tests.state.served import ROOT, Served, eventually, served, start_postgres, start_valkey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
OWNERS = 400


@pytest.fixture
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("state")) as made:
        made.serve()
        made.serve()
        yield made


class Writers:
    """Threads that write through two servers, and remember what was acknowledged: counters, lists and values."""

    def __init__(self, gates: list[tidegate.Gate], kind: str) -> None:
        self._gates = gates
        self._kind = kind
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(4)
        self.counted: Counter[str] = Counter()
        self.last: dict[str, int] = {}
        self.failed: list[BaseException] = []
        self._work = [self._pool.submit(self._write, number) for number in range(4)]

    def space(self, owner: str) -> tidegate.Space:
        made: tidegate.Space = getattr(self._gates[hash(owner) % 2].state, self._kind)(owner)
        return made

    def _write(self, number: int) -> None:
        chance = random.Random(number)
        turn = 0
        while not self._stop.is_set():
            turn += 1
            time.sleep(0.002)
            owner = f"{self._kind}-{number}-{chance.randrange(OWNERS // 4)}"
            try:
                if self.space(owner).incr("n") != self.counted[owner] + 1:
                    raise AssertionError(f"{owner} was counted wrongly")
                self.counted[owner] += 1
                self.space(owner).set("last", turn)
                self.last[owner] = turn
                if self.space(owner).get("last") != turn:
                    raise AssertionError(f"{owner} does not read what it wrote")
            except BaseException as error:  # noqa: BLE001
                self.failed.append(error)
                return

    def end(self) -> None:
        self._stop.set()
        for work in self._work:
            work.result(30)
        self._pool.shutdown()


def progress(plane: Served, job: int) -> tuple[str, int]:
    with psycopg.connect(plane.database_url) as connection:
        row = connection.execute("SELECT phase, slots_done FROM state_rebalancing WHERE id = %s", [job]).fetchone()
        assert row is not None
        return row[0], row[1]


def rebalance_and_kill(plane: Served, kind: str, chance: random.Random, **how: object) -> int:
    """Start a rebalancing and kill its mover five times while it is at work; return how many slots were moved then."""
    job = plane.api("POST", "state/rebalancings/", {"kind": kind, "slots_per_s": 10_000, **how})["id"]
    for _ in range(5):
        _, before = progress(plane, job)
        mover = subprocess.Popen([sys.executable, str(ROOT / "manage.py"), "rebalance"], env=plane.env)
        while progress(plane, job)[1] == before:
            time.sleep(0.02)
        time.sleep(chance.random() / 4)
        mover.kill()
        mover.wait()
    phase, killed_at = progress(plane, job)
    assert phase == "running"
    plane.manage("rebalance")
    assert progress(plane, job)[0] == "done"
    return killed_at


def check(plane: Served, writers: Writers, gates: list[tidegate.Gate]) -> None:
    assert writers.failed == []
    assert len(writers.counted) > 50
    for gate in gates:
        gate.state.memory.forget_all()
    for owner, count in writers.counted.items():
        assert writers.space(owner).all() == {"n": count, "last": writers.last[owner]}, owner


def keys_in(urls: list[str]) -> list[Counter[str]]:
    found = []
    for url in urls:
        with psycopg.connect(url) as connection:
            rows = connection.execute("SELECT owner FROM state_entry WHERE value IS NOT NULL AND kind > 0").fetchall()
        found.append(Counter(owner for (owner,) in rows))
    return found


def test_databases__two_are_added_and_one_is_emptied_while_movers_are_killed__no_key_is_lost_or_there_twice(
    plane: Served,
) -> None:
    chance = random.Random(1)
    second, url_2 = start_postgres(plane.folder / "second")
    third, url_3 = start_postgres(plane.folder / "third")
    gates = [plane.connect(plane.key_of("acme"), url) for url in plane.urls]
    writers = Writers(gates, "user")
    try:
        plane.api("POST", "state/nodes/", {"kind": "database", "name": "db-2", "url": url_2})
        plane.api("POST", "state/nodes/", {"kind": "database", "name": "db-3", "url": url_3, "weight": 2})
        planned = plane.api("GET", "state/rings/database/plan")
        killed_at = rebalance_and_kill(plane, "database", chance)
        grown = plane.api("GET", "state/nodes/")["items"]
        plane.api("POST", "state/rebalancings/", {"kind": "database", "slots_per_s": 10_000, "without": ["db-2"]})
        plane.manage("rebalance")
        writers.end()
        check(plane, writers, gates)
        urls = [plane.database_url, url_2, url_3]
        held = keys_in(urls)
        plane.api("DELETE", "state/nodes/database/db-2/")
    finally:
        writers.end()
        second.end()
        third.end()

    shares = {node["name"]: node["slots"] for node in grown if node["kind"] == "database"}
    assert 0 < killed_at < 768
    assert planned["after"] == {"main": 256, "db-2": 256, "db-3": 512} == shares
    assert planned["slots_moving"] == 768
    assert not held[1]
    assert not set(held[0]) & set(held[2])
    assert set(held[0]) | set(held[2]) == set(writers.counted)


def test_caches__one_is_added_while_movers_are_killed__no_session_is_lost(plane: Served) -> None:
    second, url_2 = start_valkey(plane.folder / "second")
    gates = [plane.connect(plane.key_of("acme"), url) for url in plane.urls]
    writers = Writers(gates, "session")
    try:
        plane.api("POST", "state/nodes/", {"kind": "cache", "name": "cache-2", "url": url_2})
        eventually(lambda: status(plane, "cache-2") != "starting")
        killed_at = rebalance_and_kill(plane, "cache", random.Random(2))
        writers.end()
        check(plane, writers, gates)
        there = {plane.valkey_url: set(sessions_in(plane.valkey_url)), url_2: set(sessions_in(url_2))}
    finally:
        writers.end()
        second.end()

    assert 0 < killed_at < 512
    assert len(there[url_2]) > 10
    assert not there[plane.valkey_url] & there[url_2]
    assert there[plane.valkey_url] | there[url_2] == set(writers.counted)


def status(plane: Served, name: str) -> str:
    return next(str(node["status"]) for node in plane.api("GET", "state/nodes/")["items"] if node["name"] == name)


def sessions_in(url: str) -> list[str]:
    with redis.Redis.from_url(url, decode_responses=True) as valkey:
        return [str(key).split(":", 4)[4] for key in valkey.scan_iter("tgs:1:s:*")]


def test_remove__a_node_that_serves__is_refused(plane: Served) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        plane.api("DELETE", "state/nodes/database/main/")

    assert refused.value.code == 409


def test_add__a_server_that_is_a_node_already__is_refused_under_any_name(
    plane: Served, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Slots would be moved from a database to itself, without end."""
    other, other_url = start_postgres(tmp_path_factory.mktemp("db-2"))
    try:
        plane.api("POST", "state/nodes/", {"kind": "database", "name": "db-2", "url": other_url})
        refused = []
        for kind, url in [
            ("database", other_url),
            ("database", other_url.replace("127.0.0.1", "localhost") + "?application_name=another"),
            ("database", plane.database_url),
            ("cache", plane.valkey_url),
        ]:
            with pytest.raises(urllib.error.HTTPError) as error:
                plane.api("POST", "state/nodes/", {"kind": kind, "name": "again", "url": url})
            refused.append((error.value.code, json.loads(error.value.read())["detail"]))
    finally:
        other.end()

    assert refused == [
        (409, "That server is the node db-2 already."),
        (409, "That server is the node db-2 already."),
        (409, "That server is the node main already."),
        (409, "That server is the node main already."),
    ]
    assert sorted(node["name"] for node in plane.api("GET", "state/nodes/")["items"]) == ["db-2", "main", "main"]
