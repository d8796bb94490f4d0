"""The import contracts of pyproject.toml are run by ``make test``; here one is broken on purpose, to see it bite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("victim", "line"),
    [
        ("controlplane/domain/__init__.py", "import controlplane.tenancy.models"),
        ("controlplane/policy/models.py", "import controlplane.budgets.models"),
        ("sdk/python/src/tidegate/core/__init__.py", "import time"),
        ("sdk/python/src/tidegate/__init__.py", "import orjson"),
    ],
)
def test_import_contracts__an_import_that_points_up__is_refused(victim: str, line: str, tmp_path: Path) -> None:
    for folder in ("controlplane", "dashboard", "sdk"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / victim).open("a") as file:
        file.write(f"\n{line}\n")

    linter = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{tmp_path / 'sdk/python/src'}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert linter.returncode == 1, linter.stdout + linter.stderr
    assert "BROKEN" in linter.stdout
