"""Tidegate's SDK: model calls governed inside your process."""

from tidegate.call import Call
from tidegate.client import Gate, connect
from tidegate.core.release import Assignment
from tidegate.errors import BreakerOpen, BudgetExhausted, QueueFull, QueueTimeout, RateLimited, Refused, Stale, Unpriced
from tidegate.sampling import Sampling
from tidegate.state import Space, StateError, StateRefused, StateUnavailable, VersionConflict
from tidegate.version import __version__

__all__ = [
    "Assignment", "BreakerOpen", "BudgetExhausted", "Call", "Gate", "QueueFull", "QueueTimeout", "RateLimited", "Refused", "Sampling",
    "Space", "Stale", "StateError", "StateRefused", "StateUnavailable", "Unpriced", "VersionConflict", "__version__", "connect",
]  # fmt: skip
