"""What a strict Content-Security-Policy and a machine without a network ask of the pages' sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
INLINE = re.compile(
    r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")[^>]*>|<style|\sstyle=[\"']|\son[a-z]+=[\"']",
    re.IGNORECASE,
)
FETCHED_FROM_ELSEWHERE = re.compile(
    r"(?:src|href|action)=[\"']?(?:https?:)?//|url\([\"']?(?:https?:)?//|@import[^;]*//"
)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template__any__has_no_inline_script_style_or_handler(template: Path) -> None:
    found = INLINE.findall(template.read_text())

    assert found == []


def test_sources__templates_styles_and_scripts__fetch_nothing_from_another_host() -> None:
    ours = [*TEMPLATES, *(path for kind in ("*.css", "*.js") for path in (ROOT / "static").rglob(kind))]
    written_by_us = [path for path in ours if "vendor" not in path.parts]

    found = {path.name for path in written_by_us if FETCHED_FROM_ELSEWHERE.search(path.read_text())}

    assert found == set()


def test_styles__outside_the_tokens__name_no_raw_colour() -> None:
    raw = re.compile(r"(?<![\w-])#[0-9a-fA-F]{3,8}\b|\b(?:rgb|hsl|oklch)a?\(")
    styles = [
        path for path in (ROOT / "static").rglob("*.css") if "vendor" not in path.parts and path.name != "tokens.css"
    ]

    found = {path.name for path in styles if raw.search(path.read_text())}

    assert found == set()
