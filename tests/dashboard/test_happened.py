"""Events of spans as people read them, and in the drawer."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from controlplane.telemetry.models import Span
from dashboard.happened import Happened, happened
from tests.dashboard.world import World

SINCE = datetime(2026, 11, 25, 20, 0, tzinfo=UTC)
SINCE_NS = int(SINCE.timestamp()) * 10**9


def test_happened__exception__its_type_message_and_stack_stand_apart() -> None:
    attributes = {
        "exception.stacktrace": "Traceback",
        "exception.type": "ValueError",
        "exception.message": "no",
        "b": 2,
        "a": [1],
    }

    (found,) = happened([{"name": "exception", "at_ns": SINCE_NS + 5_000_000, "attributes": attributes}], SINCE)

    assert found == Happened("exception", 5000, "ValueError", "no", "Traceback", [("a", "[1]"), ("b", "2")])
    assert found.failed


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"name": "retry", "at_ns": SINCE_NS - 1000}, Happened("retry", -1, "", "", "", [])),
        ({"attributes": {"x": True}}, Happened("event", None, "", "", "", [("x", "true")])),
        ({"name": "x", "at_ns": "soon", "attributes": "none"}, Happened("x", None, "", "", "", [])),
    ],
)
def test_happened__other_events__told_as_far_as_they_are_known(event: dict[str, Any], found: Happened) -> None:
    assert happened([event, "no event", None], SINCE) == [found]


@pytest.mark.django_db
def test_drawer__of_a_span_that_raised__shows_what_and_where_and_no_json(
    sign_in: Callable[[str], Client], world: World
) -> None:
    span = Span.objects.filter(tenant="acme").first()
    assert span is not None
    stack = 'Traceback:\n  File "<app>.py", line 7'
    attributes = {
        "exception.type": "TimeoutError",
        "exception.message": "<i>late</i>",
        "exception.stacktrace": stack,
        "try": 2,
    }
    Span.objects.filter(pk=span.pk, span_id=span.span_id).update(
        events=[
            {"name": "exception", "at_ns": 1, "attributes": attributes},
            {"name": "tidegate.refused", "at_ns": 0, "attributes": {"reason": "queue_full"}},
        ]
    )

    html = sign_in("anna").get(f"/traces/{span.trace_id}/?span={span.span_id}").content.decode()

    assert re.search(r'<span class="mono up">TimeoutError</span>: &lt;i&gt;late&lt;/i&gt;', html)
    assert re.search(r'<pre class="snippet mono">Traceback:\n  File &quot;&lt;app&gt;.py&quot;, line 7</pre>', html)
    assert '<dt class="mono">try</dt><dd class="mono">2</dd>' in html
    assert '<dt class="mono">reason</dt><dd class="mono">queue_full</dd>' in html
    assert "exception.type" not in html
