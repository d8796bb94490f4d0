"""Spans on their way: few requests, whatever goes on meanwhile."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tidegate import shipping
from tidegate.contact import Backoff
from tidegate.shipping import Shipper
from tidegate.trace import BATCH, Span, Tracer
from tidegate.wire import Reply

SPAN = Span(1, 2, 0, "chat", 0, 1, {}, None)


class Plane:
    """Takes spans; while it does so, ``meanwhile`` more are made."""

    timeout_s = 1.0

    def __init__(self, tracer: Tracer, meanwhile: list[int]) -> None:
        self.tracer = tracer
        self.meanwhile = meanwhile
        self.requests = 0
        self.deadline = time.monotonic()

    def connection(self) -> Plane:
        return self

    async def request(self, *_: Any, **__: Any) -> Reply:
        for _span in range(self.meanwhile[self.requests]):
            self.tracer.add(SPAN)
        self.requests += 1
        return Reply(200, {}, ())


@pytest.mark.parametrize(("meanwhile", "requests"), [([3], 1), ([BATCH, 3], 2)], ids=["a few", "a whole batch"])
async def test_work__spans_come_while_others_are_sent__wait_unless_they_are_many(
    monkeypatch: pytest.MonkeyPatch, meanwhile: list[int], requests: int
) -> None:
    monkeypatch.setattr(shipping, "INTERVAL_S", 0)
    tracer = Tracer(enabled=True)
    plane = Plane(tracer, meanwhile)
    shipper = Shipper(app="a", incarnation="i", contact=plane, tracer=tracer)  # type: ignore[arg-type]
    tracer.add(SPAN)

    await shipper.work(Backoff())

    assert plane.requests == requests
    assert len(tracer.waiting) == 3
