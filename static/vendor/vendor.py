"""Copies what the pages load out of npm packages into this folder and writes VENDOR.toml.

Run it as ``python static/vendor/vendor.py`` after a change of package.json; commit what it writes. The packages are
unpacked in a temporary folder, without running their scripts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = {
    "inter-latin.woff2": ("@fontsource-variable/inter", "files/inter-latin-wght-normal.woff2"),
    "inter-latin-ext.woff2": ("@fontsource-variable/inter", "files/inter-latin-ext-wght-normal.woff2"),
    "jetbrains-mono-latin.woff2": (
        "@fontsource-variable/jetbrains-mono",
        "files/jetbrains-mono-latin-wght-normal.woff2",
    ),
    "idiomorph.js": ("idiomorph", "dist/idiomorph.esm.js"),
    "plotly-basic.js": ("plotly.js-basic-dist-min", "plotly-basic.min.js"),
    "../../tests/browser/axe.min.js": ("axe-core", "axe.min.js"),  # checks pages in tests, is never served
}
DERIVED = {"plotly.css": "plotly.js-basic-dist-min"}  # dumped once from the style sheet that the bundle would inject


def entry(name: str, package: str, version: str, licence: str) -> str:
    digest = hashlib.sha256((HERE / name).read_bytes()).hexdigest()
    return (
        f'[[file]]\nname = "{name}"\npackage = "{package}"\nversion = "{version}"\n'
        f'licence = "{licence}"\nsha256 = "{digest}"\n'
    )


def main() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())["packages"]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(HERE / name, folder)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, check=True)
        for name, (package, path) in FILES.items():
            shutil.copy(Path(folder) / "node_modules" / package / path, HERE / name)
    entries = []
    sources = {**{name: package for name, (package, _) in FILES.items()}, **DERIVED}
    for name, package in sources.items():
        if (HERE / name).exists():
            about = lock[f"node_modules/{package}"]
            entries.append(entry(name, package, about["version"], about["license"]))
    (HERE / "VENDOR.toml").write_text("# Written by vendor.py; a test compares the hashes.\n\n" + "\n".join(entries))


if __name__ == "__main__":
    main()
