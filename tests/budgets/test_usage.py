"""Replies of providers, read and priced, beside what genai-prices reads out of them by extractors of its own."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from genai_prices import extract_usage

from tests.budgets.test_price_list import NOW, book
from tidegate.core.usage import read_usage

OPENAI = {"prompt_tokens": 1000, "completion_tokens": 400, "total_tokens": 1400,
          "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 0},
          "completion_tokens_details": {"reasoning_tokens": 250, "audio_tokens": 0}}  # fmt: skip
RESPONSES = {"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 400}, "output_tokens": 500,
             "output_tokens_details": {"reasoning_tokens": 200}, "total_tokens": 1500}  # fmt: skip
ANTHROPIC = {
    "input_tokens": 100,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 300,
    "output_tokens": 70,
}
GEMINI = {"promptTokenCount": 1000, "cachedContentTokenCount": 400, "candidatesTokenCount": 200, "thoughtsTokenCount": 150,
          "totalTokenCount": 1350, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}],
          "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 400}]}  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "flavor", "reply"),
    [
        ("openai", "chat", {"model": "gpt-4o", "usage": OPENAI}),
        ("openai", "chat", {"model": "gpt-5", "usage": OPENAI}),
        ("openai", "responses", {"model": "gpt-5-mini", "usage": RESPONSES}),
        (
            "openai",
            "embeddings",
            {"model": "text-embedding-3-small", "usage": {"prompt_tokens": 800, "total_tokens": 800}},
        ),
        ("anthropic", "default", {"model": "claude-sonnet-5", "usage": ANTHROPIC}),
        ("google", "default", {"modelVersion": "gemini-2.5-pro", "usageMetadata": GEMINI}),
        ("google", "default", {"modelVersion": "gemini-2.5-flash", "usageMetadata": GEMINI}),
        (
            "mistral",
            "default",
            {"model": "mistral-large-latest", "usage": {"prompt_tokens": 100, "completion_tokens": 50}},
        ),
        ("deepseek", "chat", {"model": "deepseek-chat", "usage": {**OPENAI, "prompt_cache_hit_tokens": 600}}),
        (
            "groq",
            "default",
            {"model": "llama-3.3-70b-versatile", "usage": {"prompt_tokens": 100, "completion_tokens": 50}},
        ),
    ],
)
def test_reply__read_and_priced__costs_what_genai_prices_makes_of_it(
    provider: str, flavor: str, reply: dict[str, Any]
) -> None:
    book().turn(12 * 3600)

    read = read_usage(reply)

    assert read is not None
    assert read.model is not None
    theirs = extract_usage(reply, provider_id=provider, api_flavor=flavor).calc_price(genai_request_timestamp=NOW)
    cost = book().usage_cost_nusd(read.model, read.usage, provider=provider)
    assert cost == int((theirs.total_price * 10**9).quantize(Decimal(1), ROUND_HALF_UP))
