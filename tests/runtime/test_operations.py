"""docs/operations.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_operations__every_setting_in_the_environment__is_documented() -> None:
    names: set[str] = set()
    for path in [ROOT / "controlplane" / "settings.py", *(ROOT / "controlplane" / "runtime").glob("*.py")]:
        names |= set(re.findall(r"""(?:environ(?:\.get)?[(\[]|_flag\(|env\.get\()\s*"([A-Z_]+)\"""", path.read_text()))

    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))

    assert {"DATABASE_URL", "TIDEGATE_HTTPS", "NO_COLOR"} < names
    assert names <= documented


def test_operations__every_documented_setting__is_read_somewhere() -> None:
    documented = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    code = "".join(path.read_text() for path in (ROOT / "controlplane").rglob("*.py"))

    assert [name for name in documented if f'"{name}"' not in code] == []
