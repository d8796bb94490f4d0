"""Stateless request and response: a label for a message. docs/patterns/stateless.md"""

from __future__ import annotations

import argparse

from talking import MODEL, complete, main, tenant_of, weigh

import tidegate
from tidegate.patterns import Stateless

MESSAGES = ("My parcel never came.", "How do I change my address?", "You charged me twice!", "Thanks, all is well.")
MOST = 8


async def label(call: tidegate.Call, message: str) -> str:
    return await complete(call, f"Label this message in one word.\n\n{message}", most=MOST)


async def act(gate: tidegate.Gate, said: argparse.Namespace, number: int) -> str:
    agent = Stateless(gate, "labeller", "label", label)
    message = MESSAGES[number % len(MESSAGES)]
    answer = await agent.ask(
        message, tenant=tenant_of(said, number), category="labels", model=MODEL, input_tokens=weigh(message) + 8, max_output_tokens=MOST,
    )  # fmt: skip
    return f"{message} -> {answer}"


if __name__ == "__main__":
    main(act)
