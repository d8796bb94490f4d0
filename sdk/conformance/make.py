"""Write the vectors: ``python -m sdk.conformance.make`` from the root of the repository, with ``PYTHONPATH=sdk/python/src``.

What must follow is what the core decides today. A change of a vector is a change of behaviour for every SDK: look at the
difference before you commit it. ``price.json``, ``bucketing.json`` and ``partition.json`` are written by hand or elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdk.conformance.case import Case
from sdk.conformance.cases import ABOUT, cases
from sdk.conformance.server import SERVER
from sdk.conformance.subjects import CORE, Subject

FOLDER = Path(__file__).parent
SUBJECTS: dict[str, Subject] = {**CORE, **SERVER}


def filled(subject: Subject, case: Case) -> Case:
    """Return ``case`` with what must follow from each step."""
    given = {
        **case,
        "steps": [{name: said for name, said in step.items() if name != "expect"} for step in case["steps"]],
    }
    steps = [{**step, "expect": expect} for step, expect in zip(given["steps"], subject(given), strict=True)]
    return {**given, "steps": steps}


def document(name: str) -> dict[str, Any]:
    return {"about": ABOUT[name], "cases": [filled(SUBJECTS[name], case) for case in cases()[name]]}


def written(made: dict[str, Any]) -> str:
    """Return the text of a file: one line for each step, so that differences can be read."""
    lines = [f'{{"about": {json.dumps(made["about"])},', ' "cases": [']
    for number, case in enumerate(made["cases"]):
        given = json.dumps({name: said for name, said in case.items() if name != "steps"})[:-1]
        steps = ",\n   ".join(json.dumps(step) for step in case["steps"])
        lines.append(f'  {given}, "steps": [\n   {steps}]}}{"," if number < len(made["cases"]) - 1 else ""}')
    return "\n".join([*lines, " ]}"]) + "\n"


def main() -> None:
    for name in SUBJECTS:
        (FOLDER / f"{name}.json").write_text(written(document(name)))


if __name__ == "__main__":
    main()
