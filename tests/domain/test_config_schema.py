"""Configs against schemas: what fits, what does not and where, and schemas that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.config_schema import config_faults, schema_faults

SCHEMA = {
    "type": "object",
    "required": ["model"],
    "additionalProperties": False,
    "properties": {
        "model": {"enum": ["gpt-4o", "gpt-4o-mini"]},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "stop": {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 2},
        "retries": {"type": ["integer", "null"], "exclusiveMinimum": 0},
    },
}


@pytest.mark.parametrize(
    "config",
    [
        {"model": "gpt-4o"},
        {"model": "gpt-4o-mini", "temperature": 0, "stop": ["a", "b"], "retries": None},
        {"model": "gpt-4o", "retries": 2.0},
    ],
)
def test_config__that_fits__has_no_faults(config: Any) -> None:
    assert schema_faults(SCHEMA) == {}
    assert config_faults(config, SCHEMA) == {}


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({}, "config.model"),
        ([], "config"),
        ({"model": "gpt-5"}, "config.model"),
        ({"model": "gpt-4o", "temperature": 2.1}, "config.temperature"),
        ({"model": "gpt-4o", "temperature": True}, "config.temperature"),
        ({"model": "gpt-4o", "stop": ["a", ""]}, "config.stop[1]"),
        ({"model": "gpt-4o", "stop": ["a", "b", "c"]}, "config.stop"),
        ({"model": "gpt-4o", "retries": 0}, "config.retries"),
        ({"model": "gpt-4o", "retries": 1.5}, "config.retries"),
        ({"model": "gpt-4o", "color": "red"}, "config.color"),
    ],
)
def test_config__that_does_not_fit__says_where(config: Any, where: str) -> None:
    assert list(config_faults(config, SCHEMA)) == [where]


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"pattern": "a+"}, "schema.pattern"),
        ({"type": "text"}, "schema.type"),
        ({"properties": {"a": {"oneOf": []}}}, "schema.properties.a.oneOf"),
        ({"required": "a"}, "schema.required"),
        ({"minimum": "1"}, "schema.minimum"),
        (7, "schema"),
    ],
)
def test_schema__with_what_is_not_understood__is_refused(schema: Any, where: str) -> None:
    assert list(schema_faults(schema)) == [where]
