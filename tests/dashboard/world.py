"""A small world of rows, straight into the tables: three tenants, money, clients, calls of an hour, traces."""

from __future__ import annotations

import math
import random
import uuid
from datetime import UTC, datetime, timedelta

from controlplane.budgets.models import Account, AccountSlot, Budget, Lease
from controlplane.domain.periods import period_of, slot_of
from controlplane.fleet.models import BreakerState, Instance
from controlplane.policy.actions.breakers import set_mode
from controlplane.policy.actions.policies import put_policy
from controlplane.rollouts.models import Rollout
from controlplane.telemetry.models import (
    CallWindow1m,
    CallWindow10s,
    DailyPricedUsage,
    DailyUsage,
    DailyUserUsage,
    Span,
)
from controlplane.tenancy.actions import keys, operators, tenants
from controlplane.tenancy.models import Operator, SdkKey, Tenant
from controlplane.tenancy.queries import SYSTEM
from tests.dashboard import alert_world, rollout_world, state_world
from tidegate.core.window import Distribution

PASSWORD = "correct horse battery"
USD = 10**9
ROUTES = (("chat", "gpt-4o", "answers"), ("chat", "gpt-4o-mini", "triage"), ("embed", "embed-small", "search"))


def packed(*values: int) -> list[int]:
    """Return a packed distribution of ``values``."""
    made = Distribution()
    for value in values:
        made.add(value)
    return made.packed()


