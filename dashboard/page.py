"""What a page is: a function from asker and parameters to a context, and named parts rendered from that context.

A part is a template whose root element has the part's name as its DOM id. The first response and every live frame render
parts by the same function, so a frame applied to a stale page gives the fresh page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.template.loader import render_to_string

from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker
from dashboard import rail
from dashboard.asking import Asking
from dashboard.incidents import incident_of
from dashboard.rollout_banner import banners_of

Context = dict[str, Any]


class Params(dict[str, str]):
    """The parameters of one view of a page, as in its address. Empty ones are left out."""

    @classmethod
    def taken(cls, names: Iterable[str], source: Mapping[str, str]) -> Params:
        """Take the named parameters from ``source`` (a query string, captured parts of a path), cut to 200 characters."""
        found = ((name, str(source.get(name, ""))[:200].replace("\0", "")) for name in sorted(names))
        return cls((name, value) for name, value in found if value)

    def value(self, name: str) -> str:
        return self.get(name, "")

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(self.items()))

    @property
    def query(self) -> str:
        return urlencode(self.key)


@dataclass(frozen=True)
class Page:
    """``params`` are the names it reads; ``section`` is its entry in the rail."""

    name: str
    section: str
    template: str
    parts: Mapping[str, str]
    build: Callable[[Asking, Params], Context]
    params: frozenset[str] = field(default_factory=frozenset)
    title: str = ""

    @property
    def all_parts(self) -> dict[str, str]:
        return {
            "rail_links": "parts/rail.html",
            "incidents": "parts/incidents.html",
            "rollout_banner": "parts/rollout_banner.html",
            **self.parts,
        }


def context_of(page: Page, asker: Asker, params: Params, now: datetime) -> Context:
    """Build the page's context; nothing in it depends on the asker but their scope and role."""
    asking = Asking(asker, now)
    return {
        "page": page,
        "params": params,
        "now": now,
        "rail": rail.links(asking, page.section),
        "incident": incident_of(asking),
        "rollout_banners": banners_of(asking) if page.section != "rollouts" else [],  # its own page says all of it
        "may_operate": asker.may(Role.OPERATOR),
        "may_admin": asker.may(Role.ADMIN),
        **page.build(asking, params),
    }


def render(page: Page, context: Context) -> dict[str, str]:
    """Return the parts' HTML by name."""
    return {name: render_to_string(template, context) for name, template in page.all_parts.items()}


@dataclass(frozen=True)
class Range:
    """A span of time up to now that figures are of."""

    name: str
    label: str
    words: str
    seconds: int
    step_s: int

    def since(self, now: datetime) -> datetime:
        """Return the start: on a whole step, a whole range before the end of the step that ``now`` is in."""
        step = now.timestamp() // self.step_s * self.step_s
        return datetime.fromtimestamp(step + self.step_s - self.seconds, tz=now.tzinfo)

    def before(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the range before, cut to the same length as what is over of this one."""
        since = self.since(now)
        return since - timedelta(seconds=self.seconds), now - timedelta(seconds=self.seconds)


RANGES = {
    entry.name: entry
    for entry in (
        Range("5m", "Live 5 m", "last 5 min", 300, 10),
        Range("1h", "1 h", "last hour", 3600, 60),
        Range("24h", "24 h", "last 24 h", 86400, 900),
    )
}


def range_of(params: Params) -> Range:
    """Return the range that the address names; five minutes without."""
    return RANGES.get(params.value("range"), RANGES["5m"])
