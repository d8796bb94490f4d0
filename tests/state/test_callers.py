"""``gate.state`` against real servers: two of them, on one database and one Valkey."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import tidegate
from tests.state.served import Served, eventually, served
from tidegate.state import StateRefused, StateUnavailable, VersionConflict

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
KINDS = ["session", "user", "shared"]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("state")) as made:
        made.serve()
        made.serve()
        yield made


@pytest.fixture(scope="module")
def key(plane: Served) -> str:
    return plane.key_of("acme")


@pytest.fixture(scope="module")
def here(plane: Served, key: str) -> tidegate.Gate:
    return plane.connect(key)


@pytest.fixture(scope="module")
def there(plane: Served, key: str) -> tidegate.Gate:
    """A caller of the other server."""
    return plane.connect(key, plane.urls[1])


def space(gate: tidegate.Gate, kind: str, owner: str) -> tidegate.Space:
    made: tidegate.Space = getattr(gate.state, kind)(owner)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_space__used_as_a_mapping__keeps_json(here: tidegate.Gate, kind: str) -> None:
    mine = space(here, kind, "mapping")

    mine["a"] = {"x": [1, "ü", None]}
    mine.set("b", 2)

    assert mine["a"] == {"x": [1, "ü", None]}
    assert mine.get_many(["a", "b", "c"]) == {"a": {"x": [1, "ü", None]}, "b": 2}
    assert ("b" in mine, "c" in mine) == (True, False)
    assert mine.keys() == ["a", "b"]
    del mine["b"]
    assert mine.get("b", "gone") == "gone"
    with pytest.raises(KeyError):
        mine["b"]
    assert mine.clear() == 1
    assert mine.all() == {}


async def test_space__in_an_event_loop__does_the_same(here: tidegate.Gate) -> None:
    mine = here.state.user("loop")

    version = await mine.aset("a", 1)
    changed = await mine.acas("a", 2, version)
    counts = await asyncio.gather(*(mine.aincr("n") for _ in range(10)))
    kept = [await mine.aappend("l", number, cap=2) for number in range(3)]

    assert changed > version
    assert sorted(counts) == list(range(1, 11))
    assert kept == [1, 2, 2]
    assert await mine.aget_many(["a", "l", "n"]) == {"a": 2, "l": [1, 2], "n": 10}
    assert await mine.adelete("a")
    assert await mine.aget("a") is None
    assert await mine.aclear() == 2


@pytest.mark.parametrize("kind", KINDS)
def test_get__another_caller_wrote_on_another_server__forgets_what_was_in_memory(
    here: tidegate.Gate, there: tidegate.Gate, kind: str
) -> None:
    mine, theirs = space(here, kind, "shared-reading"), space(there, kind, "shared-reading")
    theirs.set("a", 1)
    eventually(lambda: mine.get("a") == 1 and here.state.memory.version(mine.place("a")))

    theirs.set("a", 2)

    eventually(lambda: mine.get("a") == 2)
    theirs.delete("a")
    eventually(lambda: mine.get("a") is None)


def test_get__twice__is_answered_from_memory_the_second_time(here: tidegate.Gate) -> None:
    mine = here.state.session("in-memory")
    mine.set("a", {"x": 1})
    eventually(lambda: mine.get("a") and here.state.memory.version(mine.place("a")))

    first = mine.get("a")
    first["x"] = "changed by the caller"

    assert mine.get("a") == {"x": 1}


def test_get__many_callers_miss_at_once__one_asks(here: tidegate.Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = here.state.user("single-flight")
    mine.set("a", 7)
    here.state.memory.forget(mine.place("a"))
    asked, submit = [], here.state._submit
    let_go = threading.Event()

    def slow(op: dict[str, object]) -> object:
        asked.append(op)
        let_go.wait(5)
        return submit(op)

    monkeypatch.setattr(here.state, "_submit", slow)
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(mine.get, "a") for _ in range(8)]
        eventually(lambda: bool(asked))
        let_go.set()
        values = [answer.result(10) for answer in answers]

    assert values == [7] * 8
    assert len(asked) == 1


def test_cas__another_caller_was_first__raises_the_version_that_is_there(
    here: tidegate.Gate, there: tidegate.Gate
) -> None:
    mine, theirs = here.state.shared("board"), there.state.shared("board")
    mine.set("a", 1)
    read = mine.read("a")
    assert read is not None
    newer = theirs.set("a", 2)

    with pytest.raises(VersionConflict) as conflict:
        mine.cas("a", 3, read.version)

    assert conflict.value.current == newer
    assert mine.get("a") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_incr__from_many_threads_on_two_servers__counts_every_one(
    here: tidegate.Gate, there: tidegate.Gate, kind: str
) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: space((here, there)[n % 2], kind, "counter").incr("n"), range(60)))

    read = space(here, kind, "counter").read("n")
    assert read is not None
    assert read.value == 60


def test_space__of_another_tenant__is_refused_and_one_of_the_same_name_is_another(
    plane: Served, here: tidegate.Gate
) -> None:
    other = plane.connect(plane.key_of("globex"))
    other.state.user("u-1").set("secret", 1)

    assert here.state.user("u-1").get("secret") is None
    with pytest.raises(StateRefused) as refused:
        here.state.user("u-1", tenant="globex").get("secret")
    assert refused.value.status == 403


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_set__what_is_no_json__is_refused_before_it_is_sent(here: tidegate.Gate, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        here.state.user("u-1").set("a", value)


def test_set__too_much__is_refused(here: tidegate.Gate) -> None:
    with pytest.raises(StateRefused):
        here.state.user("u-1").set("a", "x" * 65_536)


def test_set__with_a_life__ends(here: tidegate.Gate) -> None:
    mine = here.state.session("short")
    mine.set("a", 1, ttl=0.05)
    mine.set("b", 1, ttl=600)

    eventually(lambda: mine.get("a") is None)
    assert mine.get("b") == 1


def test_state__in_a_forked_child__works_and_shares_nothing_of_the_parents_memory(here: tidegate.Gate) -> None:
    mine = here.state.user("forked")
    mine.set("a", 1)
    child = os.fork()
    if child == 0:  # pragma: no cover
        ok = mine.get("a") == 1 and mine.incr("n") == 1
        os._exit(0 if ok else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert mine.read("n") is not None


def test_state__no_server__raises_in_time(plane: Served, key: str) -> None:
    gate = tidegate.connect("http://127.0.0.1:9", key, wait_s=0, cache_dir=plane.folder / "cache", traces=False)
    gate.state._submit = lambda op: gate._background.courier.submit(op, 0.2)

    with pytest.raises(StateUnavailable):
        gate.state.user("u-1").get("a")
    gate.close()
    with pytest.raises(StateUnavailable):
        gate.state.user("u-1").get("a")
