"""Recorded messages in the forms that instrumentations write, as turns; anything else as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from controlplane.telemetry.models import Message, Span
from dashboard.said import Part, Turn, turns_of
from tests.dashboard.world import World


@pytest.mark.parametrize(
    ("document", "turns"),
    [
        (
            [{"role": "user", "parts": [{"type": "text", "content": "hello"}]}],
            [Turn("user", [Part("hello")])],
        ),
        (
            [{"role": "assistant", "finish_reason": "stop",
              "parts": [{"type": "tool_call", "id": "c1", "name": "search", "arguments": {"q": "tide"}}]}],
            [Turn("assistant", [Part('{\n  "q": "tide"\n}', "calls", "search")], "stop")],
        ),
        (
            [{"role": "tool", "parts": [{"type": "tool_call_response", "response": "42"}]}],
            [Turn("tool", [Part("42", "answers")])],
        ),
        ({"role": "user", "content": "hello"}, [Turn("user", [Part("hello")])]),
        (
            [{"message": {"role": "assistant", "content": None,
                          "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}],
            [Turn("assistant", [Part("{}", "calls", "f")])],
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image", "content": "https://x"}]}],
            [Turn("user", [Part("look"), Part("https://x", "image")])],
        ),
    ],
)  # fmt: skip
def test_turns__any_known_form__says_who_said_what(document: Any, turns: list[Turn]) -> None:
    assert turns_of(json.dumps(document)) == turns


@pytest.mark.parametrize(
    "content",
    [
        "plain words", "[]", "7", '["a"]', '[{"role": "user", "content": "x"}, 5]', '{"content": "x"}', "{",
        f'{{"role": "user", "content": [{{"type": "x", "content": {"[" * 300}{"]" * 300}}}]}}',
    ],
)  # fmt: skip
def test_turns__no_known_form__are_none(content: str) -> None:
    assert turns_of(content) == []


@pytest.mark.django_db
def test_drawer__of_a_span_with_messages__shows_turns_and_leads_to_the_session_and_the_user(
    sign_in: Callable[[str], Client], world: World
) -> None:
    span = Span.objects.exclude(session="").exclude(user="").first()
    assert span is not None
    said = json.dumps([{"role": "user", "content": "<b>hello</b>"}])
    for name, content in (("gen_ai.input.messages", said), ("gen_ai.prompt", "as it is")):
        Message.objects.create(
            starts_at=span.starts_at, trace_id=span.trace_id, span_id=span.span_id, name=name, tenant=span.tenant, content=content
        )  # fmt: skip

    html = sign_in("anna").get(f"/traces/{span.trace_id}/?span={span.span_id}").content.decode()

    assert re.search(r'class="spoken user">.*<p>&lt;b&gt;hello&lt;/b&gt;</p>', html)
    assert '<pre class="snippet">as it is</pre>' in html
    assert f'/sessions/?session={span.session}&amp;of={span.tenant}"' in html
    assert f'/sessions/?user={span.user}"' in html


@pytest.mark.django_db
def test_mesh__of_a_tenant_and_a_time__leads_to_traces_of_both(sign_in: Callable[[str], Client], world: World) -> None:
    html = sign_in("anna").get("/mesh/?tenant=acme&since=24h").content.decode()

    links = re.findall(r'<a href="/traces/\?([^"]+)"', html)
    assert links
    assert all(link.endswith("&amp;tenant=acme&amp;since=24h") for link in links)
