"""The provider of OpenFeature, asked by OpenFeature's own client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from sdk.python.tests.bench import Bench
from sdk.python.tests.test_releases import document
from tidegate.core.snapshot import Snapshot, compile_snapshot
from tidegate.integrations.openfeature import TidegateProvider

USER = EvaluationContext("u-1")
STABLE = {"model": "a", "temperature": 0.5, "tries": 3, "strict": True, "tools": ["search"]}


def releases(step: int = 3, stable: dict[str, Any] = STABLE, **parts: Any) -> Snapshot:
    made = document(shadow=False, unit="user", share=500_000)
    assistant = made["deployments"]["assistant"]
    assistant.update(step=step, **parts)
    assistant["releases"]["old"]["config"] = stable
    assistant["releases"]["new"]["config"] = {**stable, "model": "b"}
    return compile_snapshot(made)


@pytest.fixture
def client(bench: Bench) -> Iterator[OpenFeatureClient]:
    bench.guard.follow(releases(), bench.book)
    gate: Any = SimpleNamespace(guard=bench.guard)
    api.set_provider(TidegateProvider(gate), "tidegate")
    yield api.get_client("tidegate")
    api.clear_providers()
    assert bench.guard.followers == []


def test_resolve__each_type__as_the_config_has_it(client: OpenFeatureClient) -> None:
    assert client.get_boolean_value("assistant.strict", False, USER) is True
    assert client.get_float_value("assistant.temperature", 0.0, USER) == 0.5
    assert client.get_float_value("assistant.tries", 0.0, USER) == 3.0
    assert client.get_integer_value("assistant.tries", 0, USER) == 3
    assert client.get_object_value("assistant.tools", [], USER) == ["search"]
    assert client.get_object_value("assistant", {}, USER)["tries"] == 3  # type: ignore[call-overload]  # it is an object


def test_resolve__many_users__gets_what_the_sdk_gives_them(client: OpenFeatureClient) -> None:
    deployment = releases().deployments["assistant"]

    for number in range(100):
        found = client.get_string_details("assistant.model", "x", EvaluationContext(f"u-{number}", {"tenant": "acme"}))
        expected = deployment.assign(f"acme/u-{number}", tenant="acme")
        assert (found.value, found.variant) == (expected.config["model"], expected.version)
        assert (found.reason, found.flag_metadata["arm"]) == (Reason.SPLIT, expected.arm)


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda client: client.get_string_details("nothing", "x", USER), ErrorCode.FLAG_NOT_FOUND),
        (lambda client: client.get_string_details("assistant.model", "x"), ErrorCode.TARGETING_KEY_MISSING),
        (lambda client: client.get_string_details("assistant.strict", "x", USER), ErrorCode.TYPE_MISMATCH),
        (lambda client: client.get_string_details("assistant.tries", "x", USER), ErrorCode.TYPE_MISMATCH),
        (
            lambda client: client.get_string_details("assistant.model", "x", EvaluationContext("u", {"tenant": 1})),
            ErrorCode.INVALID_CONTEXT,
        ),
    ],
)
def test_resolve__what_can_not_be__is_the_default_with_a_code(
    client: OpenFeatureClient, ask: Callable[[OpenFeatureClient], Any], code: ErrorCode
) -> None:
    found = ask(client)

    assert (found.value, found.error_code, found.reason) == ("x", code, Reason.ERROR)


def test_resolve__boolean_where_a_number_is_asked__is_no_number(client: OpenFeatureClient) -> None:
    assert client.get_integer_details("assistant.strict", 7, USER).error_code == ErrorCode.TYPE_MISMATCH
    assert client.get_float_details("assistant.strict", 7.0, USER).value == 7.0


def test_events__another_release__names_the_flags_that_changed(client: OpenFeatureClient, bench: Bench) -> None:
    told: list[list[str]] = []
    came = threading.Event()

    def changed(details: EventDetails) -> None:
        told.append(details.flags_changed or [])
        came.set()

    client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, changed)
    bench.guard.follow(releases(), bench.book)
    bench.guard.follow(releases(step=4, candidate=None, rings=[]), bench.book)

    assert came.wait(10)
    assert len(told) == 1
    assert {"assistant", "assistant.model", "assistant.strict"} <= set(told[0])
    assert client.get_string_details("assistant.model", "x").reason == Reason.STATIC


def test_provider__control_plane_never_reached__is_not_ready_until_it_is(bench: Bench) -> None:
    gate: Any = SimpleNamespace(guard=bench.guard)
    provider = TidegateProvider(gate)
    api.set_provider(provider, "late")
    client = api.get_client("late")
    before = client.get_string_details("assistant.model", "x", USER)
    ready = threading.Event()
    client.add_handler(ProviderEvent.PROVIDER_READY, lambda _: ready.set())

    bench.guard.follow(releases(), bench.book)

    assert ready.wait(10)
    assert before.error_code == ErrorCode.PROVIDER_NOT_READY
    assert client.get_string_value("assistant.model", "x", USER) in {"a", "b"}
    api.clear_providers()
