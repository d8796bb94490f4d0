"""An agent that knows its users across sessions: preferences, history, learnings. docs/patterns/personal.md"""

from __future__ import annotations

import argparse
import random

from talking import MODEL, MOST_OUT, complete, main, tenant_of, weigh

import tidegate
from tidegate.patterns import Person, Personal, Told

WISHES = (
    "Keep it short, please.",
    "Use metric units.",
    "A boat for two?",
    "Something for the winter.",
    "As last time.",
)
PEOPLE = 60


async def advise(call: tidegate.Call, said: str, person: Person) -> Told:
    known = f"They prefer {person.preferences}. You know: {person.learnings[-5:]}. Before: {person.history[-3:]}."
    words = await complete(call, f"{known}\n{said}")
    prefers = {"length": "short"} if "short" in said else {"units": "metric"} if "metric" in said else {}
    return Told(words, prefers, [f"asked about {said.rsplit(maxsplit=1)[-1].strip('?.')}"])


async def act(gate: tidegate.Gate, said: argparse.Namespace, number: int) -> str:
    user = f"customer-{random.randrange(PEOPLE)}" if said.every else "customer"
    wish, tenant = WISHES[number % len(WISHES)], tenant_of(said, number)
    agent = Personal(gate, "adviser", "chat", advise, keep_history=20, keep_learnings=20)
    answer = await agent.ask(
        user, wish, tenant=tenant, session=f"visit-{user}-{number}", category="advice", model=MODEL, input_tokens=weigh(wish) + 300,
        max_output_tokens=MOST_OUT,
    )  # fmt: skip
    person = await agent.know(user, tenant=tenant)
    return f"{user}: {wish} -> {str(answer)[:40]}… (prefers {person.preferences}, {len(person.history)} visits)"


if __name__ == "__main__":
    main(act)
