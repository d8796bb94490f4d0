"""What several who read the same value of a space are given, with a store that is only futures."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest

from tidegate.state.keeping import State
from tidegate.state.memory import Memory
from tidegate.state.space import Space


class Store:
    """Answers what is asked of it when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], Future[Any]]] = []
        self.state = State(Memory(clock=lambda: 1000.0), self._submit)
        self.state.memory.know_scope("acme")
        self.state.memory.trust()

    def _submit(self, op: dict[str, Any]) -> Future[Any]:
        answer: Future[Any] = Future()
        self.asked.append((op, answer))
        return answer

    def answer(self, value: Any, version: int = 1) -> None:
        op, answer = self.asked.pop(0)
        answer.set_result({"items": {key: {"v": value, "n": version} for key in op["keys"]}})


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def space(store: Store) -> Space:
    return store.state.user("u-1")


def test_get__two_who_waited_for_one_load__have_values_of_their_own(store: Store, space: Space) -> None:
    async def read() -> tuple[Any, Any]:
        first, second = asyncio.create_task(space.aget("a")), asyncio.create_task(space.aget("a"))
        await asyncio.sleep(0)
        store.answer({"x": 1})
        return await first, await second

    first, second = asyncio.run(read())
    first["x"] = 2

    assert second == {"x": 1}
    assert space.get("a") == {"x": 1}
    assert store.asked == []


def test_get_many__what_was_loaded__is_changed_without_changing_what_is_remembered(store: Store, space: Space) -> None:
    async def read() -> dict[str, Any]:
        asked = asyncio.create_task(space.aget_many(["a", "b"]))
        await asyncio.sleep(0)
        store.answer([1])
        return await asked

    asyncio.run(read())["a"].append(2)

    assert space.get_many(["a", "b"]) == {"a": [1], "b": [1]}


def test_get__one_key_and_then_another__each_has_its_own(store: Store, space: Space) -> None:
    for key, value in (("a", 1), ("b", 2)):
        store.state.load(space, [key])
        store.answer(value)

    assert [space.get(key) for key in "abbaab"] == [1, 2, 2, 1, 1, 2]
    assert asyncio.run(space.aget("a")) == 1


def test_get__a_change_was_told_of_between_two_reads__asks_again(store: Store, space: Space) -> None:
    store.state.load(space, ["a"])
    store.answer(1)
    first = space.get("a")
    store.state.memory.told_of(space.place("a"), 2)
    store.state.load(space, ["a"])
    store.answer(2, version=2)

    assert (first, space.get("a")) == (1, 2)


def test_get__known_to_be_absent__is_the_default_of_each_read(store: Store, space: Space) -> None:
    store.state.load(space, ["a"])
    store.asked.pop(0)[1].set_result({"items": {}})

    assert [space.get("a", 1), space.get("a", 2), space.get("a")] == [1, 2, None]
    assert "a" not in space


@pytest.mark.parametrize("number", [1.5, True, "1", 2**53, -(2**53), None])
def test_incr__not_a_whole_number_that_every_reader_counts__is_refused_before_it_is_sent(
    store: Store, space: Space, number: Any
) -> None:
    with pytest.raises(ValueError, match="by is a whole number"):
        space.incr("n", number)
    with pytest.raises(ValueError, match="version is a whole number"):
        space.cas("n", 1, number)

    assert store.asked == []
