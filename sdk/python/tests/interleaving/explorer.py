"""Runs coroutines in every order that a seed draws, and cancels one of them at each point at which it waits.

A cancellation strikes in one of two ways: while the point is being waited at, or in the very turn of the loop in which what was
waited for has come, when both the result and the cancellation are on their way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Literal

Moment = Literal["waiting", "woken"]
MOMENTS: tuple[Moment, ...] = ("waiting", "woken")
TURNS = 400


class ShuffledLoop(asyncio.SelectorEventLoop):
    """An event loop in which the tasks that are ready go on in an order that a seed draws."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]  # of BaseEventLoop: the callbacks of this turn
        places = [place for place, handle in enumerate(ready) if _steps_a_task(handle)]
        handles = [ready[place] for place in places]
        self._chance.shuffle(handles)
        for place, handle in zip(places, handles, strict=True):
            ready[place] = handle
        super()._run_once()  # type: ignore[misc]


def _steps_a_task(handle: Any) -> bool:
    callback = handle._callback
    return isinstance(getattr(callback, "__self__", None), asyncio.Task) or "TaskStep" in type(callback).__name__


class Victim:
    """Awaits a coroutine, counts the points at which it waits, and has its task cancelled at one of them."""

    def __init__(self, work: Coroutine[Any, Any, Any], *, at: int | None, moment: Moment) -> None:
        self._work = work
        self._at = at
        self._moment = moment
        self.points = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        error: BaseException | None = None
        while True:
            try:
                waits_for = steps.send(None) if error is None else steps.throw(error)
            except StopIteration as over:
                return over.value
            error = None
            self.points += 1
            if self.points == self._at:
                self._strike(waits_for)
            try:
                yield waits_for
            except BaseException as raised:  # noqa: BLE001  handed on to the coroutine
                error = raised

    def _strike(self, waits_for: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._moment == "waiting" or waits_for is None:
            task.cancel()
        else:
            waits_for.add_done_callback(lambda _: task.cancel())


Work = Callable[[], Coroutine[Any, Any, Any]]


def run(
    works: list[Work], meanwhile: Callable[[int], None], *, seed: int, victim: int, at: int | None, moment: Moment
) -> int:
    """Run ``works`` side by side, ``meanwhile(turn)`` between the turns of the loop, and return at how many points the victim waited.

    What they return or raise is theirs to check. ``AssertionError`` when somebody never ends.
    """
    loop = ShuffledLoop(seed)
    try:
        return loop.run_until_complete(_side_by_side(works, meanwhile, victim=victim, at=at, moment=moment))
    finally:
        loop.close()


async def _side_by_side(
    works: list[Work], meanwhile: Callable[[int], None], *, victim: int, at: int | None, moment: Moment
) -> int:
    doomed = Victim(works[victim](), at=at, moment=moment)

    async def struck() -> Any:
        return await doomed

    tasks = [asyncio.ensure_future(struck() if number == victim else work()) for number, work in enumerate(works)]
    for turn in range(TURNS):
        await asyncio.sleep(0 if turn % 8 else 0.0005)
        meanwhile(turn)
        if all(task.done() for task in tasks):
            break
    stuck = [number for number, task in enumerate(tasks) if not task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not stuck, f"{stuck} never end"
    return doomed.points
