"""Fills a PostgreSQL with what a busy installation has kept: spans by binary COPY into the real partitions, a year of rollups.

    python -m bench.load --folder /var/tmp/warehouse [--spans 10000000] [--tenants 1000] [--days 365]

Spans are of traces of eight over the last two days, of tenants by a power law: the first has a tenth of all, most are rare. Rollups are
windows of ten seconds of the last two hours, of minutes of the last 27 hours, hours and days of the year; the distributions in them have as
many buckets as the calls of such a tenant fill. What is loaded is then as ``telemetry.fold`` would have left it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg

from bench.warehouse import warehouse

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
ROUTES, MODELS = ("chat", "embed", "summarise"), ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5")
PER_TRACE, HOURS = 8, 48
BATCH = 20_000


def slug(number: int) -> str:
    return f"tenant-{number:04}"


def tenants(count: int) -> None:
    """Make the tenants, a tenth of them below another one."""
    from controlplane.tenancy.models import Tenant

    if Tenant.objects.exists():
        return
    made = Tenant.objects.bulk_create([Tenant(slug=slug(n), name=slug(n).title(), lineage=[]) for n in range(count)])
    for number, tenant in enumerate(made):
        above = made[number // 10] if number % 10 == 9 and number > 10 else None
        tenant.parent, tenant.lineage = above, [*(above.lineage if above else []), tenant.pk]
    Tenant.objects.bulk_update(made, ["parent", "lineage"])


class Spans:
    """Makes traces as rows of binary COPY: a root, inferences, two tools."""

    def __init__(self, count: int) -> None:
        self.chance = random.Random(1)
        self.weights = [1 / (n + 1) ** 0.8 for n in range(count)]
        self.count = count
        self.attributes = [
            b'{"gen_ai.operation.name":"chat","gen_ai.request.model":"gpt-4o","gen_ai.request.max_tokens":1024,"server.address":"api.openai.com",'
            b'"gen_ai.response.id":"chatcmpl-%030x","gen_ai.response.finish_reasons":["stop"]}' % self.chance.getrandbits(120)
            for _ in range(500)
        ]  # fmt: skip
        self.resource = b'{"service.name":"support-bot","service.version":"7.3.0","host.name":"host-3","telemetry.sdk.language":"python"}'

    def rows(self, traces: int, first: datetime, last: datetime) -> list[bytes]:
        """Return the rows of so many traces that began from ``first`` to ``last``, in order of time as they would have come."""
        from controlplane.telemetry.binary import span

        chance, made = self.chance, []
        whose = chance.choices(range(self.count), self.weights, k=traces)
        begins, ends = (int((at - EPOCH).total_seconds() * 1e6) for at in (first, last))
        for tenant, at in zip(whose, sorted(chance.choices(range(begins, ends), k=traces)), strict=True):
            trace_id, root = f"{chance.getrandbits(128):032x}", f"{chance.getrandbits(64):016x}"
            session, user = f"s-{tenant}-{chance.randrange(2000)}", f"u-{tenant}-{chance.randrange(300)}"
            made += [
                span(self._row(place, trace_id, root, at, slug(tenant), session, user)) for place in range(PER_TRACE)
            ]
        return made

    def _row(self, place: int, trace_id: str, root: str, at: int, tenant: str, session: str, user: str) -> Any:
        from controlplane.telemetry.schemas import SpanRow

        chance = self.chance
        inference, tool = place not in (0, 3, 6), place in (3, 6)
        number = chance.randrange(3)
        took = 2_500_000 if place == 0 else int(200_000 * (1 + 8 * chance.random() ** 4))
        return SpanRow(
            starts_us=at + place * 250_000, duration_us=took, kind=3, status=2 if chance.random() < 0.01 else 1,
            usage_by=2 if inference else 0, input_tokens=900 if inference else None, output_tokens=120 if inference else None,
            cached_tokens=300 if inference else None, reasoning_tokens=None, cost_nusd=3_400_000 if inference else None,
            ttft_us=180_000 if inference else None, trace_id=trace_id, span_id=root if place == 0 else f"{chance.getrandbits(64):016x}",
            parent_span_id="" if place == 0 else root, tenant=tenant, service=("support-bot", "batch", "search")[number], scope="tidegate",
            name="invoke_agent coordinator" if place == 0 else "execute_tool search_orders" if tool else f"chat {MODELS[number]}",
            status_message="", operation="invoke_agent" if place == 0 else "execute_tool" if tool else "chat",
            provider="openai" if inference else "", model=MODELS[number] if inference else "", route=ROUTES[number] if inference else "",
            release=f"r{number}" if inference else "", decision="", agent="coordinator" if place == 0 else "",
            tool="search_orders" if tool else "", session=session, user=user, attributes=self.attributes[chance.randrange(500)],
            resource=self.resource, events=b"[]", links=b"[]",
        )  # fmt: skip


def _at(newest: datetime, share: float) -> datetime:
    """Return when a share of all spans has come."""
    return newest - (1 - share) * timedelta(hours=HOURS)


def spans(url: str, total: int, count: int, newest: datetime) -> None:
    """Copy spans until there are ``total``."""
    from controlplane.telemetry import binary
    from controlplane.telemetry.actions.retention import make_partitions

    for back in range(HOURS // 24 + 1):
        make_partitions(today=(newest - timedelta(days=back)).date())
    maker, began = Spans(count), time.monotonic()
    names = ", ".join(f'"{name}"' for name in binary.SPAN_COLUMNS)
    with psycopg.connect(url) as connection:
        there = connection.execute("SELECT count(*) FROM telemetry_span").fetchone()[0]  # type: ignore[index]
        for done in range(there, total, BATCH * PER_TRACE):
            count_now = min(BATCH, (total - done) // PER_TRACE)
            first, last = (_at(newest, each / total) for each in (done, done + count_now * PER_TRACE))
            rows = maker.rows(count_now, first, last)
            with (
                connection.cursor() as cursor,
                cursor.copy(f"COPY telemetry_span ({names}) FROM STDIN (FORMAT BINARY)") as copy,
            ):
                copy.write(binary.document(rows))
            connection.commit()
            if done % (BATCH * PER_TRACE * 10) == 0 and done > there:
                print(f"{done:>12,} spans, {(done - there) / (time.monotonic() - began):,.0f} a second", flush=True)


TABLES = (
    ("telemetry_window_10s", "10 seconds", timedelta(hours=2)),
    ("telemetry_window_1m", "1 minute", timedelta(hours=27)),
)


def _templates(connection: psycopg.Connection[Any]) -> None:
    """Make distributions as the hours, minutes and seconds of large and small tenants have them."""
    from tidegate.core.window import Distribution

    chance = random.Random(2)
    connection.execute("CREATE TEMPORARY TABLE shapes (shape bigint, calls bigint, took bigint[], tokens bigint[], cost bigint[],"
                       " depth bigint[], sessions bigint[])")  # fmt: skip
    for size, calls in enumerate((4, 60, 2000, 20_000, 60_000)):
        for number in range(16):
            spreads = []
            for centre, wide in ((400_000, 0.6), (900, 0.5), (3_400_000, 0.5), (2, 0.8), (30, 0.1)):
                made = Distribution()
                made.add_all([int(chance.lognormvariate(0, wide) * centre) for _ in range(calls)])
                spreads.append(made.packed())
            connection.execute(
                "INSERT INTO shapes VALUES (%s, %s, %s, %s, %s, %s, %s)", [size * 16 + number, calls, *spreads]
            )


_FILL = """
    INSERT INTO {table} (starts_at, tenant, route, model, category, calls, errors, refused, fallbacks, retries, input_tokens,
                         cached_input_tokens, output_tokens, cost_nusd, kinds, latency_us, tokens, call_cost_nusd, queue_depth, sessions)
    SELECT at, 'tenant-' || lpad(tenant::text, 4, '0'), (%(routes)s::text[])[1 + kind], (%(models)s::text[])[1 + kind], '',
           calls, calls / 50, calls / 90, 0, calls / 60, calls * 900, calls * 300, calls * 120, calls * 3400000,
           '{{}}', took, tokens, cost, depth, sessions
    FROM (SELECT at, tenant, kind, (tenant * 7 + kind + extract(epoch FROM at)::bigint / 10) %% 16
                 + 16 * least({most}, CASE WHEN tenant < 20 THEN 2 WHEN tenant < 200 THEN 1 ELSE 0 END) AS shape
          FROM generate_series(%(first)s::timestamptz, %(last)s::timestamptz, interval '{step}') AS at
          CROSS JOIN generate_series(0, %(tenants)s - 1) AS tenant CROSS JOIN generate_series(0, 2) AS kind
          WHERE (kind = 0 OR tenant < 200)
            AND (tenant < 20 OR abs(hashint8(tenant * 31 + extract(epoch FROM at)::bigint)) %% 100 < {often})) AS wanted
    JOIN shapes USING (shape)
    """


def rollups(url: str, count: int, days: int, newest: datetime) -> None:
    """Fill all resolutions; nothing when there are any."""
    hour = newest.replace(minute=0, second=0, microsecond=0)
    named: dict[str, Any] = {"routes": list(ROUTES), "models": list(MODELS), "tenants": count}
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT 1 FROM telemetry_window_1h LIMIT 1").fetchone():
            return
        _templates(connection)
        for table, step, length in TABLES:
            most, often = (0, 10) if step.startswith("10") else (1, 30)
            first = newest - length
            first = first.replace(second=0, microsecond=0)
            connection.execute(
                _FILL.format(table=table, step=step, most=most, often=often), {**named, "first": first, "last": newest}
            )
            print(f"{table} is filled", flush=True)
        for day in range(days, 0, -5):
            first, last = hour - timedelta(days=day), min(hour, hour - timedelta(days=day - 5)) - timedelta(hours=1)
            connection.execute(
                _FILL.format(table="telemetry_window_1h", step="1 hour", most=2, often=40),
                {**named, "first": first, "last": last},
            )
            connection.commit()
        print("telemetry_window_1h is filled", flush=True)
        connection.execute(
            """INSERT INTO telemetry_usage_daily (day, tenant, route, model, category, calls, input_tokens, cached_input_tokens, output_tokens, cost_nusd)
               SELECT (starts_at AT TIME ZONE 'UTC')::date, tenant, route, model, category, sum(calls), sum(input_tokens), sum(cached_input_tokens),
                      sum(output_tokens), sum(cost_nusd) FROM telemetry_window_1h GROUP BY 1, 2, 3, 4, 5"""
        )
        connection.execute(
            "INSERT INTO telemetry_fold (kind, until) VALUES ('windows', %s), ('points', %s) ON CONFLICT DO NOTHING",
            [hour, hour],
        )
        _points(connection, newest)


def _points(connection: psycopg.Connection[Any], newest: datetime) -> None:
    """Fill 200 series of a histogram by their minutes of a day."""
    connection.execute(
        """INSERT INTO telemetry_series (digest, tenant, name, unit, kind, monotonic, service, instance, route, model, release, attributes, bounds)
           SELECT decode(md5(n::text), 'hex'), 'tenant-' || lpad((n % 50)::text, 4, '0'), 'http.server.request.duration', 's', 'histogram', true, 'web',
                  n::text, '', '', '', '{}', ARRAY[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5] FROM generate_series(1, 200) AS n"""
    )
    connection.execute(
        """INSERT INTO telemetry_point (series_id, at, samples, sum, min, max, buckets)
           SELECT id, at, 66, 12.5, 0.001, 4.2, ARRAY[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] FROM telemetry_series
           CROSS JOIN generate_series(%s::timestamptz - interval '1 day', %s::timestamptz, interval '1 minute') AS at""",
        [newest, newest],
    )


def ladder(url: str, count: int, newest: datetime) -> None:
    """Fill the longer windows, and what all tenants come to, as the worker would have left them: the last 31 days of them."""
    from controlplane.telemetry.resolutions import BY_TENANT, TOGETHER, floor

    lengths = {10: timedelta(hours=2), 60: timedelta(hours=27), 900: timedelta(hours=27)}
    named: dict[str, Any] = {"routes": list(ROUTES), "models": list(MODELS)}
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT 1 FROM telemetry_total_6h LIMIT 1").fetchone():
            return
        _templates(connection)
        for rung in (*BY_TENANT, *TOGETHER):
            together = "_total_" in rung.table
            if not together and rung.mark not in ("window_15m", "window_6h"):
                continue
            last = floor(newest - timedelta(seconds=20), rung.step_s)
            first = floor(newest - lengths.get(rung.step_s, timedelta(days=31)), rung.step_s)
            sql = _FILL.format(table=rung.table, step=f"{rung.step_s} seconds", most=4 if together else 2, often=60)
            if together:
                sql = (
                    sql.replace("tenant, route", "route", 1)
                    .replace("category, ", "", 1)
                    .replace("'tenant-' || lpad(tenant::text, 4, '0'), ", "")
                )
                sql = sql.replace("[1 + kind], '',", "[1 + kind],", 1).replace("least(4, CASE", "least(4, 3 + CASE")
            until = last - timedelta(seconds=rung.step_s)
            connection.execute(sql, {**named, "tenants": 1 if together else count, "first": first, "last": until})
            connection.execute(
                "INSERT INTO telemetry_fold (kind, until) VALUES (%s, %s) ON CONFLICT (kind) DO UPDATE SET until = excluded.until",
                [rung.mark, last],
            )
            print(f"{rung.table} is filled", flush=True)


def whole_tenants(url: str, count: int) -> None:
    """Fill the windows of whole tenants and of all together: quarters of 51 hours, days of a month, and what pages read between."""
    from controlplane.telemetry.resolutions import EVERYBODY, WHOLE_TENANTS, floor

    newest = asked_at(url)
    lengths = {900: timedelta(hours=51), 10800: timedelta(days=8)}
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT 1 FROM telemetry_tenant_15m LIMIT 1").fetchone():
            return
        _templates(connection)
        for rung in WHOLE_TENANTS:
            last = floor(newest - timedelta(seconds=20), rung.step_s)
            first = floor(newest - lengths.get(rung.step_s, timedelta(days=31)), rung.step_s)
            for together in (False, True):
                sql = _FILL.format(table=rung.table, step=f"{rung.step_s} seconds", most=4 if together else 3, often=60)
                sql = sql.replace("tenant, route, model, category", "tenant", 1)
                sql = sql.replace("(%(routes)s::text[])[1 + kind], (%(models)s::text[])[1 + kind], '',", "", 1)
                sql = sql.replace("generate_series(0, 2)", "generate_series(0, 0)").replace(
                    "THEN 2", "THEN 4" if together else "THEN 3"
                )
                if together:
                    sql = sql.replace("'tenant-' || lpad(tenant::text, 4, '0')", f"'{EVERYBODY}'")
                named = {
                    "tenants": 1 if together else count,
                    "first": first,
                    "last": last - timedelta(seconds=rung.step_s),
                }
                connection.execute(sql, named)
            connection.execute(
                "INSERT INTO telemetry_fold (kind, until) VALUES (%s, %s) ON CONFLICT (kind) DO UPDATE SET until = excluded.until",
                [rung.mark, last],
            )
            connection.commit()
            print(f"{rung.table} is filled", flush=True)


def all_together(url: str) -> None:
    """Fill the windows of all tenants together: five minutes of eight days, hours of a month."""
    from controlplane.telemetry.resolutions import ALL_IN_ALL, EVERYBODY, floor

    newest = asked_at(url)
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT 1 FROM telemetry_all_5m LIMIT 1").fetchone():
            return
        _templates(connection)
        for rung in (rung for rung in ALL_IN_ALL if "_all_" in rung.table):
            last = floor(newest - timedelta(seconds=20), rung.step_s)
            connection.execute(
                f"""INSERT INTO {rung.table} (starts_at, tenant, calls, errors, refused, fallbacks, retries, input_tokens, cached_input_tokens,
                        output_tokens, cost_nusd, kinds, latency_us, tokens,
                        call_cost_nusd, queue_depth, sessions)
                    SELECT at, '{EVERYBODY}', calls, calls / 50, calls / 90, 0, calls / 60, calls * 900, calls * 300, calls * 120, calls * 3400000,
                           '{{}}', took, tokens, cost, depth, sessions
                    FROM generate_series(%s::timestamptz, %s, %s) AS at
                    JOIN shapes ON shape = 64 + (extract(epoch FROM at)::bigint / {rung.step_s}) %% 16""",
                [
                    floor(newest - timedelta(days=8 if rung.step_s < 3600 else 31), rung.step_s),
                    last - timedelta(seconds=rung.step_s),
                    timedelta(seconds=rung.step_s),
                ],
            )
            connection.execute(
                "INSERT INTO telemetry_fold (kind, until) VALUES (%s, %s) ON CONFLICT (kind) DO UPDATE SET until = excluded.until",
                [rung.mark, last],
            )
            connection.commit()
            print(f"{rung.table} is filled", flush=True)


def tenant_steps(url: str) -> None:
    """Fill the steps of five minutes of tenants: eight days of them."""
    from controlplane.telemetry.resolutions import TENANT_STEPS, floor

    newest = asked_at(url)
    last = floor(newest - timedelta(seconds=20), TENANT_STEPS.step_s)
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT 1 FROM telemetry_tenant_5m LIMIT 1").fetchone():
            return
        connection.execute(
            """INSERT INTO telemetry_tenant_5m
               SELECT tenant, at, calls, calls / 50, calls / 90, 0, calls / 60, calls * 900, calls * 300, calls * 120, calls * 3400000,
                      calls, calls * 2, 30, 1190 + chance, 1250 + chance, 1280 + chance
               FROM (SELECT slug AS tenant, at, 20 + abs(hashtext(slug || at)) %% 200 AS calls, abs(hashtext(at || slug)) %% 20 AS chance
                     FROM (SELECT slug FROM tenancy_tenant UNION ALL SELECT '*') AS named CROSS JOIN generate_series(%s::timestamptz, %s, interval '5 minutes') AS at
                     WHERE slug = '*' OR slug < 'tenant-0020' OR abs(hashtext(at || slug)) %% 100 < 60) AS made""",
            [floor(newest - timedelta(days=8), 300), last - timedelta(seconds=TENANT_STEPS.step_s)],
        )
        connection.execute(
            "INSERT INTO telemetry_fold (kind, until) VALUES (%s, %s) ON CONFLICT (kind) DO UPDATE SET until = excluded.until",
            [TENANT_STEPS.mark, last],
        )
        print(f"{TENANT_STEPS.table} is filled", flush=True)


def by_name(url: str) -> None:
    """Fold what all tenants come to by route and by model, as the worker does."""
    from controlplane.telemetry.actions.ladder import LEVELS, fold_level
    from controlplane.telemetry.resolutions import WHOLE, floor

    newest = asked_at(url)
    rungs = {rung.mark: rung for dimension in ("route", "model") for rung in WHOLE[dimension]}
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT 1 FROM telemetry_route_15m LIMIT 1").fetchone():
            return
        for level in (each for each in LEVELS if each.mark in rungs):
            last = floor(newest - timedelta(seconds=20), level.step_s)
            first = floor(newest - (timedelta(hours=27) if level.step_s == 900 else timedelta(days=31)), level.step_s)
            fold_level(level, first, last, newest)
            connection.execute(
                "INSERT INTO telemetry_fold (kind, until) VALUES (%s, %s) ON CONFLICT (kind) DO UPDATE SET until = excluded.until",
                [level.mark, last],
            )
            connection.commit()
            print(f"{level.table} is filled", flush=True)


def asked_at(url: str) -> datetime:
    """Return the time that pages are asked at: that of the newest minutes and spans."""
    with psycopg.connect(url) as connection:
        newest: datetime = connection.execute("SELECT max(starts_at) FROM telemetry_window_1m").fetchone()[0]  # type: ignore[index]
    return newest + timedelta(seconds=1)


def sums(url: str) -> None:
    """Fold spans as the worker does, until ten seconds before the time that is asked for: as long ago as it may have been; and points."""
    from controlplane.telemetry.actions.folding import fold_hours
    from controlplane.telemetry.actions.span_sums import fold_spans

    now, began = asked_at(url) - timedelta(seconds=10), time.monotonic()
    while fold_spans(now=now, kept_since=now - timedelta(days=13)) > 3 * 60:
        pass
    fold_hours("quarters", now=now, kept_since=now - timedelta(days=13))
    print(f"spans are folded, in {time.monotonic() - began:,.0f} s", flush=True)


def said(url: str) -> None:
    """Fold what spans say, and who their users are, as far as they are folded otherwise, as the worker would have left it."""
    from controlplane.telemetry.actions.span_terms import fold_terms
    from controlplane.telemetry.actions.user_names import add_names
    from controlplane.telemetry.resolutions import floor
    from controlplane.telemetry.spansums import NAMES
    from controlplane.telemetry.terms import MARK

    began = time.monotonic()
    with psycopg.connect(url) as connection:
        marks = dict(connection.execute("SELECT kind, until FROM telemetry_fold").fetchall())
        first: datetime = connection.execute("SELECT min(starts_at) FROM telemetry_span").fetchone()[0]  # type: ignore[index]
        for mark, until in ((MARK, floor(marks["spans"] - timedelta(seconds=20), 60)), (NAMES, marks["spans"])):
            at = floor(marks.get(mark, first), 60)
            while at < until:
                over = min(until, at + timedelta(hours=1))
                if mark == NAMES:
                    add_names(at, over)
                else:
                    fold_terms([(at, over)], over)
                at = over
            connection.execute(
                "INSERT INTO telemetry_fold (kind, until) VALUES (%s, %s) ON CONFLICT (kind) DO UPDATE SET until = excluded.until",
                [mark, until],
            )
    print(f"what spans say is folded, in {time.monotonic() - began:,.0f} s", flush=True)


def rare(url: str) -> None:
    """Let five spans of the last day say what no other does, and fold their minutes again."""
    from controlplane.telemetry.actions.span_terms import fold_terms
    from controlplane.telemetry.resolutions import floor

    newest = asked_at(url)
    with psycopg.connect(url) as connection:
        for hours in range(2, 22, 4):
            at = newest - timedelta(hours=hours)
            connection.execute(
                """UPDATE telemetry_span SET attributes = attributes || '{"bench.rare": "yes"}' WHERE NOT attributes ? 'bench.rare'
                   AND (trace_id, span_id, starts_at) IN (
                       SELECT trace_id, span_id, starts_at FROM telemetry_span WHERE starts_at >= %s AND starts_at < %s
                       ORDER BY starts_at, span_id LIMIT 1)""",
                [at, at + timedelta(seconds=10)],
            )
            connection.commit()
            fold_terms([(at, at + timedelta(seconds=10))], floor(newest, 60))


def load(url: str, *, total: int, count: int, days: int) -> None:
    """Fill the database behind ``url`` as far as it is not filled."""
    newest = datetime.now(UTC)
    tenants(count)
    rollups(url, count, days, newest)
    ladder(url, count, newest)
    whole_tenants(url, count)
    all_together(url)
    by_name(url)
    tenant_steps(url)
    spans(url, total, count, asked_at(url))
    sums(url)
    said(url)
    rare(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
        connection.execute(
            "SELECT brin_summarize_new_values(oid) FROM pg_class WHERE relname LIKE 'telemetry_%' AND relkind = 'i'"
            " AND relam = (SELECT oid FROM pg_am WHERE amname = 'brin')"
        )  # as the worker does


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", required=True)
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--days", type=int, default=365)
    options = parser.parse_args()
    with warehouse(options.folder) as url:
        load(url, total=options.spans, count=options.tenants, days=options.days)


if __name__ == "__main__":
    main()
