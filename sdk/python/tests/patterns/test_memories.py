"""Agents without a memory, with a session's, and with a user's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import tidegate
from tidegate.patterns import Conversation, Person, Personal, Stateless, Told, Turn
from tidegate.testing import FakeControlPlane


async def shout(call: tidegate.Call, said: str) -> str:
    call.record(input_tokens=10, output_tokens=5)
    return said.upper()


async def recall(call: tidegate.Call, said: str, turns: list[Turn]) -> str:
    call.record(input_tokens=10, output_tokens=5)
    return " ".join([*(turn.said for turn in turns), said])


async def learn(call: tidegate.Call, said: str, person: Person) -> Told:
    call.record(input_tokens=10, output_tokens=5)
    name, _, value = said.partition("=")
    return Told(sorted(person.preferences), {name: value or None}, [f"likes {name}"])


async def test_stateless__asked__answers_within_a_span_of_the_agent(
    plane: FakeControlPlane, gate: tidegate.Gate
) -> None:
    agent = Stateless(gate, "shouter", "chat", shout)

    assert await agent.ask("high tide", tenant="acme", model="gpt-4o-mini") == "HIGH TIDE"

    gate.close()
    spans = {span["name"]: span for span in plane.spans}
    assert spans["chat gpt-4o-mini"]["parentSpanId"] == spans["invoke_agent shouter"]["spanId"]
    assert "parentSpanId" not in spans["invoke_agent shouter"]
    said = {each["key"]: each["value"] for each in spans["invoke_agent shouter"]["attributes"]}
    assert said["gen_ai.operation.name"] == {"stringValue": "invoke_agent"}
    assert said["gen_ai.agent.name"] == {"stringValue": "shouter"}
    assert said["tidegate.tenant"] == {"stringValue": "acme"}


async def test_stateless__refused__says_so_and_keeps_nothing(plane: FakeControlPlane, gate: tidegate.Gate) -> None:
    plane.put_policy({"limits": [{"unit": "requests", "amount": 1, "per_s": 3600, "burst": 1, "scope": "instance"}]})
    assert plane.wait_for(lambda _: gate.status()["config"]["revision"] == plane.revision)
    agent = Stateless(gate, "shouter", "chat", shout)

    await agent.ask("one")
    with pytest.raises(tidegate.RateLimited):
        await agent.ask("two")

    assert plane.state.values == {}


async def test_conversation__next_turn_in_another_process__knows_what_was_said(
    gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    here, there = Conversation(gate, "guide", "chat", recall), Conversation(other, "guide", "chat", recall)

    first = await here.say("s-1", "high")
    second = await there.say("s-1", "low")
    third = await here.say("s-1", "slack")

    assert [first.number, second.number, third.number] == [1, 2, 3]
    assert third.answer == "high low slack"
    assert not third.afresh
    assert await there.turns("s-1") == [Turn("high", "high"), Turn("low", "high low"), Turn("slack", "high low slack")]
    assert await there.turns("s-2") == []


async def test_conversation__two_turns_at_once__both_stay(gate: tidegate.Gate, other: tidegate.Gate) -> None:
    here, there = Conversation(gate, "guide", "chat", recall), Conversation(other, "guide", "chat", recall)

    replies = await asyncio.gather(*(each.say("s-1", str(n)) for n in range(5) for each in (here, there)))

    assert sorted(reply.number for reply in replies) == list(range(1, 11))
    assert sorted(turn.said for turn in await here.turns("s-1")) == sorted([str(n) for n in range(5)] * 2)


async def test_conversation__answered_by_the_fallback__does_not_remember_it(
    plane: FakeControlPlane, gate: tidegate.Gate
) -> None:
    plane.put_policy({"retry": {"max_attempts": 1}, "fallbacks": [{"value": "We are busy."}]})
    assert plane.wait_for(lambda _: gate.status()["config"]["revision"] == plane.revision)
    broken = True

    async def answer(call: tidegate.Call, said: str, turns: list[Turn]) -> str:
        if broken:
            raise OSError("the model is away")
        return await recall(call, said, turns)

    agent = Conversation(gate, "guide", "chat", answer)
    first = await agent.say("s-1", "high")
    broken = False
    second = await agent.say("s-1", "low")

    assert (first.answer, first.number) == ("We are busy.", 0)
    assert (second.answer, second.number) == ("low", 1)


async def test_conversation__longer_than_kept__the_newest_stay(gate: tidegate.Gate) -> None:
    agent = Conversation(gate, "guide", "chat", recall, keep=2)

    for said in ("a", "b", "c"):
        reply = await agent.say("s-1", said)

    assert [turn.said for turn in await agent.turns("s-1")] == ["b", "c"]
    assert reply.number == 3


async def test_conversation__turn_that_fails__leaves_nothing_behind(gate: tidegate.Gate) -> None:
    async def fail(call: tidegate.Call, said: Any, turns: list[Turn]) -> str:
        raise KeyError(said)

    with pytest.raises(KeyError):
        await Conversation(gate, "guide", "chat", fail).say("s-1", "a")

    assert await Conversation(gate, "guide", "chat", recall).turns("s-1") == []


async def test_conversation__store_lost__starts_afresh_and_says_so(
    plane: FakeControlPlane, gate: tidegate.Gate
) -> None:
    agent = Conversation(gate, "guide", "chat", recall)
    await agent.say("s-1", "high")

    plane.state.lose_sessions()
    reply = await agent.say("s-1", "low")

    assert (reply.answer, reply.number, reply.afresh) == ("low", 1, True)


async def test_conversation__ended_by_an_operator__starts_afresh_and_says_so_once_to_each(
    plane: FakeControlPlane, gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    here, there = Conversation(gate, "guide", "chat", recall), Conversation(other, "guide", "chat", recall)
    told: list[tuple[str | None, str]] = []
    gate.state.on_session_lost(lambda tenant, session: told.append((tenant, session)))
    await here.say("s-1", "high")

    plane.state.end_session("s-1")
    first = await there.say("s-1", "low")
    second = await here.say("s-1", "slack")
    await here.say("s-1", "ebb")

    assert (first.answer, first.number, first.afresh) == ("low", 1, True)
    assert (second.answer, second.number, second.afresh) == ("low slack", 2, False)
    assert told == [(None, "s-1")]
    assert gate.state.session("s-1").lost
    assert not gate.state.session("s-2").lost


async def test_conversation__ended__is_forgotten(gate: tidegate.Gate) -> None:
    agent = Conversation(gate, "guide", "chat", recall)
    await agent.say("s-1", "high")

    await agent.end("s-1")

    reply = await agent.say("s-1", "low")
    assert (reply.answer, reply.number, reply.afresh) == ("low", 1, False)


async def test_personal__next_session_in_another_process__knows_the_user(
    gate: tidegate.Gate, other: tidegate.Gate
) -> None:
    here, there = Personal(gate, "clerk", "chat", learn), Personal(other, "clerk", "chat", learn)

    await here.ask("u-1", "units=metric", session="s-1")
    answer = await there.ask("u-1", "tone=short", session="s-2")

    assert answer == ["units"]
    assert await here.know("u-1") == Person(
        {"units": "metric", "tone": "short"}, ["units=metric", "tone=short"], ["likes units", "likes tone"]
    )
    assert await here.know("u-2") == Person({}, [], [])


async def test_personal__preferences_set_at_once__none_is_lost(gate: tidegate.Gate, other: tidegate.Gate) -> None:
    agents = [Personal(gate, "clerk", "chat", learn), Personal(other, "clerk", "chat", learn)]

    await asyncio.gather(*(agents[n % 2].prefer("u-1", {f"p{n}": n}) for n in range(8)))
    await agents[0].prefer("u-1", {"p0": None})

    assert (await agents[1].know("u-1")).preferences == {f"p{n}": n for n in range(1, 8)}


async def test_personal__forgotten__everything_is_gone(plane: FakeControlPlane, gate: tidegate.Gate) -> None:
    agent = Personal(gate, "clerk", "chat", learn)
    await agent.ask("u-1", "units=metric")

    assert await agent.forget("u-1") == 3

    assert await agent.know("u-1") == Person({}, [], [])
    assert plane.state.values.get(("acme", "user", "u-1"), {}) == {}
