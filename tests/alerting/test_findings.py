"""Figures in the words of alerts."""

from __future__ import annotations

import pytest

from controlplane.alerting.findings import hours_text, number_text


@pytest.mark.parametrize(
    ("hours", "said"), [(0.0, "0 min"), (0.02, "1 min"), (0.5, "30 min"), (1.0, "1.0 h"), (30.25, "30.2 h")]
)
def test_hours_text__under_an_hour__is_told_in_minutes(hours: float, said: str) -> None:
    assert hours_text(hours) == said


@pytest.mark.parametrize(("value", "said"), [(16_512_343, "16,512,343"), (0.03124, "0.03124"), (999.96, "1000")])
def test_number_text__of_any_size__has_four_digits_at_least(value: float, said: str) -> None:
    assert number_text(value) == said
