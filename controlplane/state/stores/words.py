"""What is said to a node and what it answers."""

from __future__ import annotations

from typing import NamedTuple

from controlplane.domain.state import KINDS, Kind
from tidegate.core.partition import slot_of

HOLE_MS = 30_000  # how long a cache is told not to believe what a reader brings up while a writer is at work
OP_MEMORY_S = 600  # how long an operation that was carried out is known as such


class Space(NamedTuple):
    """What one owner has: a session, a user or a topic of a tenant."""

    tenant: str
    kind: Kind
    owner: str
    slot: int

    @classmethod
    def of(cls, tenant: str, kind: Kind, owner: str) -> Space:
        return cls(tenant, kind, owner, slot_of(tenant, kind, owner))

    @property
    def number(self) -> int:
        return KINDS.index(self.kind)

    def place(self, key: str) -> tuple[str, str, str, str]:
        """Return what a value that stands here is sealed for."""
        return self.tenant, self.kind, self.owner, key


class Item(NamedTuple):
    """A value as it is kept. ``left_ms``: until it expires, ``None`` when it does not."""

    value: bytes
    sealed: bool
    version: int
    left_ms: int | None


class Put(NamedTuple):
    """A value to be put, ``None`` to delete. ``expected``: the version that must be there, 0 for none, ``None`` for any.

    ``ttl_ms``: ``None`` for ever. ``op`` is carried out once, ``result`` remembered for whoever asks again.
    """

    key: str
    value: bytes | None
    sealed: bool = False
    expected: int | None = None
    ttl_ms: int | None = None
    idle_ms: int | None = None
    era: int = 0
    op: str | None = None
    result: str | None = None


class Memory(NamedTuple):
    """What a session's tier can remember: a new ``generation`` has forgotten what was there before ``since_ms``.

    ``ended_ms``: when an operator ended the session, 0 when nobody has lately.
    """

    generation: int
    since_ms: int
    durable: bool
    ended_ms: int = 0


class Done(NamedTuple):
    """What became of a put: ``ok``, ``absent`` (nothing to delete), ``done`` (was carried out before) or ``conflict``."""

    status: str
    version: int
    result: str | None = None
    memory: Memory | None = None  # of sessions


class Moved(Exception):
    """The node does not serve this slot. ``to``: the id of the node that it was handed over to, in ``epoch``, if it was."""

    def __init__(self, to: int | None = None, epoch: int | None = None) -> None:
        super().__init__("the slot is served elsewhere")
        self.to = to
        self.epoch = epoch


class Frozen(Exception):
    """The slot is being copied to another node: ask again in some milliseconds."""


class Lost(Exception):
    """A cache does not answer, or says that it has forgotten what it held."""
