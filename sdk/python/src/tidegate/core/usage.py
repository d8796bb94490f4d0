"""What a call uses, in disjoint classes: no token is in two of them, so that a cost is one sum over them.

Providers count differently: OpenAI's and Gemini's input includes what came from a cache, Anthropic's and Bedrock's does not; reasoning
is part of OpenAI's output and beside Gemini's. ``read_usage`` makes all of them disjoint, whichever the reply came from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Usage = dict[str, int]


class Unit(NamedTuple):
    """How a class is priced: dollars per ``per`` of it, and at which class's price when it has none of its own."""

    per: int
    falls_to: tuple[str, ...] = ()


_TOKENS, _THOUSAND, _HOUR = 1_000_000, 1_000, 3_600

CLASSES: Mapping[str, Unit] = {
    "input": Unit(_TOKENS),
    "cached_input": Unit(_TOKENS, ("input",)),
    "cache_write": Unit(_TOKENS, ("input",)),
    "cache_write_1h": Unit(_TOKENS, ("cache_write", "input")),
    "input_audio": Unit(_TOKENS, ("input",)),
    "input_image": Unit(_TOKENS, ("input",)),
    "input_video": Unit(_TOKENS, ("input",)),
    "cached_input_audio": Unit(_TOKENS, ("cached_input", "input_audio", "input")),
    "cached_input_image": Unit(_TOKENS, ("cached_input", "input_image", "input")),
    "cached_input_video": Unit(_TOKENS, ("cached_input", "input_video", "input")),
    "output": Unit(_TOKENS),
    "reasoning": Unit(_TOKENS, ("output",)),
    "citation": Unit(_TOKENS, ("output",)),
    "output_audio": Unit(_TOKENS, ("output",)),
    "output_image": Unit(_TOKENS, ("output",)),
    "output_video": Unit(_TOKENS, ("output",)),
    "input_characters": Unit(_TOKENS),
    "input_messages": Unit(_THOUSAND),
    "audio_seconds": Unit(_HOUR),
    "input_audio_seconds": Unit(_HOUR, ("audio_seconds",)),
    "output_audio_seconds": Unit(_HOUR, ("audio_seconds",)),
    "input_pixels": Unit(1_000_000_000),
    "input_pages": Unit(_THOUSAND),
    "input_annotated_pages": Unit(_THOUSAND, ("input_pages",)),
    "rerank_searches": Unit(_THOUSAND),
    "web_searches": Unit(_THOUSAND),
    "social_searches": Unit(_THOUSAND),
    "storage_searches": Unit(_THOUSAND),
    "code_executions": Unit(_THOUSAND),
    "requests": Unit(_THOUSAND),  # every call is one
}
CACHED_CLASSES = ("cached_input", "cached_input_audio", "cached_input_image", "cached_input_video")
INPUT_CLASSES = (
    "input", "cache_write", "cache_write_1h", "input_audio", "input_image", "input_video", *CACHED_CLASSES,
)  # fmt: skip
OUTPUT_CLASSES = ("output", "reasoning", "citation", "output_audio", "output_image", "output_video")


def input_tokens(usage: Mapping[str, int]) -> int:
    """Return all tokens that went in, cached ones included."""
    return sum(usage.get(name, 0) for name in INPUT_CLASSES)


def cached_tokens(usage: Mapping[str, int]) -> int:
    """Return the tokens that were read from a cache."""
    return sum(usage.get(name, 0) for name in CACHED_CLASSES)


def output_tokens(usage: Mapping[str, int]) -> int:
    """Return all tokens that came out, reasoning included."""
    return sum(usage.get(name, 0) for name in OUTPUT_CLASSES)


def plain_classes(fresh: int, cached: int, out: int) -> Usage:
    """Return disjoint usage out of all input, the cached part of it, and all output."""
    return {"input": fresh - cached, "cached_input": cached, "output": out}


def beyond_plain(usage: Mapping[str, int]) -> Usage:
    """Return the part of ``usage`` that the sums of input, cached input and output don't tell apart."""
    return {name: count for name, count in usage.items() if name not in ("input", "cached_input", "output") and count}


