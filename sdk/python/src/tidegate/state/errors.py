"""What can go wrong with state."""

from __future__ import annotations


class StateError(Exception):
    """Base of what ``gate.state`` raises."""


class StateUnavailable(StateError):
    """No answer came in time. A change may have been carried out nevertheless."""


class StateRefused(StateError):
    """The control plane said no, and would again: ``status`` as in HTTP (403, 409, 413, 422, 507)."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class VersionConflict(StateError):
    """Somebody else wrote in between. ``current`` is the version that is there, 0 for none."""

    def __init__(self, message: str, *, current: int) -> None:
        super().__init__(message)
        self.current = current
