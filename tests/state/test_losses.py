"""Valkey is lost: what callers see, by the contract in docs/state.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tidegate
from tests.state.served import Served, eventually, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("losses")) as made:
        made.serve()
        made.serve()
        yield made


@pytest.fixture(scope="module")
def gates(plane: Served) -> list[tidegate.Gate]:
    """Callers of two tenants: the sessions of the second are durable."""
    careless, careful = plane.key_of("careless"), plane.key_of("careful")
    plane.api("PUT", "tenants/careful/state/rule", {"durable_sessions": True})
    made = [plane.connect(careless), plane.connect(careful, plane.urls[1])]
    eventually(lambda: durable(made[1]))
    return made


def durable(gate: tidegate.Gate) -> bool:
    answer = gate.state.session("probe").read("a")
    assert answer is None
    said = gate.state.send({"op": "get", "kind": "session", "owner": "probe"}).result(5)
    return bool(said["memory"]["durable"])


def works(space: tidegate.Space, key: str) -> bool:
    try:
        space.set(key, 1)
    except tidegate.StateUnavailable:
        return False
    return True


@pytest.mark.parametrize("how", ["killed and back, empty", "away for a while"])
def test_valkey__lost__durable_sessions_go_on_and_others_start_afresh_and_hear_of_it(
    plane: Served, gates: list[tidegate.Gate], how: str
) -> None:
    names = [f"{how}-{number}" for number in range(3)]
    careless, careful = ([gate.state.session(name) for name in names] for gate in gates)
    user = gates[0].state.user("u-1")
    lost: list[str] = []
    gates[0].state.on_session_lost(lambda _tenant, session: lost.append(session))
    for number, session in enumerate([*careless, *careful]):
        session.set("a", number)
    user.set("a", "kept")

    plane.valkey.kill()
    if how == "away for a while":
        eventually(lambda: works(careless[0], "b"))
        eventually(lambda: works(careful[0], "b"))
        assert careful[1].all() == {"a": 4}
        assert careless[1].all() == {}
        assert user.read("a") is not None
    plane.valkey.start()
    eventually(lambda: works(careless[2], "c"))

    assert [session.all() for session in careful] == [
        {"a": 3, **({"b": 1} if "away" in how else {})},
        {"a": 4},
        {"a": 5},
    ]
    assert careless[0].all() == ({"b": 1} if "away" in how else {})
    assert careless[1].all() == {}
    assert careless[2].all() == {"c": 1}
    assert user.get("a") == "kept"
    assert all(session.lost for session in careless)
    assert not any(session.lost for session in careful)
    assert sorted(name for name in lost if name in names) == names


def test_valkey__a_durable_session__is_read_from_its_shadow_and_brought_up(
    plane: Served, gates: list[tidegate.Gate]
) -> None:
    session = gates[1].state.session("shadowed")
    session.set("a", {"x": 1})
    session.append("l", 1)
    plane.valkey.kill()
    plane.valkey.start()
    eventually(lambda: works(gates[1].state.session("another"), "a"))

    again = session.all()
    grown = session.append("l", 2)
    session.delete("a")

    assert again == {"a": {"x": 1}, "l": [1]}
    assert grown == 2
    assert session.all() == {"l": [1, 2]}


def test_server__killed_in_the_middle__callers_of_the_other_one_go_on(plane: Served) -> None:
    server, url = plane.serve()
    gate = plane.connect(plane.key_of("careless"), url)
    gate.state.user("u-2").set("a", 1)
    server.kill()

    with pytest.raises(tidegate.StateUnavailable):
        gate.state.user("u-2").read("a")
    other = plane.connect(plane.key_of("careless"))
    assert other.state.user("u-2").get("a") == 1
    server.start()
    assert eventually(lambda: works(gate.state.user("u-2"), "b"))
