"""The last words of processes that were killed: what their leases may have cost, said to the control plane as final reports."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from tidegate.contact import Backoff, Contact
from tidegate.journal import Dead, Journals, LastWord, find_dead
from tidegate.leasing import MAX_LINES
from tidegate.wire import Unreachable

EVERY_S = 30.0
# Above every seq that a process reaches, so that what it said itself is older.
FIRST_SEQ = 2**52
NEVER = (400, 410, 413, 422)  # it will not be taken, however often it is said


class Replayer:
    """Looks for journals without an owner, at once and then now and again."""

    def __init__(self, among: Journals, contact: Contact) -> None:
        self._among = among
        self._contact = contact
        self._connection = contact.connection()

    async def work(self, backoff: Backoff) -> None:
        """Speak for those who can't any more, then rest."""
        for dead in find_dead(self._among):
            try:
                said = await self._speak_for(dead)
            except (Unreachable, ValueError) as error:
                dead.leave()
                self._contact.lose("journal", str(error))
                await self._contact.rest(backoff.next_s())
                return
            except BaseException:
                dead.leave()
                raise
            (dead.bury if said else dead.leave)()
        backoff.reset()
        await asyncio.sleep(EVERY_S)

    async def _speak_for(self, dead: Dead) -> bool:
        """Whether every lease of ``dead`` is closed now, or never will be."""
        parts = [dead.leases[start : start + MAX_LINES] for start in range(0, len(dead.leases), MAX_LINES)]
        return all([await self._say(dead, part, number == len(parts) - 1) for number, part in enumerate(parts)])

    async def _say(self, dead: Dead, leases: Sequence[LastWord], final: bool) -> bool:
        body = json.dumps(last_words(dead, leases, final=final), separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json"}
        reply = await self._connection.request(
            "POST", "/sdk/v1/sync", headers=headers, body=body, timeout_s=self._contact.timeout_s
        )
        if reply.status != 200:
            self._contact.turned_down("journal", reply)
            return reply.status in NEVER
        answered = {line["number"]: line["closed"] for line in json.loads(reply.body)["leases"]}
        return all(answered.get(lease.number) for lease in leases)

    def close(self) -> None:
        self._connection.close()


def last_words(dead: Dead, leases: Sequence[LastWord], *, final: bool) -> dict[str, Any]:
    """Return the sync that ends ``leases`` of a dead incarnation: settled at S + H, as calls whose outcome nobody knows are."""
    head = dead.head
    return {
        **{name: head[name] for name in ("incarnation", "app", "host", "pid", "sdk")},
        "seq": FIRST_SEQ,
        "sent_ms": int(time.time() * 1000),
        "leases": [
            {
                "number": lease.number,
                "budgets": list(lease.budgets),
                "seen": 0,
                "settled": lease.spent,
                "returned": 0,
                "corrected": 0,
                "held": 0,
                "want": 0,
                "min_useful": 0,
                "denied": 0,
                "waiting": 0,
                "final": True,
            }
            for lease in leases
        ],
        "config": {"etag": None, "refused": None, "refused_etag": None},
        "windows": [],
        "sessions": [],
        "breakers": [],
        "demand": [],
        "gauges": {"queue_depth": 0, "dropped_windows": 0, "dropped_spans": 0},
        "final": final,
    }
