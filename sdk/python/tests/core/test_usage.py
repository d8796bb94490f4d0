"""Usage of every provider's replies, made disjoint."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.usage import (
    CLASSES,
    apart,
    beyond_plain,
    cached_tokens,
    checked,
    input_tokens,
    output_tokens,
    read_usage,
)

REPLIES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "openai chat": (
        {
            "model": "gpt-4o",
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 40,
                "total_tokens": 140,
                "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 10},
                "completion_tokens_details": {"reasoning_tokens": 25, "audio_tokens": 5},
            },
        },
        {"input": 30, "cached_input": 60, "input_audio": 10, "output": 10, "reasoning": 25, "output_audio": 5},
    ),
    "openai responses": (
        {
            "model": "o4",
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 40},
                "output_tokens": 50,
                "output_tokens_details": {"reasoning_tokens": 20},
                "total_tokens": 150,
            },
        },
        {"input": 60, "cached_input": 40, "output": 30, "reasoning": 20},
    ),
    "openai embeddings": ({"model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}}, {"input": 8}),
    "openai image": (
        {
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
                "output_tokens": 9,
            }
        },
        {"input": 10, "input_image": 40, "output": 9},
    ),
    "openai transcription": ({"text": "a", "usage": {"type": "duration", "seconds": 12.2}}, {"audio_seconds": 13}),
    "xai, reasoning beside the completion": (
        {
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 27,
                "completion_tokens_details": {"reasoning_tokens": 12},
            }
        },
        {"input": 10, "output": 5, "reasoning": 12},
    ),
    "deepseek": (
        {
            "usage": {
                "prompt_tokens": 10,
                "prompt_cache_hit_tokens": 4,
                "prompt_cache_miss_tokens": 6,
                "completion_tokens": 1,
            }
        },
        {"input": 6, "cached_input": 4, "output": 1},
    ),
    "anthropic": (
        {
            "model": "claude",
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
                "output_tokens": 7,
                "server_tool_use": {"web_search_requests": 2},
            },
        },
        {"input": 10, "cached_input": 100, "cache_write": 20, "cache_write_1h": 10, "output": 7, "web_searches": 2},
    ),
    "gemini": (
        {
            "modelVersion": "gemini-2.5-pro",
            "usageMetadata": {
                "promptTokenCount": 100,
                "cachedContentTokenCount": 40,
                "candidatesTokenCount": 20,
                "thoughtsTokenCount": 15,
                "toolUsePromptTokenCount": 5,
                "totalTokenCount": 140,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 70},
                    {"modality": "AUDIO", "tokenCount": 30},
                ],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 10}, {"modality": "TEXT", "tokenCount": 30}],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 12}],
            },
        },
        {
            "input": 45,
            "cached_input": 30,
            "input_audio": 20,
            "cached_input_audio": 10,
            "output": 8,
            "output_image": 12,
            "reasoning": 15,
        },
    ),
    "bedrock": (
        {
            "usage": {
                "inputTokens": 10,
                "cacheReadInputTokens": 3,
                "cacheWriteInputTokens": 2,
                "outputTokens": 4,
                "totalTokens": 19,
            }
        },
        {"input": 10, "cached_input": 3, "cache_write": 2, "output": 4},
    ),
    "cohere": ({"meta": {"billed_units": {"input_tokens": 5.0, "output_tokens": 2.0}}}, {"input": 5, "output": 2}),
    "cohere rerank": ({"meta": {"billed_units": {"search_units": 1}}}, {"rerank_searches": 1}),
}
token_classes = [name for name in CLASSES if input_tokens({name: 1}) or output_tokens({name: 1})]
usages = st.dictionaries(st.sampled_from(sorted(CLASSES)), st.integers(0, 10**6))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["usage", "usageMetadata", "prompt_tokens", "input_tokens", "prompt_tokens_details", "cached_tokens",
                         "promptTokensDetails", "modality", "tokenCount", "meta", "billed_units", "inputTokens"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize("name", REPLIES)
def test_read_usage__a_providers_reply__disjoint(name: str) -> None:
    reply, expected = REPLIES[name]

    read = read_usage(reply)

    assert read is not None
    assert read.usage == expected


def test_read_usage__reply__says_its_model_and_tier() -> None:
    read = read_usage({"model": "gpt-5", "service_tier": "flex", "usage": {"prompt_tokens": 1, "completion_tokens": 2}})

    assert read is not None
    assert (read.model, read.context) == ("gpt-5", (("service_tier", "flex"),))


@pytest.mark.parametrize("reply", [None, "text", [], {}, {"usage": None}, {"choices": []}])
def test_read_usage__nothing_said__none(reply: Any) -> None:
    assert read_usage(reply) is None


@given(reply=anything)
def test_read_usage__whatever_a_server_sends__counts_or_none(reply: Any) -> None:
    read = read_usage(reply)

    assert read is None or checked(read.usage) == read.usage


@given(usage=st.dictionaries(st.sampled_from(token_classes), st.integers(1, 10**6)))
def test_apart__three_sums_and_what_is_beyond__the_usage_again(usage: dict[str, int]) -> None:
    sums = {"fresh": input_tokens(usage), "cached": cached_tokens(usage), "out": output_tokens(usage)}

    assert apart(beyond_plain(usage), **sums) == usage


@given(usage=usages)
def test_checked__known_classes__without_the_zeros(usage: dict[str, int]) -> None:
    assert checked(usage) == {name: count for name, count in usage.items() if count}
