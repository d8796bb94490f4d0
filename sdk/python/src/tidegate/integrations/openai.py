"""OpenAI's Python client, guarded: ``client = wrap(OpenAI(), gate, route="chat", tenant="acme")``.

Chat completions, responses, completions, embeddings, images and speech go through the gate; whole and streamed, sync and async. The
client is of the same class as before and shares its connections. It tries nothing again by itself: that is the policy's to say.

One request may say more of itself: ``client.chat.completions.create(…, tidegate={"tenant": "acme", "user": "u-1"})``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, Unpack

from tidegate.call import Call
from tidegate.client import Gate
from tidegate.describing import CallOptions
from tidegate.integrations.guarding import KEYWORD, Guarding, Keep, headers_of
from tidegate.integrations.meter import member

Client = TypeVar("Client")

_METHODS = (
    "chat.completions.create", "chat.completions.parse", "responses.create", "responses.parse", "completions.create",
    "embeddings.create", "images.generate", "images.edit", "audio.transcriptions.create", "audio.translations.create",
    "audio.speech.create", "moderations.create",
)  # fmt: skip
# Whose streams say their usage only when they are asked.
_WITH_USAGE = ("chat.completions.create", "completions.create")


def wrap(
    client: Client,
    gate: Gate,
    *,
    route: str = "chat",
    provider: str | None = None,
    include_usage: bool = True,
    **options: Unpack[CallOptions],
) -> Client:
    """Return a client like ``client`` (``OpenAI``, ``AsyncOpenAI``, those of Azure…) whose requests are guarded on ``route``.

    ``provider`` is the price list's name of who answers (``azure``, ``groq``), where that is not the model's maker. With
    ``include_usage`` streams are asked for their usage; the caller sees the last, empty piece only if it asked itself.
    """
    guarded = client.with_options(max_retries=0)  # type: ignore[attr-defined]  # every client of the library has it
    guarding = Guarding(gate, route, options, provider)
    for path in _METHODS:
        holder: Any = guarded
        *places, name = path.split(".")
        for place in places:
            holder = getattr(holder, place, None)
        method = getattr(holder, name, None)
        if method is not None:
            asks = include_usage and path in _WITH_USAGE
            setattr(holder, name, guard_method(guarding, method, include_usage=asks))
    return guarded  # type: ignore[no-any-return]  # of the class of the client


def guard_method(guarding: Guarding, method: Callable[..., Any], *, include_usage: bool) -> Callable[..., Any]:
    """Return ``method`` of a client with the guard around it."""
    asynchronous = inspect.iscoroutinefunction(inspect.unwrap(method))

    @functools.wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        more = kwargs.pop(KEYWORD, None)
        streams = kwargs.get("stream") is True
        keep = _asked_for_usage(kwargs) if streams and include_usage else _everything

        def send(call: Call) -> Any:
            return method(*args, **{**kwargs, "extra_headers": headers_of(call, kwargs.get("extra_headers"))})

        if asynchronous:
            return (
                guarding.stream_async(send, kwargs, more, keep) if streams else guarding.whole_async(send, kwargs, more)
            )
        return guarding.stream(send, kwargs, more, keep) if streams else guarding.whole(send, kwargs, more)

    return guarded


def _everything(_: Any) -> bool:
    return True


def _asked_for_usage(kwargs: dict[str, Any]) -> Keep:
    """Ask a stream for its usage; return which pieces the caller then sees: not the one that it did not ask for."""
    given = kwargs.get("stream_options")
    given = dict(given) if isinstance(given, dict) else {}
    if "include_usage" in given:
        return _everything
    kwargs["stream_options"] = {**given, "include_usage": True}
    return lambda event: bool(member(event, "choices")) or member(event, "usage") is None