class World:
    """What was made, by name."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.tenants: dict[str, Tenant] = {}
        self.keys: dict[str, SdkKey] = {}
        self.operators: dict[str, Operator] = {}
        self.budgets: dict[str, Budget] = {}
        self.instances: list[Instance] = []
        self.rollouts: dict[str, Rollout] = {}
        self.trace_id = ""
        self.random = random.Random(7)


def make(now: datetime | None = None, *, spans: bool = True) -> World:
    """Make the world as of ``now``."""
    world = World(now or datetime.now(UTC))
    _people(world)
    _policies(world)
    _money(world)
    _clients(world)
    _calls(world)
    world.rollouts = rollout_world.make(world.tenants["acme"], world.tenants["globex"], world.now)
    state_world.make(world.tenants["acme"], world.now)
    alert_world.make(world.tenants["acme"], world.tenants["globex"], world.now)
    if spans:
        _traces(world)
    return world


def _people(world: World) -> None:
    acme = tenants.create_tenant(by=SYSTEM, slug="acme", name="Acme")
    world.tenants["acme"] = acme
    world.tenants["acme-eu"] = tenants.create_tenant(by=SYSTEM, slug="acme-eu", name="Acme Europe", parent=acme)
    world.tenants["globex"] = tenants.create_tenant(by=SYSTEM, slug="globex", name="Globex")
    for slug, tenant in world.tenants.items():
        world.keys[slug], _ = keys.create_key(by=SYSTEM, tenant=tenant, name="production")
    for name, role, owner in (
        ("anna", "admin", ""),
        ("otto", "operator", ""),
        ("vera", "viewer", ""),
        ("gus", "operator", "globex"),
    ):
        world.operators[name] = operators.create_operator(
            by=SYSTEM, username=name, password=PASSWORD, role=role, tenant=world.tenants.get(owner)
        )


def _policies(world: World) -> None:
    limit = {"unit": "requests", "amount": 600, "per_s": 60, "scope": "fleet"}
    breaker = {"window_s": 30, "min_calls": 20, "failure_rate": 0.5, "open_s": 20}
    acme = world.tenants["acme"]
    put_policy(by=SYSTEM, tenant=None, route="*", document={"breaker": breaker, "timeout_ms": 30000})
    put_policy(by=SYSTEM, tenant=acme, route="chat", document={"limits": [limit]})
    louder = {"limits": [{**limit, "amount": 900}], "fallbacks": [{"route": "chat-small"}]}
    put_policy(by=SYSTEM, tenant=acme, route="chat", document=louder, reason="more traffic before the sale")
    set_mode(by=SYSTEM, tenant=acme, route="embed", mode="forced_closed", reason="false alarms")


def _budget(
    world: World, tenant: str | None, slug: str, usd: float, spent: float, leased: float, **more: object
) -> None:
    fields = {"period_kind": "calendar", "period_unit": "month", **more}
    budget = Budget.objects.create(
        tenant=world.tenants[tenant] if tenant else None, slug=slug, amount_nusd=int(usd * USD), **fields
    )
    period = period_of(budget.rule, world.now)
    account = Account.objects.create(
        budget=budget,
        period_key=period.key,
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        settled_nusd=int(spent * USD),
        outstanding_nusd=int(leased * USD),
        denied_calls=12 if spent >= usd else 0,
    )
    if budget.period_kind == "rolling":
        for day in range(budget.period_days or 1):
            AccountSlot.objects.create(
                account=account,
                starts_at=slot_of(budget.period_days or 1, world.now - timedelta(days=day)),
                settled_nusd=int(spent * USD / (budget.period_days or 1)),
            )
    Lease.objects.create(
        incarnation=uuid.UUID(int=1), number=budget.pk, path=[account.pk], granted_nusd=int((spent + leased) * USD),
        settled_nusd=int(spent * USD),
    )  # fmt: skip
    world.budgets[budget.name] = budget


def _money(world: World) -> None:
    _budget(world, "globex", "research", 1000, 935.12, 12.04)
    _budget(world, "acme", "support", 2400, 1842.07, 61.20, match={"category": "answers"})
    _budget(world, "acme", "everything", 10_000, 4102.55, 301, period_kind="rolling", period_unit="", period_days=30)
    _budget(world, "acme-eu", "batch", 500, 110.20, 4.80, on_exhausted="warn", period_timezone="Europe/Berlin")
    _budget(world, "globex", "trial", 25, 25.4, 0, period_kind="total", period_unit="")
    _budget(world, None, "installation", 50_000, 7120, 402)


def _clients(world: World) -> None:
    for number in range(12):
        slug = ("acme", "acme-eu", "globex")[number % 3]
        silent_s = {9: 44, 10: 900, 11: 1800}.get(number, 0.4)
        seen = world.now - timedelta(seconds=silent_s)
        instance = Instance.objects.create(
            incarnation=uuid.UUID(int=number + 1),
            key=world.keys[slug],
            scope=world.tenants[slug],
            app=("support-bot", "batch-summariser", "research")[number % 3],
            host=f"host-{number:02}",
            pid=4000 + number,
            sdk="python/0.1.0",
            started_at=world.now - timedelta(hours=number + 1),
            seen_at=seen,
            closed_at=seen if number == 11 else None,
            config_etag="",
            refused_etag="f" * 64 if number == 4 else "",
            refused_reason="policies.0.breaker.window_s: must be from 1 to 3600" if number == 4 else "",
            clock_skew_ms=number * 7 - 20,
            active_sessions=40 + number,
            queue_depth=number % 4,
            dropped_spans=120 if number == 7 else 0,
        )
        world.instances.append(instance)
        for route, model, _ in ROUTES:
            broken = model == "gpt-4o" and number % 4 != 3
            BreakerState.objects.create(
                instance=instance, route=route, model=model, phase="open" if broken else "closed",
                since=world.now - timedelta(seconds=190 if broken else 9000), calls=130 + number,
                failures=79 if broken else number % 2, slow=number % 3,
                cause="79 of 130 calls failed (timeout)" if broken else "", updated_at=seen,
            )  # fmt: skip


def _wave(at: datetime, period_s: float, phase: float) -> float:
    return 1 + 0.3 * math.sin(at.timestamp() / period_s * math.tau + phase)


def _shadow(kind: tuple[str, str, str], calls: int) -> dict[str, int]:
    """What a policy that only watches would have refused on the first route."""
    if kind != ROUTES[0] or not calls:
        return {}
    return {"shadow.calls": calls // 9, "shadow.cost_nusd": calls // 9 * 4_200_000, "shadow.rate_limited": calls // 9}


def _window(world: World, at: datetime, tenant: str, kind: tuple[str, str, str], seconds: int) -> dict[str, object]:
    route, model, category = kind
    number = ROUTES.index(kind)
    calls = round(seconds * 3 * _wave(at, 900, number) * (0.8 + 0.4 * world.random.random()) / (number + 1))
    age = (world.now - at).total_seconds()
    failing = 0.2 if model == "gpt-4o" and age < 190 else 0.01
    errors = round(calls * failing)
    lately = 1.6 if age < 120 else 1.0
    latencies = [round(400_000 * lately * math.exp(world.random.gauss(0, 0.5))) for _ in range(min(calls, 60))]
    return {
        "starts_at": at, "tenant": tenant, "route": route, "model": model, "category": category,
        "calls": calls, "errors": errors, "refused": calls // 40, "fallbacks": errors * 3 // 4, "retries": errors,
        "input_tokens": calls * 420, "cached_input_tokens": calls * 150, "output_tokens": calls * 130,
        "cost_nusd": calls * 4_200_000 // (number + 1), "kinds": {**({"error.timeout": errors} if errors else {}), **_shadow(kind, calls)},
        "latency_us": packed(*latencies), "tokens": packed(*[420 + world.random.randrange(200) for _ in range(20)]),
        "call_cost_nusd": packed(*[4_200_000 // (number + 1)] * max(1, calls)),
        "queue_depth": packed(*[world.random.randrange(8) for _ in range(20)]),
        "sessions": packed(*[40 + number] * seconds),
    }  # fmt: skip


def _calls(world: World) -> None:
    ten, minute = timedelta(seconds=10), timedelta(minutes=1)
    start = datetime.fromtimestamp(world.now.timestamp() // 10 * 10, UTC)
    fine = [
        CallWindow10s(**_window(world, start - ten * step, tenant, kind, 10))
        for step in range(62) for tenant in world.tenants for kind in ROUTES
    ]  # fmt: skip
    CallWindow10s.objects.bulk_create(fine)
    start = start.replace(second=0)
    coarse = [
        CallWindow1m(**_window(world, start - minute * step, tenant, kind, 60))
        for step in range(120) for tenant in ("acme", "globex") for kind in ROUTES
    ]  # fmt: skip
    CallWindow1m.objects.bulk_create(coarse)
    days = [world.now.date() - timedelta(days=day) for day in range(30)]
    usage = [
        DailyUsage(
            day=day, tenant=tenant, route=route, model=model, category=category, calls=9000 - 100 * number,
            input_tokens=3_780_000, cached_input_tokens=1_300_000, output_tokens=1_100_000,
            cost_nusd=int((70 - number * 0.6) * USD * world.random.uniform(0.7, 1.2) / (1 + ROUTES.index((route, model, category)))),
        )
        for number, day in enumerate(days) for tenant in world.tenants for route, model, category in ROUTES
    ]  # fmt: skip
    DailyUsage.objects.bulk_create(usage)
    DailyPricedUsage.objects.bulk_create(
        DailyPricedUsage(
            day=day, tenant=tenant, model=model, book="", calls=900, unpriced_calls=900 * (model == "embed-small"),
            cost_nusd=9 * USD, usage={"input": 3_000_000, "output": 500_000},
        )
        for day in days[:7] for tenant in world.tenants for _, model, _ in ROUTES
    )  # fmt: skip
    DailyUserUsage.objects.bulk_create(
        DailyUserUsage(day=day, tenant=tenant, user=f"u-{user}", calls=90, tokens=50_000, cost_nusd=user * USD // 3)
        for day in days[:7] for tenant in world.tenants for user in range(1, 9)
    )  # fmt: skip


def _traces(world: World) -> None:
    made = []
    for number in range(70):
        trace_id = f"{world.random.getrandbits(128):032x}"
        world.trace_id = world.trace_id or trace_id
        at = world.now - timedelta(seconds=20 + number * 31)
        tenant = ("acme", "acme-eu", "globex")[number % 3]
        failed = number % 7 == 3
        slow = world.random.uniform(0.3, 2.2)
        steps: tuple[tuple[str, str, int, int, dict[str, object]], ...] = (
            ("", "support.answer", 2_400_000, 0, {}),
            ("0", "retrieve", 320_000, 40_000, {"db.system": "pgvector"}),
            (
                "0",
                "chat gpt-4o",
                1_650_000,
                420_000,
                {"gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 1320},
            ),
            (
                "2",
                "POST /v1/chat/completions",
                1_600_000,
                440_000,
                {"http.response.status_code": 504 if failed else 200},
            ),
            ("0", "tool: search_orders", 210_000, 2_100_000, {"tool.name": "search_orders"}),
        )
        ids = [f"{world.random.getrandbits(64):016x}" for _ in steps]
        for place, (parent, name, duration, offset, attributes) in enumerate(steps):
            model = "gpt-4o" if name.startswith("chat") else ""
            agent = "coordinator" if place == 0 else ""
            tool = "search_orders" if name.startswith("tool") else ""
            made.append(
                Span(
                    trace_id=trace_id, span_id=ids[place], parent_span_id=ids[int(parent)] if parent else "",
                    starts_at=at + timedelta(microseconds=offset * slow), duration_us=int(duration * slow), tenant=tenant,
                    service="support-bot", name=name, kind=3 if parent else 2,
                    status=2 if failed and place in (0, 2, 3) else 1,
                    status_message="upstream timed out" if failed and place == 3 else "",
                    route="chat" if place in (0, 2) else "", model=model, session=f"s-{number % 9}", user=f"u-{number % 5}",
                    usage_by=1 if model else 0, agent=agent, tool=tool,
                    operation="chat" if model else "invoke_agent" if agent else "execute_tool" if tool else "",
                    input_tokens=1320 if model else None, output_tokens=210 if model else None,
                    cost_nusd=5_400_000 if model else None, attributes=attributes,
                    resource={"service.name": "support-bot", "service.version": "7.3.0"},
                    events=[{"name": "exception", "time": at.isoformat(), "attributes": {"exception.type": "TimeoutError"}}]
                    if failed and place == 3 else [],
                )
            )  # fmt: skip
    Span.objects.bulk_create(made)
