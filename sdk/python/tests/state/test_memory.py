from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from tidegate.core.partition import hash_of
from tidegate.state.keeping import State
from tidegate.state.memory import (
    JITTER,
    LIFE_S,
    LIVES_PER_S,
    MAX_FLAT,
    MAX_WORDS,
    OVERHEAD,
    TRUST_S,
    Loaded,
    Memory,
    Place,
)
from tidegate.state.near import ABSENT, MISS, Near


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
    loaded = Loaded(value, version, left_s)
    memory.keep(place(key), loaded, generation=memory.generation)


@pytest.mark.parametrize(
    "text",
    [
        '{"x": [1]}',
        '{"x": 1}',
        "[1, 2]",
        '[{"x": 1}, {"x": [1]}]',
        "{}",
        "[]",
        json.dumps(dict.fromkeys(map(str, range(99)))),
    ],
)
def test_get__what_was_kept__is_a_copy_all_the_way_down(memory: Memory, text: str) -> None:
    keep(memory, "a", json.loads(text))

    _spoil(memory.get(place("a")))

    assert memory.get(place("a")) == json.loads(text)


def _spoil(value: object) -> None:
    """Change everything in a value that can be changed."""
    if isinstance(value, dict):
        for inner in value.values():
            _spoil(inner)
        value["spoilt"] = True
    elif isinstance(value, list):
        for inner in value:
            _spoil(inner)
        value.append("spoilt")


@pytest.mark.parametrize("value", ["text", 7, 0.5, True, False, None])
def test_get__what_can_not_be_changed__is_what_was_kept(memory: Memory, value: object) -> None:
    keep(memory, "a", value)

    assert memory.get(place("a"), "default") is value


def test_get__known_to_be_absent__is_no_miss(memory: Memory) -> None:
    memory.keep(place("a"), Loaded(ABSENT, 0, None), generation=memory.generation)

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
    memory.keep(place("a", "u-2"), Loaded(2, 1, None), generation=memory.generation)
    before = memory.generation

    memory.told([(f"{hash_of('acme', 'user', 'u-1'):016x}", 0)])
    memory.keep(place("b"), Loaded(1, 1, None), generation=before)

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


@pytest.mark.parametrize("value", [[1], "text", {"a": {"b": 1}}])
@pytest.mark.parametrize(
    "forget",
    [
        lambda memory: memory.told([(name("a"), 2)]),
        lambda memory: memory.told([(f"{hash_of('acme', 'user', 'u-1'):016x}", 0)]),
        lambda memory: memory.forget(place("a")),
        Memory.forget_all,
        Memory.renew,
        lambda memory: [keep(memory, f"k{number}", "x" * 100) for number in range(100)],
    ],
    ids=["told", "erased", "own", "all", "forked", "evicted"],
)
def test_take__an_entry_that_was_forgotten_since__is_a_miss(
    memory: Memory, forget: Callable[[Memory], object], value: object
) -> None:
    space = State(memory, lambda op: Future()).user("u-1")
    keep(memory, "a", value, version=1)
    before = [space.get("a") for _ in range(3)]  # from the third on it is lent

    space._used = memory._entries[place("a")]._used = False
    forget(memory)
    memory.trust()

    assert before == [value] * 3
    assert space._take("a", None) is MISS
    assert space._kept is ABSENT  # what it was lent is held by nobody


def test_get__one_space_reads_two_keys__each_gets_its_own_and_the_one_that_it_reads_more_is_lent(
    memory: Memory,
) -> None:
    space = State(memory, lambda op: Future()).user("u-1")
    keep(memory, "a", "of a")
    keep(memory, "b", "of b")

    found = [space.get(key) for key in "aaabababbb"]

    assert found == [f"of {key}" for key in "aaabababbb"]
    assert space._take("b", None) == "of b"
    assert (memory._entries[place("a")].holder, memory._entries[place("b")].holder) == (None, space)


def test_get__two_spaces_of_one_user__both_read_and_both_forget(memory: Memory) -> None:
    state = State(memory, lambda op: Future())
    spaces = state.user("u-1"), state.user("u-1")
    keep(memory, "a", 1)
    for space in spaces:
        assert [space.get("a") for _ in range(3)] == [1, 1, 1]

    memory.told([(name("a"), 2)])

    assert [space._take("a", None) for space in spaces] == [MISS, MISS]
    assert memory.get(place("a")) is MISS


