"""Four ways to build agents on a gate (docs/patterns): stateless, with a session, with a user's memory, and as a mesh."""

from tidegate.patterns.agents import Agent, Errand
from tidegate.patterns.board import (
    AlreadyRunning,
    Board,
    EffectUncertain,
    RunCancelled,
    RunError,
    RunLate,
    StepFailed,
)
from tidegate.patterns.conversation import Conversation, Reply, Turn
from tidegate.patterns.mesh import Mesh
from tidegate.patterns.personal import Person, Personal, Told
from tidegate.patterns.stateless import Stateless
from tidegate.patterns.work import Step, Work

__all__ = [
    "Agent", "AlreadyRunning", "Board", "Conversation", "EffectUncertain", "Errand", "Mesh", "Person", "Personal", "Reply",
    "RunCancelled", "RunError", "RunLate", "Stateless", "Step", "StepFailed", "Told", "Turn", "Work",
]  # fmt: skip
