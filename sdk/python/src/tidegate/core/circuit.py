"""Whose fault an error is decides which breaker it counts for.

A dependency has one breaker that all its callers share, for faults of the provider, and one for each credential that was
turned down or throttled: a tenant's revoked key or used-up quota never closes the way for another's.
"""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.core.breaker import Breaker, Outcome, Permit
from tidegate.core.outcome import Fault
from tidegate.core.policy import BreakerRule

MAX_CREDENTIALS = 1000


class Pass:
    """The permits of one call: the provider's, and its credential's where that has a breaker of its own."""

    __slots__ = ("credential", "of_credential", "permit")

    def __init__(self, permit: Permit, credential: str, of_credential: Permit | None) -> None:
        self.permit = permit
        self.credential = credential
        self.of_credential = of_credential

    @property
    def generations(self) -> tuple[str, int, int | None]:
        """What two calls with the same standing have in common."""
        mine = self.of_credential
        return self.credential, self.permit.generation, None if mine is None else mine.generation


class Circuit:
    """The breakers of one dependency and model. ``credentials`` has only those about which there is something to know."""

    __slots__ = ("_rule", "credentials", "provider", "rule")

    def __init__(self, rule: BreakerRule, *, now: float, resets: int) -> None:
        self.provider = Breaker(since=now, resets=resets)
        self.credentials: dict[str, Breaker] = {}
        self.follow(rule)

    def follow(self, rule: BreakerRule) -> None:
        """Go on by ``rule``. How long calls take says nothing about a credential."""
        self.rule = rule
        self._rule = rule._replace(slow_call_ms=None)

    def reset(self, *, now: float, resets: int) -> None:
        self.provider.reset(now=now, resets=resets)
        self.credentials.clear()

    def refusing(self, credential: str, now: float) -> Breaker | None:
        """Return the breaker that would refuse a call now, or ``None``. No permit is taken."""
        if self.provider.refuses(self.rule, now):
            return self.provider
        known = self.credentials.get(credential) if self.credentials else None
        return known if known is not None and known.refuses(self._rule, now) else None

    def ask(self, credential: str, now: float) -> Pass | Breaker:
        """Return leave for one call, or the breaker that refuses it."""
        known = self.credentials.get(credential) if self.credentials else None
        mine = None
        if known is not None:
            mine = known.ask(self._rule, now)
            if mine is None:
                return known
        permit = self.provider.ask(self.rule, now)
        if permit is None:
            if known is not None and mine is not None:
                known.release(mine)
            return self.provider
        return Pass(permit, credential, mine)

    def release(self, leave: Pass) -> None:
        """Take back what was not used."""
        self.provider.release(leave.permit)
        known = self.credentials.get(leave.credential)
        if known is not None and leave.of_credential is not None:
            known.release(leave.of_credential)

    def finish(
        self,
        leave: Pass,
        *,
        now: float,
        took_ms: float,
        fault: Fault | None = None,
        why: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        """Count a call that ended well (no ``fault``), or whose fault it was that it did not. Given up: ``caller``."""
        outcome: Outcome = "success" if fault is None else "failure" if fault == "provider" else "neutral"
        self.provider.finish(
            leave.permit, self.rule, now=now, outcome=outcome, took_ms=took_ms, why=why, retry_after_s=retry_after_s
        )
        turned_down = fault in ("throttled", "credential")
        if not self.credentials and not turned_down:
            return
        known, permit = self.credentials.get(leave.credential), leave.of_credential
        if known is None and turned_down and len(self.credentials) < MAX_CREDENTIALS:
            known = self.credentials[leave.credential] = Breaker(since=now, resets=self.provider.resets)
            permit = Permit(known.generation)
        if known is None or permit is None:
            return
        outcome = "success" if fault is None else "failure" if turned_down else "neutral"
        known.finish(permit, self._rule, now=now, outcome=outcome, took_ms=0.0, why=why, retry_after_s=retry_after_s)

    def succeeded(self, leave: Pass, *, now: float, calls: int, slow: bool = False) -> None:
        """Count so many calls with one and the same leave that went well, all of them slow or none."""
        self.provider.succeeded(leave.permit.generation, self.rule, now=now, calls=calls, slow=slow)
        known = self.credentials.get(leave.credential) if self.credentials else None
        if known is not None and leave.of_credential is not None:
            known.succeeded(leave.of_credential.generation, self._rule, now=now, calls=calls)

    def joined(self, leave: Pass, since: float) -> Pass:
        """Return leave of its own for a call that went out on ``leave``, which others share, ``since`` then."""
        permit, mine = leave.permit, leave.of_credential
        if permit.generation == self.provider.generation:
            permit = self.provider.joined(self.rule, since)
        return Pass(permit, leave.credential, mine)

    def lends(self, leave: Pass) -> bool:
        """Whether more calls may have the same leave: nothing is probed."""
        known = self.credentials.get(leave.credential) if self.credentials else None
        if (known is None) != (leave.of_credential is None):
            return False
        if self.rule.mode == "metrics_only":
            return not self.provider.cause  # else each call is counted that would have been refused
        if self.rule.mode != "auto":
            return self.rule.mode != "forced_open"
        return self.provider.steady(self.rule) and (known is None or known.steady(self._rule))

    def all(self, now: float) -> Iterator[tuple[str, Breaker, BreakerRule]]:
        """Yield the breakers with their credential, ``""`` for the provider's, and rule; forget those that have nothing to say."""
        yield "", self.provider, self.rule
        for credential, known in list(self.credentials.items()):
            if known.phase == "closed" and not known.view(self._rule, now).calls:
                del self.credentials[credential]
            else:
                yield credential, known, self._rule
