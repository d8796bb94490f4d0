"""Policy documents in words."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.policy_words import parts_of


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"limits": [{"unit": "requests", "amount": 600, "per_s": 60}]}, "600 requests per 60 s, among all clients"),
        (
            {"limits": [{"unit": "tokens", "amount": 9000, "per_s": 1, "burst": 10, "scope": "instance", "enforcement": "shadow"}]},
            "9,000 tokens per 1 s, burst 10, per client, watched only",
        ),
        ({"limits": [{"unit": "requests", "amount": 600}]}, "600 requests per 60 s, among all clients"),
        ({"queue": {"max_concurrent": 16}}, "16 at once, 64 wait up to 2 s"),
        ({"breaker": {"min_calls": 5, "window": "tumbling"}}, "opens at 50 % failed of 5+ in each 30 s, for 20 s"),
        ({"breaker": {"min_calls": 5}}, "opens at 50 % failed of 5+ in 30 s, for 20 s"),
        ({"retry": {"base_ms": 100}}, "up to 3 attempts"),
        ({"queue": {"max_concurrent": 16, "max_waiting": 64, "max_wait_ms": 2000}}, "16 at once, 64 wait up to 2 s"),
        (
            {"queue": {"max_concurrent": 16, "max_waiting": 0, "scope": "fleet", "adaptive": "gradient", "min_concurrent": 2, "congestion": "lifo"}},
            "16 at once, among all clients, adapted from 2 up, lifo under congestion",
        ),
        ({"breaker": {"window_calls": 50, "min_calls": 10, "open_s": 5}}, "opens at 50 % failed of 10+ in the last 50, for 5 s"),
        ({"breaker": {"mode": "metrics_only"}}, "metrics only"),
        ({"retry": {"max_attempts": 3, "hedge_ms": 1500}}, "up to 3 attempts, hedged after 1.5 s"),
    ],
)  # fmt: skip
def test_parts__one_part__one_line(document: dict[str, Any], words: str) -> None:
    assert [part.text for part in parts_of(document)] == [words]
