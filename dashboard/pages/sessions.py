"""Sessions and users: turns, tokens and money of conversations, and the course of one of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from controlplane.state import lookup
from controlplane.state.lookup import AliveSession
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.patience import TooDear
from controlplane.telemetry.queries import Session, Trace, TraceFilter
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params

MOST, MOST_PAGES, MOST_TURNS, MOST_USERS, MOST_GROUPS = 50, 20, 50, 12, 7
# Active sessions are the mean of a minute, which ended some seconds ago so that all have reported.
ACTIVE_S, SETTLED_S = 60, 10
SINCE = {"1h": ("last hour", 3600), "24h": ("last 24 h", 86400), "7d": ("last 7 days", 7 * 86400)}


@dataclass(frozen=True)
class Turn:
    """One trace of a session: where it lies in its time (percent), and what the session had cost when it was over."""

    trace: Trace
    number: int
    start: float
    length: float
    pause_s: float
    cost_so_far_nusd: int


@dataclass(frozen=True)
class Row:
    session: Session
    is_kept: bool
    is_chosen: bool


@dataclass(frozen=True)
class Group:
    """A tenant or a service with its sessions: ``active`` as callers count them, ``kept`` in state (``None``: not known so)."""

    name: str
    active: int
    kept: int | None


def _active(asking: Asking) -> tuple[list[Group], list[Group]]:
    """Return who has active sessions, by tenant and by service, those with most first."""
    until = asking.now - timedelta(seconds=SETTLED_S)
    since = until - timedelta(seconds=ACTIVE_S)
    measured = telemetry.measured(asking.asker, since, until, by="tenant", latency=False, counts=())
    kept = lookup.count_alive(asking.asker)
    tenants = [
        Group(name, round(measured[name].sessions) if name in measured else 0, kept.get(name, 0))
        for name in {*measured, *kept}
    ]
    apps: Counter[str] = Counter()
    for instance in asking.live_instances:
        apps[instance.app] += instance.active_sessions
    services = [Group(app, count, None) for app, count in apps.items()]
    return _most(tenants), _most(services)


def _most(groups: list[Group]) -> list[Group]:
    some = [group for group in groups if group.active or group.kept]
    return sorted(some, key=lambda group: (-group.active, -(group.kept or 0), group.name))


def build(asking: Asking, params: Params) -> Context:
    words, seconds = SINCE.get(params.value("since"), SINCE["24h"])
    since = asking.now - timedelta(seconds=seconds)
    wanted = TraceFilter(tenant=params.value("tenant"), user=params.value("user"), session=params.value("q"))
    page = _page(params)
    found, dear = list[Session](), ""
    try:
        found = telemetry.sessions_seen_by(asking.asker, wanted, since, (page + 1) * MOST + 1)[page * MOST :]
    except TooDear as problem:
        dear = problem.detail
    if params.value("session"):
        chosen, tenant = params.value("session"), params.value("of")
    else:
        chosen, tenant = (found[0].session, found[0].tenant) if found else ("", "")
    turns = _turns(asking, chosen, tenant) if chosen else []
    tenants, services = _active(asking)
    alive = {
        (each.tenant, each.session): each for each in lookup.alive_sessions(asking.asker, most=lookup.MOST_SESSIONS)
    }
    return {
        "active": sum(group.active for group in services),
        "kept": sum(group.kept or 0 for group in tenants),
        "by": [
            (title, groups[:MOST_GROUPS], len(groups[MOST_GROUPS:]))
            for title, groups in (("tenant", tenants), ("service", services))
        ],
        "alive": _alive(alive, chosen, turns),
        "title": "Sessions",
        "sessions": [
            Row(
                each,
                is_kept=(each.tenant, each.session) in alive,
                is_chosen=each.session == chosen and tenant in ("", each.tenant),
            )
            for each in found[:MOST]
        ],
        "older": page + 1 if len(found) > MOST and page + 1 < MOST_PAGES else None,
        "hidden": len(found) > MOST and page + 1 == MOST_PAGES,
        "dear": dear,
        "words": words,
        "since_choices": [(name, label) for name, (label, _) in SINCE.items()],
        "filtered": any(params.value(name) for name in ("tenant", "user", "q")),
        "chosen": chosen,
        "turns": turns,
        "turns_cut": len(turns) == MOST_TURNS,
        "tokens": sum(turn.trace.tokens for turn in turns),
        "cost_nusd": sum(turn.trace.cost_nusd for turn in turns),
        "errors": sum(turn.trace.errors for turn in turns),
        "users": telemetry.usage(
            asking.asker, "user", params.value("tenant") or None, days=7, today=asking.now.date(), limit=MOST_USERS
        ),
    }


def _page(params: Params) -> int:
    """Return which fifty sessions are shown, from 0; what is no such number is the first."""
    text = params.value("page")
    return min(int(text), MOST_PAGES - 1) if text.isascii() and text.isdecimal() and len(text) < 4 else 0


def _alive(alive: dict[tuple[str, str], AliveSession], chosen: str, turns: list[Turn]) -> AliveSession | None:
    """Return what state keeps of the chosen session."""
    tenants = {turn.trace.tenant for turn in turns}
    found = [
        each for (tenant, session), each in alive.items() if session == chosen and (not turns or tenant in tenants)
    ]
    return found[0] if found else None


def _turns(asking: Asking, session: str, tenant: str) -> list[Turn]:
    since = asking.now - timedelta(days=14)
    wanted = TraceFilter(session=session, tenant=tenant)
    traces = telemetry.traces_seen_by(asking.asker, wanted, since, "", MOST_TURNS)[::-1]
    if not traces:
        return []
    begins = traces[0].starts_at
    ends = max(trace.starts_at + timedelta(microseconds=trace.duration_us) for trace in traces)
    whole = max(1e-6, (ends - begins).total_seconds())
    turns, cost, over = [], 0, begins
    for number, trace in enumerate(traces, 1):
        cost += trace.cost_nusd
        offset = (trace.starts_at - begins).total_seconds()
        pause = max(0.0, (trace.starts_at - over).total_seconds())
        over = max(over, trace.starts_at + timedelta(microseconds=trace.duration_us))
        turns.append(Turn(trace, number, 100 * offset / whole, trace.duration_us / 1e4 / whole, pause, cost))
    return turns


PAGE = Page(
    name="sessions",
    section="sessions",
    template="pages/sessions.html",
    parts={
        "session_summary": "sessions/summary.html",
        "session_active": "sessions/active.html",
        "session_list": "sessions/list.html",
        "session_turns": "sessions/turns.html",
        "session_users": "sessions/users.html",
    },
    build=build,
    params=frozenset({"tenant", "user", "q", "session", "of", "since", "page"}),
)
