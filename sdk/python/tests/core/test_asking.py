"""What requests ask for, whoever's they are; estimates of input are rather too high."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.asking import PER_ATTACHMENT, PER_MESSAGE, read_request, tokens_of

TEXT = "The quick brown fox jumps over the lazy dog."  # ten tokens of o200k
ATTACHED: Any = [{"type": "text", "text": TEXT}, {"type": "image_url", "image_url": {"url": "data:" + "A" * 99_999}}]


@pytest.mark.parametrize(
    ("request_", "most"),
    [
        ({"model": "m", "messages": [{"role": "user", "content": TEXT}], "max_tokens": 9}, 9),
        ({"model": "m", "messages": [{"role": "user", "content": TEXT}], "max_completion_tokens": 9, "n": 3}, 27),
        ({"model": "m", "input": TEXT, "max_output_tokens": 9}, 9),
        ({"model": "m", "prompt": TEXT}, None),
        ({"model": "m", "system": TEXT, "messages": [], "max_tokens": 9}, 9),
        ({"model": "m", "contents": [{"parts": [{"text": TEXT}]}], "generationConfig": {"maxOutputTokens": 9}}, 9),
        (
            {
                "modelId": "m",
                "messages": [{"role": "user", "content": [{"text": TEXT}]}],
                "inferenceConfig": {"maxTokens": 9},
            },
            9,
        ),
    ],
)
def test_read_request__of_any_provider__model_input_and_most_output(request_: dict[str, Any], most: int | None) -> None:
    asked = read_request(request_)

    assert (asked.model, asked.max_output_tokens, asked.stream) == ("m", most, False)
    assert 10 <= asked.input_tokens <= 60


def test_read_request__attachment__counted_as_one_and_not_by_its_bytes() -> None:
    asked = read_request({"model": "m", "messages": [{"role": "user", "content": ATTACHED}], "stream": True})

    assert PER_ATTACHMENT <= asked.input_tokens < PER_ATTACHMENT + 100
    assert asked.stream


def test_read_request__tokens_instead_of_text__counted_one_by_one() -> None:
    assert read_request({"model": "e", "input": [[1, 2, 3], [4]]}).input_tokens == 4


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "content", "input", "max_tokens", "n", "config", "model"]), inner
        )
    ),
    max_leaves=15,
)


@given(request_=st.dictionaries(st.sampled_from(["messages", "input", "max_tokens", "n", "config", "model"]), anything))
def test_read_request__whatever_it_is__read(request_: dict[str, Any]) -> None:
    asked = read_request(request_)

    assert asked.input_tokens >= 0
    assert asked.max_output_tokens is None or asked.max_output_tokens > 0


@given(text=st.text())
def test_tokens_of__any_text__a_token_per_three_bytes(text: str) -> None:
    assert tokens_of(text) * 3 >= len(text.encode("utf-8", "replace"))
    assert PER_MESSAGE > 0
