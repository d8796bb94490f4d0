"""State for callers: sessions, users and topics, kept by the control plane and remembered here (docs/state.md)."""

from tidegate.state.errors import StateError, StateRefused, StateUnavailable, VersionConflict
from tidegate.state.keeping import State
from tidegate.state.space import Space
from tidegate.state.values import Item

__all__ = ["Item", "Space", "State", "StateError", "StateRefused", "StateUnavailable", "VersionConflict"]
