"""The left rail: where one can go, and how many things there want attention."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.alerts import State
from dashboard.asking import Asking


@dataclass(frozen=True)
class Entry:
    """A place. ``key`` follows ``g`` on the keyboard; a line is drawn where ``group`` changes."""

    name: str
    title: str
    key: str
    group: int


ENTRIES = (
    Entry("overview", "Overview", "o", 1),
    Entry("tenants", "Tenants", "t", 1),
    Entry("budgets", "Budgets", "b", 1),
    Entry("accuracy", "Accuracy", "y", 1),
    Entry("prices", "Prices", "p", 1),
    Entry("limits", "Limits", "l", 1),
    Entry("breakers", "Breakers", "r", 1),
    Entry("rollouts", "Rollouts", "u", 1),
    Entry("metrics", "Metrics", "i", 2),
    Entry("traces", "Traces", "x", 2),
    Entry("mesh", "Mesh", "m", 2),
    Entry("sessions", "Sessions", "e", 2),
    Entry("alerts", "Alerts", "n", 2),
    Entry("slos", "Service levels", "v", 2),
    Entry("clients", "Clients", "c", 3),
    Entry("state", "State", "w", 3),
    Entry("audit", "Audit", "a", 4),
    Entry("settings", "Settings", "s", 4),
)


@dataclass(frozen=True)
class Badge:
    amount: int
    tone: str
    says: str


@dataclass(frozen=True)
class Link:
    """An entry as drawn. ``breaks`` puts a line before it."""

    entry: Entry
    current: bool
    breaks: bool
    badge: Badge | None


def links(asking: Asking, section: str) -> list[Link]:
    """Return the rail of a page in ``section``, with badges."""
    badges = _badges(asking)
    groups = [entry.group for entry in ENTRIES]
    return [
        Link(entry, entry.name == section, number > 0 and groups[number - 1] != entry.group, badges.get(entry.name))
        for number, entry in enumerate(ENTRIES)
    ]


def _badges(asking: Asking) -> dict[str, Badge]:
    broken = sum(breaker.open > 0 for breaker in asking.breakers)
    short = sum(bool(standing.tone) for standing in asking.standings)
    tone = "trouble" if any(standing.exhausted for standing in asking.standings) else "watch"
    waiting = sum(each.phase in {"held", "approval"} or each.asks for each in asking.rollouts)
    going = Badge(len(asking.rollouts), "can", "under way")
    firing = sum(each.acknowledged_at is None for each in asking.firing)
    pending = sum(each.state == State.PENDING for each in asking.alerts)
    found = {
        "alerts": Badge(firing, "trouble", "firing") if firing else Badge(pending, "watch", "pending"),
        "rollouts": Badge(waiting, "watch", "wait for a person") if waiting else going,
        "breakers": Badge(broken, "trouble", "open"),
        "budgets": Badge(short, tone, "will not last"),
    }
    return {name: badge for name, badge in found.items() if badge.amount}
