"""What of rollouts concerns whoever looks at any page: one that waits for a person, one near its roll-back, one just taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from django.urls import reverse

from controlplane.domain.arms import remembered
from controlplane.domain.rollout import SERVED
from controlplane.domain.verdict import judge
from controlplane.rollouts.models import Rollout
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import SYSTEM
from dashboard import figures
from dashboard.asking import Asking
from dashboard.rollout_acts import Button, acts_of

MOST = 3
NEAR = 0.5  # of the evidence that rolls back
FRESH = timedelta(minutes=10)


@dataclass(frozen=True)
class Banner:
    """One line: what it is, why, and what may be done here."""

    rollout: Rollout
    tone: str
    pill: str
    why: str
    link: str
    buttons: Sequence[Button]


def banners_of(asking: Asking) -> list[Banner]:
    """Return what is to be shown on every page, the worst first."""
    found = [(rank, banner) for rollout in asking.rollouts for rank, banner in _of(asking, rollout)]
    found += [(1, banner) for banner in _taken_back(asking)]
    return [banner for _, banner in sorted(found, key=lambda each: each[0])][:MOST]


def _of(asking: Asking, rollout: Rollout) -> list[tuple[int, Banner]]:
    may = asking.asker.may(Role.OPERATOR)
    harm = judge(remembered(rollout.evidence).evidence, rollout.rules) if rollout.phase in SERVED else None
    if harm is not None and harm.harm >= NEAR:
        says = f"Evidence of harm {figures.percent(harm.harm, 0)} of what rolls it back, most in {harm.worst}. {rollout.reason}".strip()
        return [(0, _banner(rollout, "trouble", "Harm", says, acts_of(rollout).main if may else ()))]
    if rollout.phase == "held":
        return [(2, _banner(rollout, "watch", "Held", rollout.reason, acts_of(rollout).main if may else ()))]
    if rollout.asks or rollout.phase == "approval":
        return [(3, _banner(rollout, "watch", "Asks approval", rollout.reason, acts_of(rollout).main if may else ()))]
    return []


def _taken_back(asking: Asking) -> list[Banner]:
    """Return those that took themselves back lately and were not followed by another."""
    followed = {each.deployment_id: each.pk for each in reversed([*asking.ended_rollouts])}
    followed |= {each.deployment_id: each.pk for each in asking.rollouts}
    return [
        _banner(rollout, "trouble", "Rolled back by itself", rollout.reason, ())
        for rollout in asking.ended_rollouts
        if rollout.phase == "rolled_back"
        and followed[rollout.deployment_id] == rollout.pk
        and rollout.ended_at is not None
        and asking.now - rollout.ended_at < FRESH
        and rollout.events.filter(version=rollout.version, actor=SYSTEM.name).exists()
    ]


def _banner(rollout: Rollout, tone: str, pill: str, why: str, buttons: Sequence[Button]) -> Banner:
    link = f"{reverse('rollouts')}?{urlencode({'rollout': rollout.pk})}"
    return Banner(rollout, tone, pill, why or "No reason given.", link, buttons)
