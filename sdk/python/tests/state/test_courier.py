"""Operations of several callers in one request, and what becomes of the others when one can't be read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tidegate.contact import Backoff
from tidegate.state.courier import Courier
from tidegate.state.memory import Memory
from tidegate.wire import Reply


class Plane:
    """Answers each operation with its number; a request with an operation that is ``bad`` is not read at all."""

    last_error = None

    def __init__(self, status: int) -> None:
        self.status = status
        self.requests: list[list[int]] = []

    def connection(self) -> Plane:
        return self

    def close(self) -> None: ...

    async def request(self, *_: Any, body: bytes, **__: Any) -> Reply:
        ops = json.loads(body)["ops"]
        self.requests.append([op["n"] for op in ops])
        if any(op.get("bad") for op in ops):
            return Reply(self.status, {}, (json.dumps({"detail": "one of them is bad"}).encode(),))
        return Reply(200, {}, (json.dumps({"answers": [{"version": op["n"]} for op in ops]}).encode(),))


@pytest.mark.parametrize("status", [400, 413, 422])
def test_submit__one_of_many_can_not_be_read__only_that_one_is_refused(status: int) -> None:
    async def carry() -> tuple[list[Any], Plane]:
        plane = Plane(status)
        courier = Courier(plane, Memory(), lambda event: event.set())  # type: ignore[arg-type]
        answers = [courier.submit({"n": n, "bad": n == 2}) for n in range(4)]
        await courier.work(Backoff())
        await asyncio.wait_for(asyncio.gather(*map(asyncio.wrap_future, answers)), 5)
        courier.close()
        return [answer.result(0) for answer in answers], plane

    answers, plane = asyncio.run(carry())

    assert [answer.get("version") for answer in answers] == [0, 1, None, 3]
    assert answers[2]["error"] == {"detail": "one of them is bad", "status": status}
    assert plane.requests == [[0, 1, 2, 3], [0], [1], [2], [3]]