def apart(beyond: Mapping[str, int], *, fresh: int, cached: int, out: int) -> Usage:
    """Return disjoint usage out of the three sums and what is beyond them: the inverse of ``beyond_plain``."""
    if beyond:
        cached_part, output_part = cached_tokens(beyond), output_tokens(beyond)
        input_part = input_tokens(beyond) - cached_part
        plain = {
            "input": fresh - cached - input_part,
            "cached_input": cached - cached_part,
            "output": out - output_part,
        }
    else:  # most calls: nothing is to be looked for among all classes that there are
        plain = plain_classes(fresh, cached, out)
    return {name: count for name, count in {**beyond, **plain}.items() if count > 0}


def checked(usage: Mapping[str, Any]) -> Usage:
    """Return ``usage`` without its zeros; ``ValueError`` for a class that there is not, or a count that none can have."""
    for name, count in usage.items():
        if name not in CLASSES:
            raise ValueError(f"there is no class of usage {name!r}; known are {', '.join(CLASSES)}")
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"{name} is a whole number that is not negative, got {count!r}")
    return {name: count for name, count in usage.items() if count}


class Read(NamedTuple):
    """What a reply says: its usage, the model that answered, and what else the price depends on (``service_tier`` …)."""

    usage: Usage
    model: str | None
    context: tuple[tuple[str, str], ...] = ()


def read_usage(reply: Any) -> Read | None:
    """Return the usage that a provider's reply reports, or ``None`` when it reports none.

    ``reply`` is the decoded JSON of OpenAI's chat completions, responses, embeddings, images or transcriptions, of Anthropic's
    messages, Gemini's generateContent, Bedrock's converse, Cohere's chat, or of what speaks like one of them.
    """
    if not isinstance(reply, Mapping):
        return None
    for key in ("usage", "usageMetadata", "usage_metadata", "meta"):
        counts = reply.get(key)
        if isinstance(counts, Mapping):
            usage = _reader(key, counts)(counts)
            return Read(
                {name: count for name, count in usage.items() if count > 0}, _model(reply), _context(reply, counts)
            )
    return None


def _reader(key: str, counts: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Usage]:
    if key in ("usageMetadata", "usage_metadata"):
        return _gemini
    if key == "meta" or "billed_units" in counts:
        return _cohere
    if "inputTokens" in counts or "outputTokens" in counts:
        return _bedrock
    if "cache_read_input_tokens" in counts or "cache_creation_input_tokens" in counts or "server_tool_use" in counts:
        return _anthropic
    return _openai


def _model(reply: Mapping[str, Any]) -> str | None:
    for key in ("model", "modelVersion", "model_version", "modelId"):
        if isinstance(reply.get(key), str) and reply[key]:
            return str(reply[key])
    return None


