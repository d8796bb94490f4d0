"""The contract of docs/state.md against a plain dict: random operations of two callers on two servers, and faults in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg import AsyncConnection

from controlplane.state import schema
from controlplane.state.actions.rules import put_rule
from controlplane.state.reach import database_url
from controlplane.state.stores.postgres import PostgresStore
from controlplane.state.stores.valkey import ValkeyStore
from controlplane.state.stores.words import Lost
from controlplane.tenancy.actions.tenants import create_tenant
from controlplane.tenancy.queries import SYSTEM
from tests.state.cleaning import forget_everything
from tests.state.two_servers import Died, World, entries, forget_cache, move_between_databases
from tidegate.core.partition import slot_of
from tidegate.state import Space, VersionConflict

OWNERS = [
    ("careless", "session", "s"), ("careful", "session", "s"), ("careful", "user", "u"), ("careless", "shared", "t"),
]  # fmt: skip
spaces = st.sampled_from(OWNERS)
keys = st.sampled_from(["a", "b"])
callers = st.integers(0, 1)
values = st.one_of(st.integers(-5, 5), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=2))


class Contract(RuleBasedStateMachine):
    """``now`` is what is kept, ``seen`` what a caller may still read from its memory: everything since it was last told."""

    url = second_url = ""

    @initialize()
    def begin(self) -> None:
        for url in (self.url, self.second_url):
            forget_everything(url)
        with psycopg.connect(self.second_url) as connection:
            connection.execute("DELETE FROM state_held")
        self.world = World(self.url, self.second_url)
        self.patches = [
            patch.object(ValkeyStore, name, self._unless_away(getattr(ValkeyStore, name)))
            for name in ("run", "mark", "begin")
        ]
        for each in self.patches:
            each.start()
        self.world.keep_up()
        self.now: dict[tuple[str, str, str], dict[str, Any]] = {owner: {} for owner in OWNERS}
        self.seen: list[dict[tuple[Any, str], list[Any]]] = [{}, {}]
        self.homes = dict.fromkeys(OWNERS, 0)

    def _unless_away(self, work: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(store: ValkeyStore, *args: Any, **how: Any) -> Any:
            if self.world.away:
                raise Lost("away")
            return await work(store, *args, **how)

        return guarded

    def teardown(self) -> None:
        if hasattr(self, "world"):
            for each in self.patches:
                each.stop()
            self.world.close()

    def space(self, caller: int, owner: tuple[str, str, str]) -> Space:
        tenant, kind, name = owner
        self.world.memories[caller].trust()
        return Space(self.world.states[caller], tenant, kind, name)

    def wrote(self, caller: int, owner: tuple[str, str, str], key: str, value: Any) -> None:
        """A value has changed: its writer sees it at once, the other may see it or what was before."""
        before = self.now[owner].get(key)
        if value is None:
            self.now[owner].pop(key, None)
        else:
            self.now[owner][key] = value
        self.seen[caller][owner, key] = []
        self.seen[1 - caller].setdefault((owner, key), []).append(before)

    # What callers do

    @rule(caller=callers, owner=spaces, key=keys, value=values)
    def set(self, caller: int, owner: tuple[str, str, str], key: str, value: Any) -> None:
        self.space(caller, owner).set(key, value)
        self.wrote(caller, owner, key, value)

    @rule(caller=callers, owner=spaces, key=keys)
    def get(self, caller: int, owner: tuple[str, str, str], key: str) -> None:
        value = self.space(caller, owner).get(key)
        allowed = [self.now[owner].get(key), *self.seen[caller].get((owner, key), [])]
        assert value in allowed, f"{value!r} is none of {allowed!r}"

    @rule(caller=callers, owner=spaces)
    def read_everything(self, caller: int, owner: tuple[str, str, str]) -> None:
        assert self.space(caller, owner).all() == self.now[owner]

    @rule(caller=callers, owner=spaces, key=keys)
    def delete(self, caller: int, owner: tuple[str, str, str], key: str) -> None:
        assert self.space(caller, owner).delete(key) == (key in self.now[owner])
        self.wrote(caller, owner, key, None)

    @rule(caller=callers, owner=spaces)
    def count(self, caller: int, owner: tuple[str, str, str]) -> None:
        expected = self.now[owner].get("n", 0) + 1
        assert self.space(caller, owner).incr("n") == expected
        self.wrote(caller, owner, "n", expected)

    @rule(caller=callers, owner=spaces, item=st.integers(0, 9))
    def append(self, caller: int, owner: tuple[str, str, str], item: int) -> None:
        expected = [*self.now[owner].get("l", []), item][-3:]
        assert self.space(caller, owner).append("l", item, cap=3) == len(expected)
        self.wrote(caller, owner, "l", expected)

    @rule(caller=callers, owner=spaces, key=keys, value=values, late=st.booleans())
    def compare_and_set(self, caller: int, owner: tuple[str, str, str], key: str, value: Any, late: bool) -> None:
        """Read a version; with ``late`` the other caller writes in between."""
        item = self.space(caller, owner).read(key)
        assert (item.value if item is not None else None) == self.now[owner].get(key)
        if late:
            self.space(1 - caller, owner).set(key, "other")
            self.wrote(1 - caller, owner, key, "other")
        try:
            self.space(caller, owner).cas(key, value, item.version if item is not None else 0)
        except VersionConflict:
            assert late
        else:
            assert not late
            self.wrote(caller, owner, key, value)

    @rule(caller=callers, owner=spaces)
    def clear(self, caller: int, owner: tuple[str, str, str]) -> None:
        assert self.space(caller, owner).clear() == len(self.now[owner])
        for key in list(self.now[owner]):
            self.wrote(caller, owner, key, None)

    @rule(caller=callers)
    def hear(self, caller: int) -> None:
        """A caller is told of everything: from now on it reads what is there."""
        self.world.deliver(caller)
        self.seen[caller] = {}

    # What goes wrong

    def _lost(self) -> None:
        """The cache's memory is gone; callers that had something of it in theirs are told by the next answer."""
        for owner in OWNERS:
            if owner[:2] == ("careless", "session"):
                for key, value in list(self.now[owner].items()):
                    for caller in callers_of(self):
                        self.seen[caller].setdefault((owner, key), []).append(value)
                self.now[owner] = {}

    @precondition(lambda self: not self.world.away)
    @rule()
    def the_cache_forgets(self) -> None:
        self.world.keep_up()
        forget_cache(self.world)
        self._lost()

    @precondition(lambda self: not self.world.away)
    @rule()
    def the_cache_goes_away(self) -> None:
        self.world.keep_up()
        self.world.away = True
        self._lost()
        assert self.space(0, OWNERS[0]).all() == {}
        self.world.keep_up()

    @precondition(lambda self: self.world.away)
    @rule()
    def the_cache_comes_back(self) -> None:
        self.world.away = False
        self.world.keep_up()

    @precondition(lambda self: not self.world.away)
    @rule(caller=callers, key=keys, value=values, written=st.booleans())
    def a_server_dies_while_it_writes(self, caller: int, key: str, value: Any, written: bool) -> None:
        """After it has made the hole above a durable session; before or after it has written to the database."""
        owner = ("careful", "session", "s")
        space = self.space(caller, owner)
        space.read(key)  # if the cache has forgotten, this is when it is found out
        self.world.keep_up()
        store, step = (ValkeyStore, "fill") if written else (PostgresStore, "put")

        async def die(*_: Any, **__: Any) -> None:
            raise Died

        with patch.object(store, step, die), pytest.raises(Died):
            space.set(key, value)
        if written:  # nobody was told
            before = self.now[owner].get(key)
            self.now[owner][key] = value
            for each in callers_of(self):
                self.seen[each].setdefault((owner, key), []).append(before)
                self.world.memories[each].forget_all()  # the life of a value in memory has ended

    @rule(owner=spaces, steps=st.integers(0, 12))
    def a_slot_moves(self, owner: tuple[str, str, str], steps: int) -> None:
        """To the other database and back; the mover dies after some steps, then another one ends what it began."""
        slot = slot_of(*owner)
        self.world.run(move_between_databases(self.world, slot, steps))

    @invariant()
    def no_key_is_kept_twice(self) -> None:
        if hasattr(self, "world"):
            assert not entries(self.url) & entries(self.second_url)


def callers_of(_: Contract) -> range:
    return range(2)


@pytest.fixture
def second_database(transactional_db: None) -> Iterator[str]:
    """A second database on the tests' server, with the tables of a node."""
    url = database_url()
    name = "state_contract_second"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    second = psycopg.conninfo.make_conninfo(url, dbname=name)

    async def tables() -> None:
        async with await AsyncConnection.connect(second) as connection:
            await schema.prepare(connection)

    asyncio.run(tables())
    yield second
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_contract__random_operations_and_faults__holds(second_database: str) -> None:
    for slug in ("careless", "careful"):
        tenant = create_tenant(by=SYSTEM, slug=slug, name=slug)
        if slug == "careful":
            put_rule(by=SYSTEM, tenant=tenant, document={"durable_sessions": True, "encrypt": True})
    Contract.url, Contract.second_url = database_url(), second_database

    run_state_machine_as_test(
        Contract,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
