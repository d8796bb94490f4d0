from __future__ import annotations

import marshal

import pytest

from tidegate.core.partition import hash_of
from tidegate.state.memory import ABSENT, MISS, OVERHEAD, TRUST_S, Loaded, Memory, Place


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> Memory:
    made = Memory(10_000, clock)
    made.know_scope("acme")
    made.trust()
    return made


def place(key: str, owner: str = "u-1") -> Place:
    return (None, "user", owner, key)


def name(key: str, owner: str = "u-1") -> str:
    return f"{hash_of('acme', 'user', owner, key):016x}"


def keep(memory: Memory, key: str, value: object, version: int = 1, left_s: float | None = None) -> None:
    loaded = Loaded(marshal.dumps(value), version, left_s)
    memory.keep(place(key), loaded, generation=memory.generation)


def test_get__what_was_kept__is_a_copy(memory: Memory) -> None:
    keep(memory, "a", {"x": [1]})

    memory.get(place("a"))["x"].append(2)

    assert memory.get(place("a")) == {"x": [1]}


def test_get__known_to_be_absent__is_no_miss(memory: Memory) -> None:
    memory.keep(place("a"), Loaded(None, 0, None), generation=memory.generation)

    assert memory.get(place("a")) is ABSENT
    assert memory.get(place("b")) is MISS


def test_get__nobody_vouches_any_more__is_a_miss_until_somebody_does(memory: Memory, clock: Clock) -> None:
    keep(memory, "a", 1)

    clock.now += TRUST_S
    silent = memory.get(place("a"))
    memory.trust()

    assert silent is MISS
    assert memory.get(place("a")) == 1


def test_get__a_life_is_over__is_a_miss(memory: Memory, clock: Clock) -> None:
    keep(memory, "a", 1, left_s=0.5)
    keep(memory, "b", 1)

    clock.now += 0.5

    assert memory.get(place("a")) is MISS
    assert memory.get(place("b")) == 1


def test_told__a_newer_version__forgets_it_and_keeps_nothing_older(memory: Memory) -> None:
    keep(memory, "a", "old", version=5)

    memory.told([(name("a"), 6)])
    forgotten = memory.get(place("a"))
    keep(memory, "a", "old", version=5)
    still = memory.get(place("a"))
    keep(memory, "a", "new", version=6)

    assert (forgotten, still) == (MISS, MISS)
    assert memory.get(place("a")) == "new"


def test_told__the_version_that_is_here__keeps_it(memory: Memory) -> None:
    keep(memory, "a", "mine", version=6)

    memory.told([(name("a"), 6), (name("a"), 5), (name("another"), 9)])

    assert memory.get(place("a")) == "mine"


def test_told__an_owner_was_erased__forgets_all_of_it_and_what_is_being_loaded(memory: Memory) -> None:
    keep(memory, "a", 1)
    memory.keep(place("a", "u-2"), Loaded(marshal.dumps(2), 1, None), generation=memory.generation)
    before = memory.generation

    memory.told([(f"{hash_of('acme', 'user', 'u-1'):016x}", 0)])
    memory.keep(place("b"), Loaded(marshal.dumps(1), 1, None), generation=before)

    assert memory.get(place("a")) is MISS
    assert memory.get(place("b")) is MISS
    assert memory.get(place("a", "u-2")) == 2


def test_keep__more_than_fits__lets_go_of_what_nobody_read(memory: Memory) -> None:
    for number in range(100):
        keep(memory, f"k{number}", "x" * 100)
        memory.get(place("k0"))

    assert memory.bytes <= 10_000
    assert memory.get(place("k0")) == "x" * 100
    assert memory.get(place("k1")) is MISS
    assert memory.get(place("k99")) == "x" * 100
    assert memory.evicted == 100 - len(memory)


def test_keep__larger_than_everything__is_not_kept(memory: Memory) -> None:
    keep(memory, "a", "x" * (10_000 - OVERHEAD))

    assert memory.get(place("a")) is MISS
    assert memory.bytes == 0


def test_take_hits__after_reads__counts_them_once(memory: Memory) -> None:
    keep(memory, "a", 1)
    memory.get(place("a"))
    memory.get(place("a"))
    memory.get(place("b"))

    assert memory.take_hits() == {(None, "user"): 2}
    assert memory.take_hits() == {}