def _context(reply: Mapping[str, Any], counts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what selects another price: a tier of service, a speed."""
    found = {}
    for key in ("service_tier", "speed"):
        said = reply.get(key, counts.get(key))
        if isinstance(said, str) and said:
            found[key] = said
    return tuple(sorted(found.items()))


def _count(counts: Any, *names: str) -> int:
    """Return the first of ``names`` that is a count; 0 when none is."""
    if not isinstance(counts, Mapping):
        return 0
    for name in names:
        value = counts.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**15:
            return math.ceil(value)
    return 0


def _part(counts: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        value = counts.get(name)
        if isinstance(value, Mapping):
            return value
    return {}


def _rest(whole: int, *parts: int) -> int:
    return max(0, whole - sum(parts))


def _openai(counts: Mapping[str, Any]) -> Usage:
    """Chat completions, responses, embeddings, images, transcriptions, and all who speak like them. Input and output are totals."""
    into, out = _count(counts, "prompt_tokens", "input_tokens"), _count(counts, "completion_tokens", "output_tokens")
    of_input = _part(counts, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    of_output = _part(counts, "completion_tokens_details", "output_tokens_details", "output_token_details")
    of_cached = _part(of_input, "cached_tokens_details")
    # DeepSeek says prompt_cache_hit_tokens, xAI and Moonshot cached_tokens beside the details.
    cached = _count(of_input, "cached_tokens") or _count(counts, "prompt_cache_hit_tokens", "cached_tokens")
    cached = min(cached, into)
    cached_audio, cached_image = _count(of_cached, "audio_tokens"), _count(of_cached, "image_tokens")
    audio = _rest(_count(of_input, "audio_tokens"), cached_audio)
    image = _rest(_count(of_input, "image_tokens"), cached_image)
    written = _count(of_input, "cache_write_tokens", "cache_creation_tokens")
    out_audio, out_image = _count(of_output, "audio_tokens"), _count(of_output, "image_tokens")
    reasoning = _count(of_output, "reasoning_tokens")
    if reasoning > 0 and _count(counts, "total_tokens") == into + out + reasoning:
        out += reasoning  # xAI's completion leaves it out
    reasoning = min(reasoning, out)
    citation = _count(counts, "citation_tokens")
    return {
        "input": _rest(into, cached, audio, image, written),
        "cached_input": _rest(cached, cached_audio, cached_image),
        "cached_input_audio": cached_audio,
        "cached_input_image": cached_image,
        "cache_write": written,
        "input_audio": audio,
        "input_image": image,
        "output": _rest(out, reasoning, out_audio, out_image),
        "reasoning": reasoning,
        "citation": citation,
        "output_audio": out_audio,
        "output_image": out_image,
        "audio_seconds": _count(counts, "seconds") if counts.get("type") == "duration" else 0,
        "web_searches": _count(counts, "num_search_queries"),
    }


def _anthropic(counts: Mapping[str, Any]) -> Usage:
    """Messages. ``input_tokens`` are neither read from nor written to the cache: the three are disjoint already."""
    created = _part(counts, "cache_creation")
    hour = _count(created, "ephemeral_1h_input_tokens")
    return {
        "input": _count(counts, "input_tokens"),
        "cached_input": _count(counts, "cache_read_input_tokens"),
        "cache_write": _rest(_count(counts, "cache_creation_input_tokens"), hour),
        "cache_write_1h": hour,
        "output": _count(counts, "output_tokens"),
        "web_searches": _count(_part(counts, "server_tool_use"), "web_search_requests"),
    }


def _bedrock(counts: Mapping[str, Any]) -> Usage:
    """Converse: disjoint, like Anthropic's."""
    return {
        "input": _count(counts, "inputTokens"),
        "cached_input": _count(counts, "cacheReadInputTokens", "cacheReadInputTokenCount"),
        "cache_write": _count(counts, "cacheWriteInputTokens", "cacheWriteInputTokenCount"),
        "output": _count(counts, "outputTokens"),
    }


def _gemini(counts: Mapping[str, Any]) -> Usage:
    """generateContent. The prompt's count includes what was cached; thoughts and tool prompts are beside the two totals."""

    def told(camel: str, snake: str) -> int:
        return _count(counts, camel, snake)

    into = told("promptTokenCount", "prompt_token_count") + told(
        "toolUsePromptTokenCount", "tool_use_prompt_token_count"
    )
    cached = min(into, told("cachedContentTokenCount", "cached_content_token_count"))
    out = told("candidatesTokenCount", "candidates_token_count")
    of_input = _modalities(counts, "promptTokensDetails", "prompt_tokens_details")
    of_cached = _modalities(counts, "cacheTokensDetails", "cache_tokens_details")
    of_output = _modalities(counts, "candidatesTokensDetails", "candidates_tokens_details")
    usage = {
        "input": _rest(into, cached, *(_rest(of_input.get(m, 0), of_cached.get(m, 0)) for m in _MODALITIES)),
        "cached_input": _rest(cached, *of_cached.values()),
        "output": _rest(out, *of_output.values()),
        "reasoning": told("thoughtsTokenCount", "thoughts_token_count"),
    }
    for modality in _MODALITIES:
        usage[f"input_{modality}"] = _rest(of_input.get(modality, 0), of_cached.get(modality, 0))
        usage[f"cached_input_{modality}"] = of_cached.get(modality, 0)
        usage[f"output_{modality}"] = of_output.get(modality, 0)
    return usage


_MODALITIES = ("audio", "image", "video")


def _modalities(counts: Mapping[str, Any], *names: str) -> dict[str, int]:
    """Return Gemini's ``[{"modality": "AUDIO", "tokenCount": 3}]`` by modality, text left out."""
    found: dict[str, int] = {}
    details: list[Any] = next((counts[name] for name in names if isinstance(counts.get(name), list)), [])
    for item in details:
        modality = str(item.get("modality", "")).rpartition(".")[2].lower() if isinstance(item, Mapping) else ""
        if modality in _MODALITIES:
            found[modality] = found.get(modality, 0) + _count(item, "tokenCount", "token_count")
    return found


def _cohere(counts: Mapping[str, Any]) -> Usage:
    """Chat, embed and rerank: what is billed."""
    billed = _part(counts, "billed_units")
    return {
        "input": _count(billed, "input_tokens"),
        "output": _count(billed, "output_tokens"),
        "rerank_searches": _count(billed, "search_units"),
    }
