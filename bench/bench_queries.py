"""How long what the pages ask takes on a full database: p50 and p95 of every question, asked of different tenants and traces.

Two times are told: by the clock, and the processor's, of the calling thread and of PostgreSQL's process together (its helpers are
switched off). On a machine that does nothing else they are nearly the same; the goals are held against the processor's.

    python -m bench.bench_queries [--folder /var/tmp/warehouse] [--spans 10000000] [--rounds 20] [--only latency 'a rule']

The database is filled by ``bench.load`` when it is not yet. Times are those of the calling function, with the reading of rows into
Python and the making of objects; the first question of each kind is not counted. The goal is 5 ms for a trace and 50 ms for every other question, at p95.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.load import load, slug
from bench.warehouse import warehouse
from controlplane.garbage import keep_what_was_loaded
from controlplane.problems import Unavailable
from controlplane.telemetry.resolutions import floor

GOAL_MS, TRACE_GOAL_MS = 50.0, 5.0


class Asked(NamedTuple):
    """One question, by name; each round asks it with something else."""

    name: str
    ask: Callable[[int], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", default="")
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[""], help="questions whose name has one of these in it")
    options = parser.parse_args()
    with warehouse(options.folder) as url:
        load(url, total=options.spans, count=options.tenants, days=options.days)
        missed = [name for name, p95, goal in measured(options) if p95 > goal]
    print("All within their goals." if not missed else f"Over their goals: {', '.join(missed)}.")


def measured(options: argparse.Namespace) -> Iterator[tuple[str, float, float]]:
    """Ask everything; yield names with their p95 and goal in milliseconds."""
    print(f"{'milliseconds':<54}{'p50':>8}{'p95':>8}{'clock p50':>11}{'p95':>8}")
    server = _alone()
    keep_what_was_loaded()  # as servers and the worker do
    for asked in questions(options.tenants):
        if not any(each in asked.name for each in options.only):
            continue
        clock, work = [], []
        for number in range(options.rounds + 1):
            began, ran = time.perf_counter(), _ran(server)
            try:
                asked.ask(number)
            except Unavailable:
                print(f"{asked.name}: given up", flush=True)
            work.append(_ran(server) - ran)
            clock.append((time.perf_counter() - began) * 1000)
        (p50, p95), (c50, c95) = _shape(work[1:]), _shape(clock[1:])
        goal = TRACE_GOAL_MS if asked.name.startswith("a trace") else GOAL_MS
        print(
            f"{asked.name:<54}{p50:>8.1f}{p95:>8.1f}{c50:>11.1f}{c95:>8.1f}{'' if p95 <= goal else '  over'}",
            flush=True,
        )
        yield asked.name, p95, goal


def _alone() -> Path:
    """Switch the helpers of this session off; return where its process tells how long it ran."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET max_parallel_workers_per_gather = 0")
        cursor.execute("SELECT pg_backend_pid()")
        return Path(f"/proc/{cursor.fetchone()[0]}/schedstat")


def _ran(server: Path) -> float:
    """Return how many milliseconds both sides ran on a processor."""
    return int(server.read_text().split()[0]) / 1e6 + time.thread_time() * 1000


def _shape(took: list[float]) -> tuple[float, float]:
    return statistics.median(took), sorted(took)[int(0.95 * (len(took) - 1))]


def questions(tenants: int) -> Iterator[Asked]:
    from django.db import connection

    from controlplane.telemetry import queries
    from controlplane.tenancy.queries import SYSTEM

    with connection.cursor() as cursor:
        cursor.execute("SELECT max(starts_at) FROM telemetry_window_1m")
        now = cursor.fetchone()[0] + timedelta(seconds=1)  # as ``bench.load`` has it
        cursor.execute("SELECT DISTINCT trace_id FROM telemetry_span TABLESAMPLE SYSTEM (0.05) LIMIT 400")
        traces = [row[0] for row in cursor.fetchall()]
    random.Random(1).shuffle(traces)
    some = [slug(n) for n in (0, 3, 17, 60, 150, 400, 900) if n < tenants]
    yield Asked("a trace by its id", lambda n: queries.trace_seen_by(SYSTEM, traces[n % len(traces)], light=True))
    yield Asked("a trace of a tenant's operator", lambda n: queries.trace_mark(SYSTEM, traces[-n - 1]))
    for part in (_traces, _mesh, _sessions, _metrics, _pages):
        yield from part(queries, SYSTEM, now, some)


# Of the filters below, those with which histograms are asked too.
SLOTTED = (
    "of all", "of a tenant", "with errors", "without errors", "by model", "of a tenant by route", "of a tenant with errors",
    "by release with errors", "of a tenant by route and model without errors", "by session", "by user of a tenant", "by name",
    "longer than", "by name of the largest tenant", "by attribute", "by attribute that none has", "by attribute of a tenant", "by tool",
    "by attribute that five spans have", "dearer than",
)  # fmt: skip


