"""What needs a person's attention, worst first, each with the page where something can be done about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from django.urls import reverse

from controlplane.budgets.queries import Standing
from controlplane.domain.presence import presence_of
from controlplane.fleet import queries as fleet
from controlplane.fleet.models import Instance
from controlplane.fleet.queries import Breaker
from dashboard import figures
from dashboard.asking import Asking


@dataclass(frozen=True)
class Need:
    """One line. ``rank`` sorts: lower is worse."""

    rank: int
    sign: str
    tone: str
    title: str
    text: str
    pill: str
    shape: str
    link: str
    verb: str


def needs_of(asking: Asking) -> list[Need]:
    """Return everything that needs attention in the asker's scope."""
    found = [
        *_firing(asking),
        *_broken(asking),
        *_short(asking),
        *_silent(asking),
        *_refusing(asking),
        *_waiting_rollouts(asking),
    ]
    return sorted(found, key=lambda need: need.rank)


def _firing(asking: Asking) -> Iterator[Need]:
    """Yield alerts that nobody looks after, but for those of what is listed here anyway."""
    for alert in asking.firing:
        if alert.acknowledged_at is not None or alert.rule.kind in ("fleet", "budget", "forecast"):
            continue
        page = alert.rule.severity == "page"
        title = f"{alert.rule.name} · {alert.label}" if alert.label else alert.rule.name
        link = f"{reverse('alerts')}?{urlencode({'alert': alert.pk})}"
        tone, rank = ("trouble", 5) if page else ("watch", 34)
        yield Need(rank, "!", tone, title, alert.summary, "Firing", "sq", link, "See alert")


def _broken(asking: Asking) -> Iterator[Need]:
    for breaker in asking.breakers:
        if breaker.phase == "closed":
            continue
        worst = breaker.worst
        name = f"{breaker.route} / {breaker.model}" if breaker.model else breaker.route
        text = f"since {worst.since:%H:%M:%S} · {worst.cause or _counted(breaker)}"
        link = f"{reverse('breakers')}?{urlencode({'route': breaker.route, 'model': breaker.model})}"
        if breaker.open:
            text = f"Breaker open on {breaker.open} of {figures.some(breaker.clients, 'client')} · {text}"
            yield Need(10, "!", "trouble", f"{name} is failing", text, "Open", "sq", link, "See breaker")
        else:
            text = f"Probing on {breaker.half_open} of {figures.some(breaker.clients, 'client')} · {text}"
            yield Need(60, "~", "watch", f"{name} is recovering", text, "Half-open", "half", link, "See breaker")


def _counted(breaker: Breaker) -> str:
    return f"{figures.percent(breaker.failure_rate, 0)} of {breaker.calls:,} calls failed"


def budget_name(standing: Standing) -> str:
    """``Acme · support``; ``Installation · everything``."""
    owner = standing.budget.tenant.name if standing.budget.tenant else "Installation"
    return f"{owner} · {standing.budget.slug}"


def _short(asking: Asking) -> Iterator[Need]:
    for standing in asking.standings:
        if not standing.tone or not standing.amount_nusd:
            continue
        link = f"{reverse('budgets')}?{urlencode({'budget': standing.budget.name})}"
        text = (
            f"{figures.usd_short(standing.spent_nusd)} of {figures.usd_short(standing.amount_nusd)} settled, "
            f"{figures.usd_short(standing.leased_nusd)} leased · burns {figures.usd(round(standing.burn_nusd_per_h))}/h"
        )
        name = budget_name(standing)
        if standing.exhausted:
            text += f" · {standing.denied_calls:,} calls refused" if standing.denied_calls else ""
            yield Need(20, "$", "trouble", f"{name} is used up", text, "Used up", "sq", link, "Adjust budget")
        elif standing.exhausted_at is not None:
            title = f"{name} runs out {_early(standing)}"
            pill = f"Projected {figures.when(standing.exhausted_at, asking.now)}"
            hours = (standing.exhausted_at - asking.now).total_seconds() / 3600
            rank = 30 if hours < 24 else 40
            yield Need(rank, "$", standing.tone, title, text, pill, "", link, "Adjust budget")
        else:
            yield Need(45, "$", "watch", f"{name} is nearly used up", text, "Lasts", "half", link, "Adjust budget")


def _early(standing: Standing) -> str:
    if standing.period.ends_at is None or standing.exhausted_at is None:
        return "at this burn"
    return f"{figures.span((standing.period.ends_at - standing.exhausted_at).total_seconds())} early"


def _silent(asking: Asking) -> Iterator[Need]:
    recent = fleet.instances_seen_by(asking.asker).filter(
        closed_at=None, seen_at__gte=asking.now - timedelta(minutes=30), seen_at__lt=asking.now - timedelta(seconds=30)
    )
    quiet = list(recent[:100])
    for presence, rank in (("lost", 50), ("stale", 55)):
        those = [
            each for each in quiet if presence_of(seen_at=each.seen_at, closed_at=None, now=asking.now) == presence
        ]
        if those:
            newest = max(each.seen_at for each in those)
            title = f"{_clients(those)} {'is' if len(those) == 1 else 'are'} {presence}"
            text = f"{_where(those)} · last heard of {figures.ago(newest, asking.now)}; what they hold is in doubt until then"
            link = f"{reverse('clients')}?state={presence}"
            yield Need(
                rank,
                "⇣",
                "watch" if presence == "lost" else "mute",
                title,
                text,
                presence.title(),
                "",
                link,
                "See clients",
            )


def _refusing(asking: Asking) -> Iterator[Need]:
    those = [each for each in asking.live_instances if each.refused_etag]
    if those:
        text = f"{_where(those)} · {those[0].refused_reason or 'no reason given'}"
        yield Need(
            35,
            "?",
            "trouble",
            f"{_clients(those)} refused the config",
            text,
            "Refused",
            "sq",
            reverse("clients"),
            "See clients",
        )
    dropping = [each for each in asking.live_instances if each.dropped_windows or each.dropped_spans]
    if dropping:
        spans = sum(each.dropped_spans for each in dropping)
        text = f"{_where(dropping)} · {sum(each.dropped_windows for each in dropping):,} windows and {spans:,} spans so far"
        yield Need(
            70,
            "%",
            "mute",
            f"{_clients(dropping)} dropped telemetry",
            text,
            "Drops",
            "",
            reverse("clients"),
            "See clients",
        )


def _waiting_rollouts(asking: Asking) -> Iterator[Need]:
    for rollout in asking.rollouts:
        name = f"{rollout.deployment.slug} {rollout.release.version}"
        link = f"{reverse('rollouts')}?{urlencode({'rollout': rollout.pk})}"
        if rollout.phase == "held":
            yield Need(32, "~", "watch", f"{name} is held", rollout.reason, "Held", "half", link, "See rollout")
        elif rollout.phase == "approval" or rollout.asks:
            yield Need(
                58, "?", "watch", f"{name} asks for approval", rollout.reason, "Asks", "half", link, "See rollout"
            )


def _clients(those: list[Instance]) -> str:
    return figures.some(len(those), "client")


def _where(those: list[Instance]) -> str:
    named = [f"{each.app} on {each.host}" for each in those[:2]]
    return ", ".join(named) + (f" and {len(those) - 2} more" if len(those) > 2 else "")
