"""A move broken off at every step, with writers in between: no key is lost, none is there twice, somebody always serves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controlplane.state.stores.moving import End, Held, Interrupted, move
from controlplane.state.stores.words import Moved

SLOT, OLD, NEW = 7, 1, 2


class Killed(BaseException):
    """The mover's process has died."""


class World:
    """The map, and how many steps a mover takes before it dies."""

    def __init__(self) -> None:
        self.owner = OLD
        self.steps_left = 10**9

    async def step(self) -> None:
        if self.steps_left == 0:
            raise Killed
        self.steps_left -= 1
        await asyncio.sleep(0)


class Node:
    """A node that keeps one slot in memory. A mover may die before any step is carried out, and after."""

    def __init__(self, world: World, *, serving: bool) -> None:
        self.world = world
        self.state: Held | None = Held(True, 0, None) if serving else None
        self.frost: str | None = None
        self.keys: dict[str, int] = {}

    async def held(self, slot: int) -> Held | None:
        await self.world.step()
        return self.state

    async def freeze(self, slot: int, token: str, *, renew: bool = False) -> None:
        await self.world.step()
        if self.state is None or not self.state.serving:
            raise Moved
        self.frost = token

    async def copy_to(self, other: End, slot: int, epoch: int) -> int:
        assert isinstance(other, Node)
        await self.world.step()
        if other.state is not None and other.state.serving:
            raise Interrupted
        other.keys, other.state = dict(self.keys), Held(False, epoch, None)
        await self.world.step()
        return len(self.keys)

    async def hand_over(self, slot: int, token: str, *, epoch: int, to: int) -> bool:
        await self.world.step()
        if self.state is None or not self.state.serving or self.frost != token:
            return False
        self.state, self.frost = Held(False, epoch, to), None
        await self.world.step()
        return True

    async def adopt(self, slot: int, epoch: int) -> None:
        await self.world.step()
        if self.state == Held(False, epoch, None):
            self.state = Held(True, epoch, None)
        await self.world.step()

    async def clear(self, slot: int) -> None:
        await self.world.step()
        if self.state is not None and not self.state.serving and self.state.to is not None:
            self.keys = {}
        await self.world.step()

    # What an edge does

    def write(self, key: str, value: int) -> bool:
        if self.state is None or not self.state.serving or self.frost is not None:
            return False
        self.keys[key] = value
        return True


async def attempt(world: World, old: Node, new: Node, *, steps: int) -> bool:
    """Let a mover work for some steps; return whether it was done."""

    async def settle(_keys: int) -> None:
        await world.step()
        world.owner = NEW
        await world.step()

    world.steps_left = steps
    try:
        await move(SLOT, old, new, to=NEW, settle=settle)
    except (Killed, Interrupted):
        return False
    finally:
        world.steps_left = 10**9
        old.frost = None  # it thaws
    return True


def serving(*nodes: Node) -> list[Node]:
    return [node for node in nodes if node.state is not None and node.state.serving]


@pytest.mark.parametrize("first", range(14))
@pytest.mark.parametrize("second", range(14))
async def test_move__killed_twice_anywhere__ends_with_every_key_once(first: int, second: int) -> None:
    world = World()
    old, new = Node(world, serving=True), Node(world, serving=False)
    expected: dict[str, int] = {}

    for number, steps in enumerate([first, second, 10**9]):
        for key in ("a", f"k{number}"):
            if any(node.write(key, number) for node in (old, new)):
                expected[key] = number
        done = await attempt(world, old, new, steps=steps)
        assert len(serving(old, new)) <= 1
        if done or world.owner == NEW:  # where the map says so, no mover looks at the slot again
            break

    assert world.owner == NEW
    assert serving(old, new) == [new]
    assert new.keys == expected
    assert old.keys == {}


@pytest.mark.parametrize("pause", range(14))
async def test_move__a_mover_wakes_up_late__changes_nothing_that_another_has_done(pause: int) -> None:
    world = World()
    old, new = Node(world, serving=True), Node(world, serving=False)
    old.write("a", 1)
    asleep: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    steps = 0

    async def sleepy() -> None:
        nonlocal steps
        steps += 1
        if steps == pause + 1 and asyncio.current_task() is late:
            await asyncio.shield(asleep)

    world.step = sleepy  # type: ignore[method-assign]

    async def settle(_keys: int) -> None:
        await world.step()
        world.owner = NEW

    late = asyncio.create_task(move(SLOT, old, new, to=NEW, settle=settle))
    for _ in range(50):
        await asyncio.sleep(0)
    old.frost = None
    old.write("b", 2)
    if not late.done():
        await move(SLOT, old, new, to=NEW, settle=settle)
    wrote = new.write("c", 3)
    asleep.set_result(None)
    result: Any = (await asyncio.gather(late, return_exceptions=True))[0]

    assert result is None or isinstance(result, Interrupted | Moved)
    assert wrote
    assert serving(old, new) == [new]
    assert new.keys == {"a": 1, "c": 3, **({"b": 2} if "b" in new.keys else {})}
    assert old.keys == {}