def test_get__nobody_vouches_or_the_life_is_over__what_was_lent_is_a_miss(memory: Memory, clock: Clock) -> None:
    space = State(memory, lambda op: Future()).user("u-1")
    keep(memory, "a", 1)
    lent = [space.get("a") for _ in range(3)]

    memory.distrust()
    silent = space._take("a", None)
    memory.trust()
    again = space._take("a", None)
    clock.now += LIFE_S
    memory.trust()

    assert (lent, silent, again) == ([1, 1, 1], MISS, 1)
    assert space._take("a", None) is MISS


def test_keep__more_than_fits__what_is_read_where_it_was_lent_stays(memory: Memory) -> None:
    space = State(memory, lambda op: Future()).user("u-1")
    keep(memory, "k0", "x" * 100)
    memory.lend(place("k0"), space)

    for number in range(1, 100):
        keep(memory, f"k{number}", "x" * 100)
        assert space._take("k0", None) == "x" * 100

    assert memory.bytes <= 10_000
    assert memory.get(place("k1")) is MISS


def test_get__nothing_may_be_lent__reads_are_the_same(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.state.memory.LENDS", False)
    space = State(memory, lambda op: Future()).user("u-1")
    keep(memory, "a", {"x": [1]})
    memory.lend(place("a"), space)

    assert [space.get("a") for _ in range(4)] == [{"x": [1]}] * 4
    assert space._take("a", None) is MISS
    assert memory.take_hits() == {(None, "user"): 4}


def test_get__many_threads_and_keys_of_one_space__nobody_gets_what_is_of_another_key() -> None:
    memory = Memory(20_000)
    memory.know_scope("acme")
    memory.trust()
    memory.trusted_until += 1000
    space = State(memory, lambda op: Future()).user("u-1")
    keys, wrong, over = [f"k{number}" for number in range(4)], list[object](), threading.Event()

    def write() -> None:
        version = 0
        while not over.is_set():
            version += 1
            for key in keys:
                keep(memory, key, key, version)
                space._used = False
                memory.lend(place(key), space)
            memory.told([(name(keys[version % 4]), version + 1)])

    def read() -> None:
        chance = random.Random(threading.get_ident())
        for _ in range(4_000):
            key = chance.choice(keys)
            value = space._take(key, None)
            if value is MISS:
                value = memory.read(place(key), None, space)
            if value not in (key, MISS):
                wrong.append((key, value))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        writer, readers = threading.Thread(target=write), [threading.Thread(target=read) for _ in range(3)]
        for thread in (writer, *readers):
            thread.start()
        for thread in readers:
            thread.join()
        over.set()
        writer.join()
    finally:
        sys.setswitchinterval(interval)

    assert wrong == []


def test_keep__lives_of_many__end_at_a_few_times_and_none_later_than_it_should(memory: Memory, clock: Clock) -> None:
    for number in range(200):
        memory.keep(place("a", f"u-{number}"), Loaded(1, 1, None), generation=memory.generation)
        memory.get(place("a", f"u-{number}"))

    ends = {entry._until for entry in memory._entries.values()}

    assert len(ends) <= 1 + LIFE_S * JITTER * LIVES_PER_S
    assert clock.now + LIFE_S * (1 - JITTER) - 1 / LIVES_PER_S <= min(ends) <= max(ends) <= clock.now + LIFE_S


def test_space__what_a_read_looks_at__comes_first_in_it_and_fills_a_line_of_the_cache(memory: Memory) -> None:
    space = State(memory, lambda op: Future()).session("s-1")

    assert (type(space).__mro__[-2], object.__basicsize__ + 8 * len(Near.__slots__)) == (Near, 56)
    assert sys.getsizeof(space) == 96  # 16 of them are the collector's


def test_keep__flat_dicts_with_fields_of_the_same_name__share_the_names(memory: Memory) -> None:
    for owner in ("u-1", "u-2"):
        memory.keep(place("a", owner), Loaded(json.loads('{"tone": 1}'), 1, None), generation=memory.generation)

    first, second = (next(iter(memory.get(place("a", owner)))) for owner in ("u-1", "u-2"))

    assert first is second


def test_keep__more_names_than_are_shared__forgets_some_and_keeps_what_was_kept(clock: Clock) -> None:
    memory = Memory(clock=clock)
    memory.trust()

    for number in range(3 * MAX_WORDS):
        keep(memory, f"k{number}", {f"field {number}": number})

    assert memory.get(place("k0")) == {"field 0": 0}
    assert len(memory._words) <= MAX_WORDS + MAX_FLAT


def test_take_hits__of_a_space_from_before_a_fork__are_the_childs_own(memory: Memory) -> None:
    space = State(memory, lambda op: Future()).user("u-1")
    keep(memory, "a", 1)
    space.get("a")

    memory.renew()
    memory.trust()
    keep(memory, "a", 1)
    space.get("a")

    assert memory.take_hits() == {(None, "user"): 1}