def _filters(some: list[str]) -> dict[str, Callable[[int], dict[str, str]]]:
    """Return, by name, what traces are asked for in each round, of the tenants ``some`` in turn."""

    def whose(n: int) -> str:
        return some[n % len(some)]

    return {
        "of all": lambda n: {},
        "of a tenant": lambda n: {"tenant": whose(n)},
        "with errors": lambda n: {"status": "error"},
        "of a tenant with errors": lambda n: {"tenant": whose(n), "status": "error"},
        "without errors": lambda n: {"status": "ok"},
        "by model": lambda n: {"model": "gpt-4o"},
        "of a tenant by route": lambda n: {"tenant": whose(n), "route": "chat"},
        "by session": lambda n: {"session": f"s-{n % 9}-{n}"},
        "by user of a tenant": lambda n: {"tenant": whose(n), "user": f"u-{n % 9}-{n}"},
        "by name": lambda n: {"text": "coordinator"},
        "longer than": lambda n: {"min_ms": "2400"},
        "dearer than": lambda n: {"min_usd": "0.01"},
        "by attribute": lambda n: {"attribute": "gen_ai.request.model=gpt-4o"},
        "by name of the largest tenant": lambda n: {"tenant": some[0], "text": "coordinator"},
        "by attribute that none has": lambda n: {"attribute": f"gen_ai.request.model=none-{n}"},
        "by attribute that five spans have": lambda n: {"attribute": "bench.rare=yes"},
        "by attribute of a tenant": lambda n: {"tenant": whose(n), "attribute": "gen_ai.request.model=gpt-4o"},
        "by tool": lambda n: {"tool": "search"},
        "by release with errors": lambda n: {"release": "r1", "status": "error"},
        "of a tenant by route and model without errors": lambda n: {
            "tenant": whose(n), "route": "chat", "model": "gpt-4o", "status": "ok",
        },
    }  # fmt: skip


def _traces(queries: Any, asker: Any, now: datetime, some: list[str]) -> Iterator[Asked]:
    day, hour = now - timedelta(hours=24), now - timedelta(hours=1)
    filters = _filters(some)

    def slots(name: str, since: datetime, step_s: int) -> Callable[[int], Any]:
        """Ask for a histogram whose steps begin as pages begin them."""
        made, begins = filters[name], floor(since, step_s)
        return lambda n: queries.trace_slots(asker, queries.TraceFilter(**made(n)), begins, now, step_s)

    for name, made in filters.items():
        yield Asked(
            f"traces {name}, a day",
            lambda n, made=made: queries.traces_seen_by(asker, queries.TraceFilter(**made(n)), day),
        )
    for name in SLOTTED:
        yield Asked(f"histogram {name}, an hour", slots(name, hour, 60))
        yield Asked(f"histogram {name}, a day", slots(name, day, 1800))


def _mesh(queries: Any, asker: Any, now: datetime, some: list[str]) -> Iterator[Asked]:
    for length, minutes in (("5 min", 5), ("an hour", 60), ("a day", 24 * 60)):
        since = now - timedelta(minutes=minutes)
        yield Asked(f"mesh of all, {length}", lambda n, since=since: queries.mesh(asker, since, now))
        yield Asked(
            f"mesh of a tenant, {length}", lambda n, since=since: queries.mesh(asker, since, now, some[n % len(some)])
        )


def _sessions(queries: Any, asker: Any, now: datetime, some: list[str]) -> Iterator[Asked]:
    def asked(since: datetime, **filtered: str) -> Any:
        return queries.sessions_seen_by(asker, queries.TraceFilter(**filtered), since, 101)

    day, hour = now - timedelta(hours=24), now - timedelta(hours=1)
    for length, since in (("an hour", hour), ("a day", day)):
        yield Asked(f"sessions of all, {length}", lambda n, since=since: asked(since))
        yield Asked(f"sessions of a tenant, {length}", lambda n, since=since: asked(since, tenant=some[n % len(some)]))
    yield Asked("sessions by user, a day", lambda n: asked(day, user=f"u-{n % 9}-{n}"))


RANGES = {"an hour": (3600, 60), "a day": (86400, 900), "30 days": (30 * 86400, 6 * 3600)}


