"""What was typed into a form, and what is wrong with it: the errors of the rules, by the names of the fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from controlplane.problems import Invalid, Problem
from tidegate.core.price import parse_usd


@dataclass(frozen=True)
class Form:
    """``errors`` maps a field's name to what is wrong with it; ``detail`` says it for the whole form."""

    values: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""

    @classmethod
    def of(cls, posted: Mapping[str, str]) -> Form:
        """Take what was posted, trimmed and without NULs."""
        return cls({name: str(value).replace("\0", "").strip()[:200_000] for name, value in posted.items()})

    def failed(self, problem: Problem) -> Form:
        """Return the same form with what ``problem`` says."""
        return replace(self, errors=problem.errors, detail=problem.detail)

    def text(self, name: str) -> str:
        return self.values.get(name, "")

    def nusd(self, name: str) -> int:
        """Read a field of dollars; ``Invalid`` names it."""
        try:
            return parse_usd(self.text(name).replace("$", "").replace(",", ""))
        except ValueError as error:
            raise Invalid("An amount of money is not readable.", errors={name: str(error)}) from None

    def whole(self, name: str) -> int | None:
        """Read a field of a whole number, ``None`` when it is empty; ``Invalid`` names it."""
        text = self.text(name)
        if not text:
            return None
        if not text.isdecimal() or len(text) > 18:
            raise Invalid("A number is not readable.", errors={name: "must be a whole number"})
        return int(text)

    def moment(self, name: str) -> datetime | None:
        """Read a time as browsers send it, ``2026-11-25T14:00``, in UTC; ``None`` when it is empty, ``Invalid`` names it."""
        text = self.text(name)
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise Invalid("A time is not readable.", errors={name: "must be like 2026-11-25T14:00"}) from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def due_moment(self, name: str) -> datetime:
        """Read a time that must be said; ``Invalid`` names it."""
        moment = self.moment(name)
        if moment is None:
            raise Invalid("A time is missing.", errors={name: "is missing"})
        return moment
