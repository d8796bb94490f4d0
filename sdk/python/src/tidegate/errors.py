"""What a gate says when it does not let a call through. Every refusal names its reason, what blocked it, and when to come back."""

from __future__ import annotations

from typing import Any, ClassVar


class Refused(Exception):
    """A call was not let through. Nothing was sent and nothing was spent.

    ``reason`` is a word of the protocol, ``blocked_by`` names what stood in the way (``"acme/chat requests"``,
    ``"acme/support"``), ``retry_after_s`` is when trying again may help, ``None`` when nobody knows.
    """

    reason: ClassVar[str] = "refused"
    __slots__ = ("blocked_by", "retry_after_s")

    def __init__(self, message: str, *, blocked_by: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.blocked_by = blocked_by
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        said = {"blocked_by": self.blocked_by, "retry_after_s": self.retry_after_s}
        return self.__class__, self.args, self.__dict__ | said


class RateLimited(Refused):
    """A limit of the route has no room now."""

    reason = "rate_limited"


class BudgetExhausted(Refused):
    """A budget on the call's path has no room; ``blocked_by`` is ``tenant/slug``."""

    reason = "budget_exhausted"


class BreakerOpen(Refused):
    """The breaker of the route and model is open, or forced open by an operator."""

    reason = "breaker_open"


class QueueFull(Refused):
    """As many calls as the policy allows are waiting already."""

    reason = "queue_full"


class QueueTimeout(Refused):
    """The call waited as long as the policy allows and no slot came free."""

    reason = "queue_timeout"


class Stale(Refused):
    """A budget guards this call, and the control plane could not be asked in time: nobody may spend on a guess."""

    reason = "stale"


class Unpriced(Refused):
    """The model has no price, and the installation lets no call through whose cost nobody knows; ``blocked_by`` is the model."""

    reason = "unpriced"


class Closed(Refused):
    """The gate was closed before the call began."""

    reason = "closed"
