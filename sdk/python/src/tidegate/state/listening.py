"""The open line on which the control plane tells what has changed, so that the memory forgets it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tidegate.contact import Backoff, Contact
from tidegate.state.memory import Memory
from tidegate.wire import Unreachable

PATH = "/sdk/v1/state/changes"
QUIET_S = 5.0


class Listener:
    """Keeps the line open once state has been used."""

    def __init__(self, contact: Contact, memory: Memory) -> None:
        self._contact = contact
        self._memory = memory
        self._connection = contact.connection()
        self.wanted = asyncio.Event()

    async def work(self, backoff: Backoff) -> None:
        """Listen until the line breaks, then rest."""
        await self.wanted.wait()
        self._memory.distrust()
        self._memory.forget_all()
        try:
            async for line in self._connection.lines(PATH, quiet_s=QUIET_S):
                self._hear(json.loads(line))
                backoff.reset()
        except (Unreachable, ValueError, KeyError, TypeError) as error:
            self._contact.say("state", str(error))
        self._memory.distrust()
        self._connection.close()
        await asyncio.sleep(min(2.0, backoff.next_s()))

    def _hear(self, said: dict[str, Any]) -> None:
        memory = self._memory
        if "scope" in said:
            memory.know_scope(said["scope"])
        if said.get("flush") or said.get("proven") is False:
            memory.forget_all()
        memory.told([(name, version) for name, version in said["c"]])
        if said.get("proven") is False:
            memory.distrust()
        else:
            memory.trust()

    def close(self) -> None:
        """Nothing is heard from now on, so nothing that is remembered may be used."""
        self._memory.distrust()
        self._connection.close()
