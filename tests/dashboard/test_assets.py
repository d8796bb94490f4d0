"""What browsers fetch: vendored files as their packages have them, little weight, no external plotly."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parents[2] / "static"
VENDOR = STATIC / "vendor"
FILES = tomllib.loads((VENDOR / "VENDOR.toml").read_text())["file"]
FIRST_PAGE_KIB = 150


@pytest.mark.parametrize("file", FILES, ids=lambda file: file["name"])
def test_vendored__any_file__is_the_one_that_was_recorded(file: dict[str, str]) -> None:
    assert hashlib.sha256((VENDOR / file["name"]).read_bytes()).hexdigest() == file["sha256"]


def test_vendored__every_file__is_recorded_with_the_version_of_the_lock() -> None:
    lock = json.loads((VENDOR / "package-lock.json").read_text())["packages"]
    ours = {"package.json", "package-lock.json", "vendor.py", "VENDOR.toml", ".npmrc"}

    served = {file["name"] for file in FILES if "/" not in file["name"]}
    assert served == {path.name for path in VENDOR.iterdir() if path.is_file()} - ours
    assert all(lock[f"node_modules/{file['package']}"]["version"] == file["version"] for file in FILES)


def test_first_page__styles_scripts_and_fonts__weigh_little() -> None:
    text = [*(STATIC / "css").glob("*.css"), *(STATIC / "js").glob("*.js"), VENDOR / "idiomorph.js"]
    fonts = [VENDOR / "inter-latin.woff2", VENDOR / "jetbrains-mono-latin.woff2"]

    weight = sum(len(gzip.compress(path.read_bytes())) for path in text) + sum(path.stat().st_size for path in fonts)

    assert weight < (FIRST_PAGE_KIB - 20) * 1024, "leave room for the page itself"


def test_charts__configuration__sends_nothing_to_anybody() -> None:
    script = (STATIC / "js" / "charts.js").read_text()

    assert re.search(r"showSendToCloud: false", script)
    assert re.search(r'plotlyServerURL: ""', script)
