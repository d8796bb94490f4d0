"""Sessions and users: turns, tokens and money of conversations, and the course of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.postgres import TooDear
from controlplane.telemetry.queries import Trace, TraceFilter
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params

MOST, MOST_TURNS, MOST_USERS = 100, 200, 12
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


def build(asking: Asking, params: Params) -> Context:
    words, seconds = SINCE.get(params.value("since"), SINCE["24h"])
    since = asking.now - timedelta(seconds=seconds)
    wanted = TraceFilter(tenant=params.value("tenant"), user=params.value("user"), session=params.value("q"))
    found, dear = list[telemetry.Session](), ""
    try:
        found = telemetry.sessions_seen_by(asking.asker, wanted, since, MOST + 1)
    except TooDear as problem:
        dear = problem.detail
    chosen = params.value("session") or (found[0].session if found else "")
    turns = _turns(asking, chosen) if chosen else []
    return {
        "title": "Sessions",
        "sessions": found[:MOST],
        "more": len(found) > MOST,
        "dear": dear,
        "words": words,
        "since_choices": [(name, label) for name, (label, _) in SINCE.items()],
        "filtered": any(params.value(name) for name in ("tenant", "user", "q")),
        "chosen": chosen,
        "turns": turns,
        "tokens": sum(turn.trace.tokens for turn in turns),
        "cost_nusd": sum(turn.trace.cost_nusd for turn in turns),
        "errors": sum(turn.trace.errors for turn in turns),
        "users": telemetry.usage(
            asking.asker, "user", params.value("tenant") or None, days=7, today=asking.now.date(), limit=MOST_USERS
        ),
    }


def _turns(asking: Asking, session: str) -> list[Turn]:
    since = asking.now - timedelta(days=14)
    traces = telemetry.traces_seen_by(asking.asker, TraceFilter(session=session), since, "", MOST_TURNS)[::-1]
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
        "session_list": "sessions/list.html",
        "session_turns": "sessions/turns.html",
        "session_users": "sessions/users.html",
    },
    build=build,
    params=frozenset({"tenant", "user", "q", "session", "since"}),
)