def _metrics(queries: Any, asker: Any, now: datetime, some: list[str]) -> Iterator[Asked]:
    def asked(name: str, by: str, seconds: int, step_s: int, tenant: str) -> Any:
        until = datetime.fromtimestamp(now.timestamp() // step_s * step_s, UTC)
        question = queries.Question(until - timedelta(seconds=seconds), until, step_s, by, tenant)
        return queries.course_seen_by(asker, queries.metric_seen_by(asker, name), question)

    for length, (seconds, step_s) in RANGES.items():
        for by in ("", "tenant", "route", "model"):
            for metric in ("request_latency_ms", "error_rate"):
                yield Asked(
                    f"metric {metric} of all{f' by {by}' if by else ''}, {length}",
                    lambda n, metric=metric, by=by, a=seconds, b=step_s: asked(metric, by, a, b, ""),
                )
        for by in ("", "model"):
            yield Asked(
                f"metric request_latency_ms of a tenant{f' by {by}' if by else ''}, {length}",
                lambda n, by=by, a=seconds, b=step_s: asked("request_latency_ms", by, a, b, some[n % len(some)]),
            )
    yield Asked(
        "metric of OTLP, a histogram, an hour", lambda n: asked("http.server.request.duration", "", 3600, 60, "")
    )
    yield Asked(
        "metric of OTLP by tenant, a day", lambda n: asked("http.server.request.duration", "tenant", 86400, 900, "")
    )
    quarter = floor(now, 900)  # steps begin as pages begin them
    day = queries.Question(quarter - timedelta(hours=48), quarter - timedelta(hours=24), 900, "tenant")
    yield Asked(
        "metric request_latency_ms by tenant, the day before",
        lambda n: queries.course_seen_by(asker, queries.SEVEN["request_latency_ms"], day, some),
    )
    question = queries.Question(now - timedelta(hours=24), now, 900)
    latency = queries.SEVEN["request_latency_ms"]
    yield Asked("exemplars, a day", lambda n: queries.exemplars_seen_by(asker, latency, question))


def _pages(queries: Any, asker: Any, now: datetime, some: list[str]) -> Iterator[Asked]:
    ranges = {"5 min": (300, 10), "an hour": (3600, 60), "a day": (86400, 900)}
    for length, (seconds, step_s) in ranges.items():
        since = datetime.fromtimestamp(now.timestamp() // step_s * step_s + step_s - seconds, UTC)
        yield Asked(f"overview figures, {length}", lambda n, since=since: queries.figures(asker, since, now))
        yield Asked(f"overview course, {length}", lambda n, since=since, s=step_s: queries.series(asker, since, now, s))
        yield Asked(
            f"overview tenants, {length}", lambda n, since=since: queries.breakdown(asker, since, now, "tenant", 6)
        )
        yield Asked(
            f"tenant figures, {length}", lambda n, since=since: queries.figures(asker, since, now, some[n % len(some)])
        )
    yield from _decisions(queries, asker, now)
    today = now.date()
    yield Asked("usage by tenant, 30 days", lambda n: queries.usage(asker, "tenant", days=30, today=today))
    yield Asked(
        "cost per day of a tenant", lambda n: queries.daily_costs(asker, "route", today, 30, some[n % len(some)])
    )


def _decisions(queries: Any, asker: Any, now: datetime) -> Iterator[Asked]:
    """Ask what alerts, service levels and budgets ask."""
    hour, day = now - timedelta(hours=1), now - timedelta(hours=24)
    lengths = (300, 1800, 3600, 7200, 21600, 86400, 3 * 86400, 28 * 86400)
    limit = 900_000.0  # microseconds
    for what, column in (("availability", ""), ("latency", "latency_us")):
        yield Asked(
            f"service level of {what}, all its windows",
            lambda n, column=column: queries.counts_over(asker, now, lengths, column, limit),
        )
    whole = now.replace(minute=0, second=0, microsecond=0)
    for name, length, step_s in (("28 days", 28 * 86400, 12 * 3600), ("a day by 5 minutes", 90_000, 300)):
        until = whole if step_s > 300 else datetime.fromtimestamp(now.timestamp() // 300 * 300, UTC)
        since = until - timedelta(seconds=length)
        yield Asked(
            f"course of a service level of latency, {name}",
            lambda n, since=since, until=until, s=step_s: queries.beyond_steps(
                asker, since, until, s, "latency_us", limit
            ),
        )
        yield Asked(
            f"course of a service level of availability, {name}",
            lambda n, since=since, until=until, s=step_s: queries.measured_steps(asker, since, until, s, latency=False),
        )
    for by in ("tenant", "route"):
        yield Asked(
            f"worst offenders by {by}, a day",
            lambda n, by=by: queries.beyond_by(asker, day, now, by, "latency_us", limit),
        )
    steps = datetime.fromtimestamp(now.timestamp() // 300 * 300, UTC)
    for by in ("", "tenant"):
        for latency, counts in ((True, ("calls", "refused")), (False, ("calls", "errors", "refused"))):
            yield Asked(
                f"a rule{f' by {by}' if by else ''} {'of latency' if latency else 'of errors'} on the past, a week",
                lambda n, by=by, latency=latency, counts=counts: queries.measured_steps(
                    asker, steps - timedelta(days=7), steps, 300, by, latency=latency, sampled=False, counts=counts
                ),
            )
        yield Asked(
            f"a rule{f' by {by}' if by else ''}, 5 min",
            lambda n, by=by: queries.measured(
                asker, now - timedelta(minutes=5), now, by, sampled=False, counts=("calls", "refused")
            ),
        )
    yield Asked("breakers that refused, a day", lambda n: queries.breakers_refusing(asker, day, now, 300))
    yield Asked("what watching alone would have done, a day", lambda n: queries.watched(asker, day, now))
    yield Asked("kinds of a route, an hour", lambda n: queries.kinds(asker, hour, now, route="chat"))
    yield Asked("costs of the last hour", lambda n: queries.costs(hour, now))


if __name__ == "__main__":
    main()
