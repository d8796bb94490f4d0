"""The network and the server: requests get lost, repeated and late; transactions fail, or commit and nobody hears of it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import UUID

import msgspec

from controlplane.budgets.schemas import LeaseAnswer, LeaseLine, LeaseReport
from controlplane.domain.leases import Answer
from tests.simulation.kernel import Broken
from tidegate.exchange import Sent

if TYPE_CHECKING:
    from tests.simulation.world import World


Hear = Callable[[Sent, dict[str, Any] | None, float], None]


class Sender(Protocol):
    """Whoever speaks to the server. ``allowed``: the tenants whose budgets its key may touch; ``None``: all."""

    number: int
    incarnation: UUID
    allowed: frozenset[str] | None


class Message(NamedTuple):
    """A sync on its way. ``windows``: the numbers of those that it carries, and what their calls did cost.

    ``hear`` is told of the answer; ``None``: that it was an error.
    """

    sender: Sender
    hear: Hear
    sent: Sent
    sent_at: float
    incarnation: UUID
    lines: tuple[LeaseLine, ...]
    windows: tuple[tuple[int, int], ...]

    def reports(self) -> list[LeaseReport]:
        allowed = self.sender.allowed
        return [line.reported_by(self.incarnation, seq=self.sent.seq, allowed=allowed) for line in self.lines]


class Network:
    """Between processes and the server. ``healed``: everything arrives, at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = random.Random(f"network {world.setup.seed}")
        self.healed = False
        self.cut: dict[tuple[int, str], float] = {}  # process and direction, until when nothing passes

    def send(self, sender: Sender, body: dict[str, Any], sent: Sent, hear: Hear, *, name: UUID | None = None) -> None:
        """Carry a sync to the server, or not, or twice. ``name``: the incarnation, when it is not the sender's own."""
        lines = tuple(msgspec.convert(line, LeaseLine) for line in body["leases"])
        windows = tuple(
            (window["number"], sum(row["cost_nusd"] for row in window["rows"])) for window in body["windows"]
        )
        message = Message(sender, hear, sent, self._world.kernel.now, name or sender.incarnation, lines, windows)
        if self._arrives(sender, "up"):
            self._world.kernel.after(self._delay(), self._world.server.arrive, message)
            if not self.healed and self._chance.random() < self._world.setup.repeat:
                self._world.kernel.after(self._delay(), self._world.server.arrive, message)

    def answer(self, message: Message, answer: dict[str, Any] | None) -> None:
        """Carry an answer back; ``None``: an error."""
        if self._arrives(message.sender, "down"):
            heard = (message.sent, answer, message.sent_at)
            self._world.kernel.after(self._delay(), message.hear, *heard)
            if not self.healed and self._chance.random() < self._world.setup.repeat:
                self._world.kernel.after(self._delay(), message.hear, *heard)

    def _arrives(self, sender: Sender, way: str) -> bool:
        if self.healed:
            return True
        if self.cut.get((sender.number, way), 0.0) > self._world.kernel.now:
            return False
        return self._chance.random() >= self._world.setup.loss

    def _delay(self) -> float:
        setup = self._world.setup
        if self.healed:
            return 0.005
        if self._chance.random() < setup.slow:
            return self._chance.uniform(0.0, 3 * setup.ttl)
        return self._chance.expovariate(1 / setup.delay)


class Server:
    """Group commit over the store, as controlplane.edge.batch does it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = random.Random(f"server {world.setup.seed}")
        self._queue: list[Message] = []
        self._writing = False
        self._run = 0
        self.down_until = 0.0
        self.skew = 0.0
        self._epoch = datetime.fromtimestamp(world.epoch, UTC)
        self._told = 0.0, self._epoch  # the time that was asked for last
        self.interval = world.setup.interval
        self.healed = False
        self.acked: dict[UUID, int] = defaultdict(int)
        self.counted: dict[UUID, int] = defaultdict(int)  # what the windows of an incarnation did cost
        self.spoken: dict[UUID, Sender] = {}
        self.transactions = 0

    def time(self) -> datetime:
        """Return what the server's clock says."""
        at = self._world.kernel.now + self.skew
        if at != self._told[0]:
            self._told = at, self._epoch + timedelta(seconds=at)
        return self._told[1]

    def fail_over(self, seconds: float) -> None:
        """Lose everything but what was committed, and be away for ``seconds``; the next server's clock differs a little."""
        self._queue.clear()
        self._writing = False
        self._run += 1
        self.down_until = self._world.kernel.now + seconds
        self.skew = self._chance.uniform(-0.05, 0.05)

    def arrive(self, message: Message) -> None:
        if self._world.kernel.now < self.down_until:
            return
        owner = self.spoken.setdefault(message.incarnation, message.sender)
        if owner is not message.sender and message.sender.incarnation == message.incarnation:
            raise Broken("I6 fencing", "two processes speak as one incarnation")
        self._queue.append(message)
        self._write_soon()

    def _write_soon(self) -> None:
        if self._queue and not self._writing:
            self._writing = True
            self._world.kernel.after(self._chance.uniform(0.001, 0.02), self._write, self._run)

    def _write(self, run: int) -> None:
        if run != self._run:
            return
        self._writing = False
        group: dict[UUID, Message] = {}
        rest = []
        for message in self._queue:
            if message.incarnation in group:
                rest.append(message)
            else:
                group[message.incarnation] = message
        self._queue = rest
        self._transact(list(group.values()))
        self._write_soon()

    def _transact(self, group: list[Message]) -> None:
        setup, store = self._world.setup, self._world.store
        fate = 1.0 if self.healed else self._chance.random()
        self.transactions += 1
        reports = [report for message in group for report in message.reports()]
        written = store.merge(reports, now=self.time(), ttl_ms=int(setup.ttl * 1000))
        committed = fate >= setup.failures
        if committed:
            stood = self._world.truth.standing(reports, written)
            store.commit(written)
            for message in group:
                self._count(message)
            self._world.truth.committed(reports, written, stood)
        heard = fate >= setup.failures + setup.unknown
        for message in group:
            lines = [(line.number, written.answers[message.incarnation, line.number]) for line in message.lines]
            answer = self._answer(message, lines) if heard else None
            self._world.network.answer(message, answer)

    def _count(self, message: Message) -> None:
        for number, cost in message.windows:
            if number > self.acked[message.incarnation]:
                self.acked[message.incarnation] = number
                self.counted[message.incarnation] += cost

    def _answer(self, message: Message, lines: list[tuple[int, Answer]]) -> dict[str, Any]:
        answers = [LeaseAnswer(number=number, **answer._asdict()) for number, answer in lines]
        return {
            "seq": message.sent.seq,
            "windows_acked": self.acked[message.incarnation],
            "next_sync_ms": int(self.interval * 1000),
            "server_ms": int(self.time().timestamp() * 1000),
            "config_etag": None,
            "leases": [msgspec.structs.asdict(answer) for answer in answers],
            "shares": [],
        }
