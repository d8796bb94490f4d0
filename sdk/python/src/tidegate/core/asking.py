"""What a request to a provider asks for: its model, about how many tokens go in, how many may come out.

Requests of OpenAI's chat completions, responses, completions and embeddings, of Anthropic's messages, Gemini's generateContent and
Bedrock's converse are read, by the names that they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

BYTES_PER_TOKEN = 3  # English has four to five, code three to four, other scripts three and more
PER_MESSAGE = 8
PER_ATTACHMENT = 2_000  # an image, a page, some seconds of sound
MAX_DEPTH = 12

_SAID = (
    "messages",
    "input",
    "prompt",
    "system",
    "instructions",
    "contents",
    "systemInstruction",
    "system_instruction",
    "tools",
)
_MOST = (
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "max_tokens_to_sample",
    "maxOutputTokens",
    "maxTokens",
)
_SETTINGS = ("generationConfig", "generation_config", "inferenceConfig", "config")
_ATTACHED = frozenset({
    "image_url", "input_audio", "input_image", "input_file", "file", "file_data", "source", "inline_data", "inlineData",
    "fileData", "file_uri", "image", "document", "video", "bytes",
})  # fmt: skip


class Asked(NamedTuple):
    """``input_tokens`` is an estimate that is rather too high; ``max_output_tokens`` is ``None`` when the request has no limit."""

    model: str | None
    input_tokens: int
    max_output_tokens: int | None
    stream: bool


def read_request(request: Mapping[str, Any]) -> Asked:
    """Return what the body (or the keyword arguments) of a request asks for."""
    model = request.get("model", request.get("modelId"))
    said = [request[name] for name in _SAID if request.get(name) is not None]
    return Asked(
        model if isinstance(model, str) else None,
        sum(_tokens(part, 0) for part in said),
        _most(request),
        request.get("stream") is True,
    )


def _most(request: Mapping[str, Any]) -> int | None:
    for settings in (request, *(request.get(name) for name in _SETTINGS)):
        if isinstance(settings, Mapping):
            for name in _MOST:
                value = settings.get(name)
                if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                    answers = request.get("n")
                    return value * answers if isinstance(answers, int) and answers > 1 else value
    return None


def tokens_of(text: str) -> int:
    """Return about how many tokens a text is, rather too many."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def _tokens(part: Any, depth: int) -> int:
    if isinstance(part, str):
        return tokens_of(part) + (PER_MESSAGE if depth == 0 else 0)
    if isinstance(part, int) and not isinstance(part, bool):
        return 1  # a text that is tokens already
    if depth > MAX_DEPTH:
        return 0
    if isinstance(part, Mapping):
        return PER_MESSAGE + sum(
            PER_ATTACHMENT
            if name in _ATTACHED and isinstance(value, Mapping | str | bytes)
            else _tokens(value, depth + 1)
            for name, value in part.items()
        )
    if isinstance(part, list | tuple):
        return sum(_tokens(item, depth + 1) for item in part)
    return 0
