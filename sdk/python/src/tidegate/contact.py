"""What is known of the way to the control plane, shared by the conversations of the background thread."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import time

from tidegate.version import VERSION
from tidegate.wire import Address, Connection, Reply

BACKOFF_BASE_S, BACKOFF_MAX_S = 0.5, 30.0
UNAUTHORIZED_PAUSE_S = 30.0
REQUEST_TIMEOUT_S = 10.0
QUIET_S = 30.0

_log = logging.getLogger("tidegate")


class Backoff:
    """Full jitter from half a second to half a minute, longer only when the server says so."""

    def __init__(self) -> None:
        self._tries = 0

    def reset(self) -> None:
        self._tries = 0

    def next_s(self, reply: Reply | None = None) -> float:
        """Return how long to rest after one more failure, the ``reply`` to which may say more."""
        self._tries += 1
        ceiling = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2.0 ** min(self._tries, 10))
        pause = random.uniform(BACKOFF_BASE_S / 2, ceiling)  # noqa: S311  jitter
        if reply is not None and reply.status == 401:
            return UNAUTHORIZED_PAUSE_S
        asked = reply.headers.get("retry-after", "") if reply is not None else ""
        return max(pause, float(asked)) if asked.isdecimal() else pause


class Contact:
    """Connections, whether anybody answers on them, and what to say about it in the log, now and then."""

    def __init__(self, address: Address, key: str) -> None:
        self._address = address
        self._key = key
        self._context = ssl.create_default_context() if address.tls else None
        self.renew()

    def renew(self) -> None:
        self.reached = False  # the last request was answered
        self.last_error: str | None = None
        self.deadline = float("inf")  # of closing, on time.monotonic
        self._said: dict[str, float] = {}
        self._resting: list[asyncio.Event] = []

    def connection(self) -> Connection:
        headers = {
            "Authorization": f"Bearer {self._key}",
            "User-Agent": f"tidegate-python/{VERSION}",
            "Accept": "application/json",
        }
        return Connection(self._address, headers, self._context)

    @property
    def timeout_s(self) -> float:
        """How long a request may take."""
        return max(0.1, min(REQUEST_TIMEOUT_S, self.deadline - time.monotonic()))

    async def rest(self, seconds: float) -> None:
        """Back off for ``seconds``, or until another conversation reaches the server again."""
        recovered = asyncio.Event()
        self._resting.append(recovered)
        try:
            await pause(seconds, recovered)
        finally:
            self._resting.remove(recovered)

    def reach(self) -> None:
        """The server answers; if it did not before, the other conversations need not wait any longer."""
        if not self.reached:
            for recovered in self._resting:
                recovered.set()
        self.reached = True
        self.last_error = None

    def lose(self, about: str, text: str) -> None:
        """No answer."""
        self.reached = False
        self.say(about, text)

    def turned_down(self, about: str, reply: Reply) -> None:
        """An answer, and it is no."""
        self.reached = False
        try:
            detail = str(json.loads(reply.body).get("detail") or "")
        except (ValueError, AttributeError):
            detail = ""
        self.say(about, f"the control plane answered {reply.status} {detail}"[:500].rstrip())

    def say(self, about: str, text: str, *, fault: bool = False) -> None:
        """Log, at most once in a while about the same thing."""
        self.last_error = f"{about}: {text}"
        now = time.monotonic()
        if now - self._said.get(about, float("-inf")) >= QUIET_S:
            self._said[about] = now
            _log.warning("tidegate: %s: %s", about, text, exc_info=fault)


async def pause(seconds: float, wake: asyncio.Event) -> None:
    """Rest for ``seconds`` or until woken."""
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return
