"""A breaker that trips soon, and its clock."""

from __future__ import annotations

from typing import Any

from tidegate.core.breaker import Breaker, Outcome, Permit
from tidegate.core.policy import BreakerRule

RULE = BreakerRule(
    window_s=10, min_calls=4, failure_rate=0.5, slow_call_ms=1000, slow_call_rate=0.75, open_s=5, half_open_calls=2,
    mode="auto",
)  # fmt: skip


class World:
    """A breaker with a clock."""

    def __init__(self, rule: BreakerRule = RULE) -> None:
        self.rule = rule
        self.state = Breaker()
        self.now = 100.0

    def ask(self) -> Permit | None:
        return self.state.ask(self.rule, self.now)

    @property
    def retry_after_s(self) -> float | None:
        return self.state.retry_after_s(self.rule, self.now)

    def finish(self, permit: Permit, outcome: Outcome = "success", took_ms: float = 10.0, **told: Any) -> None:
        self.state.finish(permit, self.rule, now=self.now, outcome=outcome, took_ms=took_ms, **told)

    @property
    def calls(self) -> int:
        return self.state.view(self.rule, self.now).calls

    def call(self, outcome: Outcome = "success", times: int = 1, **told: Any) -> None:
        for _ in range(times):
            permit = self.ask()
            assert permit is not None
            self.finish(permit, outcome, **told)

    def opened(self) -> World:
        self.call("failure", times=4, why="timeout")
        assert self.state.phase == "open"
        return self
