"""Deployments as a snapshot has them: which release a unit gets, in which arm it counts.

A unit gets the candidate when one of the rings reached so far holds it: it is among those the ring names, and it stands below
the ring's share. Its ring is the one with the greatest share. Rings only ever add units, so nobody changes sides while a
rollout advances. Only units that chance put on one side or the other are compared; the others count with ring -1.

While a rollout is in the shadow nobody gets the candidate: of units below the share copies may be sent with it, which count as
arm ``shadow`` and are compared with the calls of the units that are not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tidegate.core.bucketing import METHODS, PARTS

UNITS = ("request", "session", "user", "tenant")
NOT_COMPARED = -1
MAX_KEPT_POINTS = 50_000
_HALF = PARTS // 2


class Release(NamedTuple):
    """An immutable configuration, named by the hash of its content."""

    name: str
    version: str
    config: Any


class Ring(NamedTuple):
    """``share`` parts per million of the units that it names; an empty set names everybody."""

    share: int
    tenants: frozenset[str]
    users: frozenset[str]
    regions: frozenset[str]

    def names(self, tenant: str, user: str, region: str) -> bool:
        """Tell whether a unit is one of those whom the ring is for."""
        return (
            (not self.tenants or tenant in self.tenants)
            and (not self.users or user in self.users)
            and (not self.regions or region in self.regions)
        )


class Assignment(NamedTuple):
    """What a unit got. ``arm``: ``stable``, ``canary``, or ``baseline`` (stable too, in an arm as large as the canary's).

    ``shadow``: what a copy of the call gets, whose answer nobody sees (arm ``shadow``); ``None`` where none is wanted.
    """

    deployment: str
    release: str  # the hash of its content
    version: str
    config: Any
    arm: str
    ring: int
    number: int  # of the deployment, as counts name it
    step: int
    shadow: Assignment | None = None


class Deployment:
    """One deployment, compiled. Immutable but for the points that it remembers."""

    __slots__ = (
        "_all", "_arms", "_divided", "_kept", "_method", "_salt", "baseline", "candidate", "number", "rings", "routes", "shadow",
        "slug", "stable", "step", "unit", "window_s",
    )  # fmt: skip

    def __init__(self, slug: str, document: Mapping[str, Any]) -> None:
        self.slug = slug
        self.number: int = int(document["id"])
        self.unit: str = document["unit"]
        if self.unit not in UNITS:
            raise ValueError(f"deployment {slug}: {self.unit!r} is not a unit; known are {', '.join(UNITS)}")
        self._salt: str = str(document["salt"])
        self._method = METHODS[document.get("method", "tidegate")]
        self.routes = frozenset(document["routes"])
        self.step: int = int(document["step"])
        self.window_s: float = float(document.get("window_s", 30))
        self.baseline = bool(document.get("baseline", False))
        releases = {
            name: Release(name, str(each["version"]), each["config"]) for name, each in document["releases"].items()
        }
        self.stable = releases[document["stable"]]
        self.candidate = releases[document["candidate"]] if document.get("candidate") else None
        mirrored = document.get("shadow") if self.candidate is None else None
        self.shadow = releases[mirrored["release"]] if mirrored else None
        self.rings = tuple(_ring(each) for each in (mirrored or document).get("rings", ()))
        self._divided = bool(self.rings) and (self.candidate or self.shadow) is not None
        self._kept: dict[str, int] = {}
        self._all = self._assignment(self.stable, "stable", NOT_COMPARED)
        numbers = range(NOT_COMPARED, len(self.rings))
        self._arms = {
            (arm, ring): self._assignment(release, arm, ring)
            for arm, release in (("stable", self.stable), ("baseline", self.stable), ("canary", self.candidate))
            if release is not None
            for ring in numbers
        }
        if self.shadow is not None:
            for number, ring in enumerate(self.rings):
                compared = number if ring.share < PARTS else NOT_COMPARED
                copy = self._assignment(self.shadow, "shadow", compared)
                self._arms["shadow", number] = self._all._replace(shadow=copy)

    def _assignment(self, release: Release, arm: str, ring: int) -> Assignment:
        return Assignment(self.slug, release.name, release.version, release.config, arm, ring, self.number, self.step)

    @property
    def everybody(self) -> Assignment | None:
        """What every request gets, where each is a unit of its own and nobody gets anything else; ``None`` elsewhere."""
        return self._all if self.unit == "request" and not self._divided else None

    def point(self, unit: str) -> int:
        """Return where a unit stands; remembered, as the same units come again."""
        found = self._kept.get(unit)
        if found is None:
            if len(self._kept) >= MAX_KEPT_POINTS:
                self._kept.clear()
            found = self._kept[unit] = self._method(self._salt, unit)
        return found

    def assign(self, unit: str, *, tenant: str = "", user: str = "", region: str = "") -> Assignment:
        """Return what ``unit`` gets."""
        if not self._divided:
            return self._all
        return self.at(self.point(unit), tenant=tenant, user=user, region=region)

    def at(self, point: int, *, tenant: str = "", user: str = "", region: str = "") -> Assignment:
        """Return what a unit gets that stands at ``point``."""
        if not self._divided:
            return self._all
        best, share = NOT_COMPARED, 0
        for number, ring in enumerate(self.rings):
            if ring.share > share and ring.names(tenant, user, region):
                best, share = number, ring.share
        if self.shadow is not None:
            return self._arms["shadow" if point < share else "stable", best]
        if point < share:
            return self._arms["canary", best if share < PARTS else NOT_COMPARED]
        beside = self.baseline and best != NOT_COMPARED and share <= _HALF <= point < _HALF + share
        return self._arms["baseline" if beside else "stable", best]


def _ring(document: Mapping[str, Any]) -> Ring:
    share = document["share"]
    if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= PARTS:
        raise ValueError(f"a ring's share is a whole number from 0 to {PARTS}, got {share!r}")
    named = (frozenset(document.get(part, ())) for part in ("tenants", "users", "regions"))
    return Ring(share, *named)


def unit_of(deployment: Deployment, *, tenant: str, user: str, session: str) -> str:
    """Return the name of a call's unit; empty where every request is one, also for lack of a name.

    A tenant's name is part of it: two tenants may both have a user ``u-1``.
    """
    if deployment.unit == "tenant":
        return tenant
    name = {"session": session or user, "user": user or session}.get(deployment.unit, "")
    return f"{tenant}/{name}" if name else ""


def compile_deployments(document: Mapping[str, Any]) -> dict[str, Deployment]:
    """Return the deployments of a snapshot by slug; ``ValueError``, ``KeyError`` or ``TypeError`` when they are none."""
    return {str(slug): Deployment(str(slug), each) for slug, each in document.items()}
