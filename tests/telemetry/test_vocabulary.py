"""What applications of three generations and three vocabularies write, in one: and usage counted once."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from controlplane.telemetry.otlp.decoding import Decoded, Reading
from controlplane.telemetry.otlp.spans import decode_json
from controlplane.telemetry.redaction import redactor
from controlplane.telemetry.schemas import SpanRow

PLAIN = Reading(lambda claimed: claimed)
IDS = {"traceId": "0af7651916cd43dd8448eb211c80319c", "startTimeUnixNano": "1790000000000000000", "kind": 3}


def attribute(key: str, value: object) -> dict[str, Any]:
    kind = {bool: "boolValue", int: "intValue", float: "doubleValue"}.get(type(value), "stringValue")
    return {"key": key, "value": {kind: value}}


def decoded(*spans: dict[str, object], reading: Reading = PLAIN, **more: Any) -> Decoded[SpanRow]:
    made = [
        {
            **IDS,
            "spanId": f"{number:016x}",
            "name": "s",
            "attributes": [attribute(*pair) for pair in said.items()],
            **more,
        }
        for number, said in enumerate(spans, 1)
    ]
    return decode_json(orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": made}]}]}), reading)


GENERATIONS: list[dict[str, object]] = [
    {"gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o", "gen_ai.operation.name": "chat",
     "gen_ai.usage.prompt_tokens": 120, "gen_ai.usage.completion_tokens": 30},
    {"gen_ai.provider.name": "openai", "gen_ai.response.model": "gpt-4o", "gen_ai.request.model": "gpt-4o-latest",
     "gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 30},
    {"gen_ai.provider.name": "OpenAI", "gen_ai.request.model": "gpt-4o", "gen_ai.operation.name": "chat",
     "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 30, "gen_ai.usage.cache_read.input_tokens": 64,
     "gen_ai.usage.reasoning.output_tokens": 8},
    {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o", "llm.provider": "openai", "llm.token_count.prompt": 120,
     "llm.token_count.completion": 30},
    {"gen_ai.system": "OpenAI", "llm.request.type": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.prompt_tokens": 120,
     "gen_ai.usage.completion_tokens": 30},
]  # fmt: skip


@pytest.mark.parametrize("said", GENERATIONS)
def test_decode__an_inference_in_any_vocabulary__is_the_same_row(said: dict[str, object]) -> None:
    (row,) = decoded(said).rows

    assert (row.operation, row.provider, row.model) == ("chat", "openai", "gpt-4o")
    assert (row.input_tokens, row.output_tokens, row.usage_by) == (120, 30, 1)


def test_decode__caches_and_reasoning__are_parts_of_what_they_are_part_of() -> None:
    (row,) = decoded(GENERATIONS[2]).rows
    (apart,) = decoded({**GENERATIONS[2], "gen_ai.usage.cache_read.input_tokens": 1000}).rows

    assert (row.input_tokens, row.cached_tokens, row.reasoning_tokens) == (120, 64, 8)
    assert (apart.input_tokens, apart.cached_tokens) == (1120, 1000)


@pytest.mark.parametrize(
    "said",
    [
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "coordinator"},
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"},
        {"gen_ai.operation.name": "invoke_workflow"},
        {"openinference.span.kind": "AGENT"},
        {"openinference.span.kind": "CHAIN"},
        {"traceloop.span.kind": "workflow"},
    ],
)
def test_decode__agents_tools_and_workflows__carry_no_usage_of_their_own(said: dict[str, object]) -> None:
    sums: dict[str, object] = {
        "gen_ai.usage.input_tokens": 500,
        "gen_ai.usage.output_tokens": 90,
        "gen_ai.usage.cost": 0.4,
    }

    rows = decoded({**said, **sums}, GENERATIONS[1]).rows

    assert [row.input_tokens for row in rows] == [None, 120]
    assert [row.cost_nusd for row in rows] == [None, None]
    assert b"500" in rows[0].attributes


def test_decode__an_unknown_operation__counts_where_it_calls_a_service() -> None:
    said: dict[str, object] = {"gen_ai.operation.name": "event_loop_cycle", "gen_ai.usage.input_tokens": 5}

    assert decoded(said).rows[0].input_tokens == 5
    assert decoded(said, kind=1).rows[0].input_tokens is None


def test_decode__names_of_agents_and_tools__come_from_any_vocabulary() -> None:
    rows = decoded(
        {"traceloop.span.kind": "agent", "traceloop.entity.name": "planner"},
        {"traceloop.span.kind": "tool", "traceloop.entity.name": "search"},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "writer"},
        {"openinference.span.kind": "TOOL", "tool.name": "browse"},
    ).rows

    assert [(row.operation, row.agent, row.tool) for row in rows] == [
        ("invoke_agent", "planner", ""),
        ("execute_tool", "", "search"),
        ("invoke_agent", "writer", ""),
        ("execute_tool", "", "browse"),
    ]


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        ({"tidegate.cost_nusd": 1234}, 1234),
        ({"gen_ai.usage.cost": 0.0015}, 1_500_000),
        ({"llm.cost.total": "0.25"}, 250_000_000),
        ({"gen_ai.usage.cost.amount": 2.0, "gen_ai.usage.cost.currency": "EUR"}, 77),
        ({}, 77),
    ],
)
def test_decode__what_an_inference_costs__is_what_it_says_or_what_the_price_list_says(
    said: dict[str, object], cost: int
) -> None:
    reading = PLAIN._replace(price_of=lambda *_: 77)

    (row,) = decoded({**GENERATIONS[1], **said}, reading=reading).rows

    assert row.cost_nusd == cost
    assert (b"tidegate.cost.estimated" in row.attributes) == (cost == 77)


@pytest.mark.parametrize(
    "said", [{"tidegate.cost_nusd": 10**15}, {"gen_ai.usage.cost": 1e6}, {"gen_ai.usage.input_tokens": 2**53 - 1}]
)
def test_decode__absurd_cost_told_or_priced__is_no_cost(said: dict[str, object]) -> None:
    reading = PLAIN._replace(price_of=lambda _, given, cached, out: 2500 * (given + out) if given > 120 else None)

    (row,) = decoded({**GENERATIONS[1], **said}, reading=reading).rows

    assert row.cost_nusd is None


SAID: dict[str, object] = {
    "gen_ai.prompt.0.content": "my mail is a@b.example",
    "gen_ai.input.messages": '[{"role": "user"}]',
    "llm.input_messages.0.message.content": "hello",
    "gen_ai.prompt.name": "greeting",
}


def test_decode__prompts_and_replies__are_withheld_unless_a_tenant_wants_them() -> None:
    found = decoded(SAID)

    (row,) = found.rows
    assert found.messages == []
    assert orjson.loads(row.attributes) == {"gen_ai.prompt.name": "greeting", "tidegate.messages": "withheld"}


def test_decode__prompts_and_replies_that_are_wanted__go_apart_and_are_redacted() -> None:
    found = decoded(SAID, reading=PLAIN._replace(redactor_of=lambda _: redactor(["hel+o"])))

    kept = {message.name: message.content for message in found.messages}
    assert kept == {
        "gen_ai.prompt.0.content": "my mail is [redacted]",
        "gen_ai.input.messages": '[{"role": "user"}]',
        "llm.input_messages.0.message.content": "[redacted]",
    }
    assert b"b.example" not in found.rows[0].attributes


def test_decode__messages_in_events__are_withheld_too() -> None:
    events = [
        {"name": "gen_ai.user.message", "timeUnixNano": "5", "attributes": [attribute("content", "secret"), attribute("role", "user")]},
        {"name": "exception", "attributes": [attribute("exception.message", "timed out")]},
    ]  # fmt: skip

    (row,) = decoded({}, events=events).rows

    assert orjson.loads(row.events) == [
        {"name": "gen_ai.user.message", "at_ns": 5, "attributes": {"role": "user"}},
        {"name": "exception", "at_ns": 0, "attributes": {"exception.message": "timed out"}},
    ]


def test_decode__too_many_attributes__says_how_many_were_cut() -> None:
    (row,) = decoded({f"a{number}": number for number in range(300)}, droppedAttributesCount=5).rows

    assert orjson.loads(row.attributes)["tidegate.cut"] == {"(attributes)": 49}
