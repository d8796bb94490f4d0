"""Service levels: how much of each error budget is left; the chosen one with its burn in both windows and who is to blame."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from controlplane.alerting import queries
from controlplane.alerting.levels import offenders
from controlplane.alerting.models import Rule, RuleKind, Slo, SloKind
from controlplane.alerting.standings import Standing, burn_course, pair_course, standing_of
from controlplane.domain.slo import BURNS, Burn, can_fire
from controlplane.tenancy.models import Role
from controlplane.tenancy.queries import Asker
from dashboard import figures
from dashboard.asking import Asking
from dashboard.changes import changes_since
from dashboard.kept import kept
from dashboard.page import Context, Page, Params
from dashboard.slo_course import budget_course_of, pair_course_of

MOST, MOST_OFFENDERS = 60, 8
KINDS = (
    (SloKind.AVAILABILITY.value, "Availability: calls that do not fail"),
    (SloKind.LATENCY.value, "Latency: calls within so many milliseconds"),
    (SloKind.COST.value, "Cost: calls for at most so many dollars"),
)
BY = {"route": "Route", "model": "Model", "tenant": "Tenant"}


@dataclass(frozen=True)
class Row:
    """A service level as listed."""

    standing: Standing
    goal: str
    word: str
    tone: str
    left: float
    gone: str


@dataclass(frozen=True)
class Pair:
    """One pair of windows. ``burning`` in both; ``never`` when even calls that all fail would not reach the factor."""

    burn: Burn
    name: str
    long: float | None
    short: float | None
    burning: bool
    never: bool


@dataclass(frozen=True)
class Offender:
    """One tenant, route or model; ``of_budget`` is the part of the whole error budget that it used."""

    name: str
    calls: int
    bad: int
    share: float
    of_budget: float | None
    link: str


def _key(slo: Slo) -> tuple[Any, ...]:
    return slo.pk, slo.kind, slo.objective, slo.threshold, slo.route, slo.model, slo.days


def goal_of(slo: Slo) -> str:
    """Return what is wanted: ``99 % of calls of chat within 900 ms, over 28 days``."""
    calls = "calls" + "".join(f" of {each}" for each in (slo.route, slo.model) if each)
    what = {
        SloKind.AVAILABILITY: "do not fail",
        SloKind.LATENCY: f"within {slo.threshold or 0:,.0f} ms",
        SloKind.COST: f"for at most ${slo.threshold or 0:g}",
    }[SloKind(slo.kind)]
    return f"{slo.objective * 100:g} % of {calls} {what}, over {slo.days} day{'' if slo.days == 1 else 's'}"


def _gone(standing: Standing) -> str:
    """Return how long the rest of the budget lasts at the pace of six hours; nothing when that is as long as its window."""
    seconds = standing.gone_in_s
    if seconds is None or not standing.left or standing.left < 0 or seconds > standing.slo.days * 86_400:
        return ""
    return figures.span(seconds)


def _row(standing: Standing) -> Row:
    gone = _gone(standing)
    if standing.left is None:
        word, tone = "No calls", "mute"
    elif standing.left <= 0:
        word, tone = "Overspent", "sq trouble"
    elif standing.burn is not None:
        word = f"Burns {standing.burn.factor:g} × too fast"
        tone = "sq trouble" if standing.burn.severity == "page" else "half watch"
    elif gone or standing.left < 0.25:
        word, tone = "Runs out" if gone else "Nearly gone", "half watch"
    else:
        word, tone = "Lasts", "ok"
    return Row(standing, goal_of(standing.slo), word, tone, max(0.0, standing.left or 0.0), gone)


def _standing(slo: Slo, now: datetime) -> Standing:
    return kept(("standing", *_key(slo)), now, lambda: standing_of(slo, now))


def build(asking: Asking, params: Params) -> Context:
    slos = queries.slos_seen_by(asking.asker)
    if params.value("tenant"):
        slos = slos.filter(tenant__slug=params.value("tenant"))
    standings = [_standing(slo, asking.now) for slo in slos[:MOST]]
    standings.sort(key=lambda each: (each.left is None, each.left or 0.0, each.slo.full_name))
    wanted = params.value("slo")
    chosen = next((each for each in standings if each.slo.full_name == wanted), None)
    if chosen is None and not wanted and standings:
        chosen = standings[0]
    return {
        "title": "Service levels",
        "rows": [_row(each) for each in standings],
        "chosen": chosen,
        "overspent": sum(each.left is not None and each.left <= 0 for each in standings),
        "burning": sum(each.burn is not None for each in standings),
        "kinds": KINDS,
        **(_detail(asking, chosen, params) if chosen else {}),
    }


def _detail(asking: Asking, chosen: Standing, params: Params) -> Context:
    slo, now = chosen.slo, asking.now
    pair = next((burn for burn in BURNS if f"{burn.factor:g}" == params.value("pair")), BURNS[0])
    by = params.value("by") if params.value("by") in BY else "route"
    course = kept(("course", *_key(slo)), now, lambda: burn_course(slo, now))
    burning = kept(("pair", pair, *_key(slo)), now, lambda: pair_course(slo, pair, now))
    changes = changes_since(
        asking, slo.tenant, min(now, *(each.at for each in course[:1]), *(each.at for each in burning[:1]))
    )
    return {
        "goal": goal_of(slo),
        "row": _row(chosen),
        "pair": pair,
        "pairs": [_pair(chosen, burn) for burn in BURNS],
        "budget_course": budget_course_of(course, changes),
        "burn_course": pair_course_of(burning, pair, changes),
        "offenders": _offenders(chosen, now, by),
        "by": by,
        "bys": BY,
        "rules": list(
            Rule.objects.filter(kind=RuleKind.BURN_RATE, tenant=slo.tenant, archived_at=None, spec__slo=slo.slug)[:5]
        ),
    }


def _pair(standing: Standing, burn: Burn) -> Pair:
    long, short = standing.rates.get(burn.long_s), standing.rates.get(burn.short_s)
    burning = long is not None and short is not None and min(long, short) > burn.factor
    name = f"{figures.span(burn.long_s)} and {figures.span(burn.short_s)}"
    return Pair(burn, name, long, short, burning, not can_fire(burn, standing.slo.objective))


def _offenders(standing: Standing, now: datetime, by: str) -> list[Offender]:
    slo = standing.slo
    since = now - timedelta(days=slo.days)
    counts = kept(("offenders", by, *_key(slo)), now, lambda: offenders(slo, since, now, by))
    allowed = standing.count.total * (1 - slo.objective)
    narrowed: dict[str, str] = {name: getattr(slo, name) for name in ("route", "model") if getattr(slo, name)}
    if slo.tenant:
        narrowed["tenant"] = slo.tenant.slug
    match slo.kind:
        case SloKind.AVAILABILITY:
            narrowed["status"] = "error"
        case SloKind.LATENCY:
            narrowed["min_ms"] = f"{slo.threshold:g}"
        case _:
            narrowed["min_usd"] = f"{slo.threshold:f}".rstrip("0")
    found = []
    for name, count in list(counts.items())[:MOST_OFFENDERS]:
        if count.bad:
            query = urlencode({**narrowed, by: name, "since": "24h" if slo.days == 1 else "7d"})
            of_budget = count.bad / allowed if allowed else None
            found.append(
                Offender(
                    name, count.total, count.bad, count.bad / count.total, of_budget, f"{reverse('traces')}?{query}"
                )
            )
    return found


PAGE = Page(
    name="slos",
    section="slos",
    template="pages/slos.html",
    parts={
        "slo_summary": "slos/summary.html",
        "slo_list": "slos/list.html",
        "slo_budget": "slos/budget.html",
        "slo_burn": "slos/burn.html",
        "slo_offenders": "slos/offenders.html",
    },
    build=build,
    params=frozenset({"tenant", "slo", "pair", "by"}),
)


def named(asker: Asker, name: str) -> Slo:
    """Return the service level of a full name: ``tenant/slug``, the installation's without a tenant."""
    owner, _, slug = name.partition("/")
    return queries.slo_seen_by(asker, owner or None, slug)


def build_edit(asking: Asking, params: Params) -> Context:
    asking.asker.must(Role.OPERATOR)
    name = params.value("slo")
    slo = named(asking.asker, name) if name else None
    return {
        "title": slo.name if slo else "New service level",
        "slo": slo,
        "objective": f"{slo.objective * 100:g}" if slo else "99",
        "threshold": f"{slo.threshold:g}" if slo and slo.threshold is not None else "",
        "kinds": KINDS,
        "owner": name.partition("/")[0] or params.value("tenant"),
        "may_all": asking.asker.tenant is None,
    }


EDIT = Page(
    name="slo-edit",
    section="slos",
    template="pages/slo_edit.html",
    parts={},
    build=build_edit,
    params=frozenset({"slo", "tenant"}),
)
