"""The page of the audit trail: what was recorded can be asked for."""

from __future__ import annotations

import re
from pathlib import Path

import controlplane
from controlplane.domain import state
from dashboard.pages.audit import KINDS

RECORDED = re.compile(r'target_kind="([a-z-]+)"|noted\(by, [^,]+, "([a-z]+)"')


def test_kinds__of_whatever_is_recorded__can_be_chosen() -> None:
    recorded = {f"state-{kind}" for kind in state.KINDS}
    for file in Path(controlplane.__file__).parent.rglob("*.py"):
        recorded.update(first or second for first, second in RECORDED.findall(file.read_text()))

    assert {"budget", "rollout", "slo"} < recorded
    assert recorded == set(KINDS)
