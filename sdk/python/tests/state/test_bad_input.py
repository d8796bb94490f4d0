"""What a caller can get wrong: it is told at once and in words, and nothing is sent, kept or left waiting."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from tidegate.state import StateRefused
from tidegate.state.keeping import State
from tidegate.state.memory import Loaded, Memory
from tidegate.state.near import MISS
from tidegate.state.space import MAX_KEYS, Space
from tidegate.state.values import MAX_DEPTH, MAX_TTL_S, depth_of


class Sent(list[dict[str, Any]]):
    """What was sent; ``fails``: what comes of sending."""

    fails: Exception | None = None

    def __call__(self, op: dict[str, Any]) -> Future[Any]:
        if self.fails is not None:
            raise self.fails
        self.append(op)
        answer: Future[Any] = Future()
        answer.set_result({"items": {}, "version": 1, "result": 1, "existed": True})
        return answer


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def state(sent: Sent) -> State:
    made = State(Memory(clock=lambda: 1000.0), sent)
    made.memory.know_scope("acme")
    made.memory.trust()
    return made


@pytest.fixture
def space(state: State) -> Space:
    return state.user("u-1")


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


KEYS = ["", "k" * 201, "k" * 10_000, "a\0", "\ud800", None, 3, [], b"k"]
WAYS: list[Callable[[Space, Any], object]] = [
    lambda space, key: space.get(key),
    lambda space, key: space[key],
    lambda space, key: space.get_many([key]),
    lambda space, key: space.read(key),
    lambda space, key: space.set(key, 1),
    lambda space, key: space.cas(key, 1, 0),
    lambda space, key: space.incr(key),
    lambda space, key: space.append(key, 1),
    lambda space, key: space.delete(key),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_space__a_key_that_is_no_name__is_told_each_time_and_nothing_is_sent(
    space: Space, sent: Sent, way: Callable[[Space, Any], object], key: Any
) -> None:
    for _ in range(2):  # the first time must leave nothing behind that the second one waits for
        with pytest.raises(ValueError, match="A key is named by 1 to 200 characters"):
            way(space, key)

    assert sent == []


@pytest.mark.parametrize("tenant", ["t" * 65, "a\0b", "a:b", 5, "\ud800", []], ids=repr)
def test_session__a_tenant_that_is_no_slug__is_told(state: State, tenant: Any) -> None:
    with pytest.raises(ValueError, match="A tenant is named by its slug"):
        state.session("s-1", tenant=tenant)


@pytest.mark.parametrize("owner", ["", "o" * 201, "a\0", "\ud800", None, 5], ids=repr)
def test_session__an_id_that_is_no_name__is_told(state: State, owner: Any) -> None:
    with pytest.raises(ValueError, match="A session is named by"):
        state.session(owner)


@pytest.mark.parametrize("ttl", [-1, 0, float("nan"), float("inf"), "1", MAX_TTL_S + 1, True, [], 1e12], ids=repr)
def test_set__a_life_that_is_none__is_told_and_nothing_is_sent(space: Space, sent: Sent, ttl: Any) -> None:
    for change in (
        lambda: space.set("a", 1, ttl=ttl),
        lambda: space.cas("a", 1, 0, ttl=ttl),
        lambda: space.incr("a", ttl=ttl),
        lambda: space.append("a", 1, ttl=ttl),
    ):
        with pytest.raises(ValueError, match="ttl is in seconds, greater than 0"):
            change()

    assert sent == []


@pytest.mark.parametrize("cap", [0, -1, 1001, "5", 2.5, True, None], ids=repr)
def test_append__a_cap_that_is_none__is_told(space: Space, sent: Sent, cap: Any) -> None:
    with pytest.raises(ValueError, match="cap is a whole number from 1 to 1,000"):
        space.append("a", 1, cap=cap)

    assert sent == []


def test_cas__a_version_below_zero__is_told(space: Space, sent: Sent) -> None:
    with pytest.raises(ValueError, match="A version is not below 0"):
        space.cas("a", 1, -1)

    assert sent == []


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (float("nan"), ValueError, "not JSON compliant"),
        ([float("-inf")], ValueError, "not JSON compliant"),
        ({1, 2}, TypeError, "set is not JSON serializable"),
        (b"x", TypeError, "bytes is not JSON serializable"),
        ({(1,): 2}, TypeError, "keys must be str"),
        ("\ud800", ValueError, "half a pair of surrogates"),
        ({"\udfff": 1}, ValueError, "half a pair of surrogates"),
        (nested(MAX_DEPTH + 1), ValueError, f"nested at most {MAX_DEPTH} levels"),
        (nested(50_000), ValueError, f"nested at most {MAX_DEPTH} levels"),
        ("x" * 65_535, StateRefused, "at most 65,536 bytes"),
        ("ü" * 32_768, StateRefused, "at most 65,536 bytes"),
    ],
    ids=[
        "nan",
        "inf",
        "set",
        "bytes",
        "tuple key",
        "surrogate",
        "surrogate key",
        "deep",
        "very deep",
        "long",
        "long in bytes",
    ],
)
def test_set__a_value_that_is_not_kept__is_told_and_nothing_is_sent(
    space: Space, sent: Sent, value: Any, error: type[Exception], words: str
) -> None:
    for change in (lambda: space.set("a", value), lambda: space.cas("a", value, 0), lambda: space.append("a", value)):
        with pytest.raises(error, match=words):
            change()

    assert sent == []


@pytest.mark.parametrize(
    "value", [nested(MAX_DEPTH), [[]] * 2000, {"a": "ü" * 30_000}, "a\0b"], ids=["deep", "wide", "long", "nul"]
)
def test_set__a_value_at_the_limit__is_sent(space: Space, sent: Sent, value: Any) -> None:
    space.set("a", value)

    assert [op["value"] for op in sent] == [value]


def test_depth_of__lists_and_dicts__counts_what_is_within_each_other() -> None:
    assert [depth_of(each) for each in (1, [], {"a": [{}]}, [[], [[]]], nested(5000))] == [0, 1, 3, 3, 5000]


def test_set__the_value_is_changed_while_it_is_sent__is_kept_as_it_was_sent(space: Space, sent: Sent) -> None:
    value = {"x": [1]}

    space.set("a", value)
    value["x"].append(2)

    assert (sent[0]["value"], space.get("a")) == ({"x": [1]}, {"x": [1]})


@pytest.mark.parametrize("keys", ["abc", b"abc"])
def test_get_many__a_text_instead_of_names__is_told(space: Space, keys: Any) -> None:
    with pytest.raises(ValueError, match="keys is a list of names"):
        space.get_many(keys)


def test_get_many__more_than_one_request_may_ask_for__asks_more_than_once(space: Space, sent: Sent) -> None:
    names = [f"k{number}" for number in range(2 * MAX_KEYS + 1)]

    assert space.get_many(names) == {}
    assert [len(op["keys"]) for op in sent] == [MAX_KEYS, MAX_KEYS, 1]


def test_get__it_could_not_be_sent__the_next_who_asks_does_not_wait_for_it(space: Space, sent: Sent) -> None:
    sent.fails = RuntimeError("no thread")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no thread"):
            space.get("a")
    sent.fails = None

    assert space.get("a", "default") == "default"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copy__of_a_space_that_was_lent_a_value__forgets_it_too(
    state: State, space: Space, copied: Callable[[Space], Space]
) -> None:
    state.memory.keep(space.place("a"), Loaded(1, 1, None), generation=state.memory.generation)
    state.memory.lend(space.place("a"), space)

    another = copied(space)
    read = another.get("a")
    state.memory.told_of(space.place("a"), 2)

    assert (repr(another), read) == (repr(space), 1)
    assert another._take("a", None) is MISS
    with pytest.raises(TypeError, match="belongs to this process"):
        pickle.dumps(space)


def test_iter__of_a_space__is_its_names(space: Space, sent: Sent) -> None:
    assert list(space) == []
    assert [op["op"] for op in sent] == ["get"]
