"""A conversation whose context is in the session: any process takes the next turn. docs/patterns/conversation.md"""

from __future__ import annotations

import argparse
import os
import random

from talking import MODEL, MOST_OUT, complete, main, tenant_of, weigh

import tidegate
from tidegate.patterns import Conversation, Turn

LINES = ("When is high tide?", "And tomorrow?", "Is it safe to walk out?", "Why is it late?", "What is a spring tide?")
ME = os.getpid()
PEOPLE, TURNS = 400, 6


async def answer(call: tidegate.Call, said: str, turns: list[Turn]) -> str:
    heard = "\n".join(f"They: {turn.said}\nYou: {turn.answered}" for turn in turns)
    return await complete(call, f"{heard}\nThey: {said}\nYou:", most=MOST_OUT)


async def act(gate: tidegate.Gate, said: argparse.Namespace, number: int) -> str:
    tenant = tenant_of(said, number)
    if said.every:
        person = random.randrange(PEOPLE)
        session, user = f"talk-{ME}-{person}-{number // (PEOPLE * TURNS)}", f"person-{person}"
    else:
        session, user = f"talk-{ME}", "person"
    agent = Conversation(gate, "guide", "chat", answer, keep=4)
    line = LINES[number % len(LINES)]
    reply = await agent.say(
        session, line, tenant=tenant, user=user, category="talk", model=MODEL, input_tokens=weigh(line) + 4 * (MOST_OUT + 40),
        max_output_tokens=MOST_OUT,
    )  # fmt: skip
    return f"{session}, turn {reply.number}{', afresh' if reply.afresh else ''}: {line} -> {str(reply.answer)[:60]}"


if __name__ == "__main__":
    main(act)
