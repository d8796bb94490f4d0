"""What is given in the vectors; what must follow is computed by ``make``."""

from __future__ import annotations

from sdk.conformance import breaker_cases, call_cases, document_cases, gate_cases, money_cases
from sdk.conformance.case import Case

PARTS = (breaker_cases, call_cases, document_cases, gate_cases, money_cases)
ABOUT = {subject: told for part in PARTS for subject, told in part.ABOUT.items()}


def cases() -> dict[str, list[Case]]:
    """Return what is given, by subject."""
    return {subject: given for part in PARTS for subject, given in part.cases().items()}
