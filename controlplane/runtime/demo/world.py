"""Who lives in the demo world: tenants, their budgets and policies, and the services that call for them. All invented."""

from __future__ import annotations

from typing import Any, NamedTuple

from controlplane.runtime.demo import figures

ROOT = "demo"
KEY_NAME = "demo services"
_USD = 1_000_000_000
TRIAGE, TRIAGE_ROUTE, TRIAGE_MODEL = "demo-triage", "triage", "gpt-4.1-nano"


class DemoTenant(NamedTuple):
    slug: str
    name: str
    parent: str | None


TENANTS = (
    DemoTenant(ROOT, "Demo world", None),
    DemoTenant("demo-northwind", "Northwind (demo)", ROOT),
    DemoTenant("demo-northwind-shop", "Northwind Shop (demo)", "demo-northwind"),
    DemoTenant("demo-fabrikam", "Fabrikam (demo)", ROOT),
    DemoTenant("demo-fabrikam-agents", "Fabrikam Agents (demo)", "demo-fabrikam"),
    DemoTenant("demo-contoso", "Contoso (demo)", ROOT),
    DemoTenant("demo-adventure", "Adventure Works (demo)", ROOT),
)


class DemoBudget(NamedTuple):
    tenant: str
    slug: str
    amount_nusd: int
    period: dict[str, Any]
    match: dict[str, str] = {}  # noqa: RUF012 - a constant
    on_exhausted: str = "block"
    thresholds: tuple[int, ...] = (50, 80, 100)


_HOUR = {"kind": "calendar", "unit": "hour", "timezone": "UTC"}
_DAY = {"kind": "calendar", "unit": "day", "timezone": "UTC"}

AGENTS_BUDGET = ("demo-fabrikam-agents", "agents")
AGENTS_CALM_NUSD, AGENTS_RUNAWAY_NUSD = 12 * _USD, 3 * _USD // 2  # what is left when calm, and when the agent runs away

BUDGETS = (
    DemoBudget(ROOT, "everything", 60 * _USD, _HOUR),
    DemoBudget("demo-northwind", "support", 4 * _USD, _HOUR, {"category": "support"}),
    DemoBudget("demo-northwind-shop", "search", 20 * _USD, _HOUR, {"category": "search"}),
    DemoBudget("demo-contoso", "day", 90 * _USD, _DAY),
    DemoBudget(*AGENTS_BUDGET, AGENTS_CALM_NUSD, _HOUR, {"category": "agents"}),
    DemoBudget("demo-adventure", "trial", 5 * _USD, {"kind": "rolling", "days": 30}, {}, "warn"),
)

_BUSY = {"value": {"text": "We are busy, please try again in a moment."}}
POLICIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        ROOT,
        "*",
        {
            "timeout_ms": 30_000,
            "retry": {"max_attempts": 2, "base_ms": 200, "max_ms": 2_000, "jitter": "full", "budget_ratio": 0.2},
            "breaker": {
                "window_s": 20,
                "min_calls": 10,
                "failure_rate": 0.5,
                "slow_call_ms": 15_000,
                "slow_call_rate": 0.8,
                "open_s": 10,
                "half_open_calls": 3,
                "mode": "auto",
            },
        },
    ),
    (ROOT, "chat", {"fallbacks": [_BUSY]}),
    (ROOT, TRIAGE_ROUTE, {"retry": {"max_attempts": 1}}),  # so that what a release breaks is seen
    (
        "demo-contoso",
        "chat",
        {"limits": [{"unit": "requests", "amount": 3, "per_s": 1, "burst": 6, "scope": "fleet"}]},
    ),
    (
        "demo-fabrikam",
        "code",
        {"queue": {"max_concurrent": 2, "max_waiting": 32, "max_wait_ms": 10_000}},
    ),
    (
        "demo-fabrikam-agents",
        "agent",
        {"queue": {"max_concurrent": 8, "max_waiting": 16, "max_wait_ms": 3_000}},
    ),
)


class DemoSlo(NamedTuple):
    slug: str
    name: str
    kind: str
    objective: float
    threshold: float | None = None
    route: str = ""
    days: int = 7


SLOS = (
    DemoSlo("chat", "Chat answers (demo)", "availability", 0.97, None, "chat"),
    DemoSlo("chat-quick", "Chat is quick (demo)", "latency", 0.95, 6_000, "chat"),
)
RULES: tuple[dict[str, Any], ...] = (
    {
        "slug": "model-errors", "name": "Calls of a model fail (demo)", "kind": "threshold", "severity": "page", "for_s": 15,
        "keep_firing_s": 60, "spec": {"metric": "error_rate", "value": 0.2, "window_s": 60, "by": "model", "min_calls": 20},
    },
    {
        "slug": "budget-forecast", "name": "A budget will not last (demo)", "kind": "forecast", "for_s": 60, "keep_firing_s": 120,
        "every_s": 30, "spec": {},
    },
    {
        "slug": "chat-burns", "name": "Chat burns its error budget (demo)", "kind": "burn_rate", "severity": "page",
        "keep_firing_s": 300, "every_s": 30, "spec": {"slo": "chat"},
    },
)  # fmt: skip


class DemoService(NamedTuple):
    """A program that calls a model: how often per second and for whom (tenant: weight), and how large its calls are."""

    name: str
    route: str
    category: str
    model: str
    calls_per_s: float
    tenants: dict[str, float]
    input_tokens: figures.Quantiles
    output_tokens: figures.Quantiles
    max_output_tokens: int
    stream: bool
    traces: bool = True


class Prompt(NamedTuple):
    """What a prompt of the triage service does to its calls: the part that fails, and how long its answers are."""

    failing: float
    longer: float


PLAIN, TERSE, STRICT, VERBOSE = "plain", "terse", "strict", "verbose"
PROMPTS = {
    PLAIN: Prompt(0.005, 1.0),
    TERSE: Prompt(0.001, 0.8),  # better
    STRICT: Prompt(0.025, 1.0),  # subtly worse: 0.5 % becomes 2.5 %
    VERBOSE: Prompt(0.005, 1.7),  # costlier
}
RELEASES = (STRICT, TERSE, VERBOSE)  # rolled out one after the other, over and over

SERVICES = (
    DemoService(
        "triage-bot",
        TRIAGE_ROUTE,
        "triage",
        TRIAGE_MODEL,
        12.0,
        {"demo-northwind": 2.0, "demo-contoso": 1.0, "demo-adventure": 1.0},
        figures.TRIAGE_INPUT,
        figures.TRIAGE_OUTPUT,
        64,
        False,
        traces=False,
    ),
    DemoService(
        "support-bot",
        "chat",
        "support",
        "gpt-4o-mini",
        4.0,
        {"demo-northwind": 3.0, "demo-contoso": 1.0, "demo-adventure": 1.0},
        figures.CHAT_INPUT,
        figures.CHAT_OUTPUT,
        1_000,
        True,
    ),
    DemoService(
        "shop-search",
        "chat",
        "search",
        "claude-haiku-4-5",
        2.5,
        {"demo-northwind-shop": 3.0, "demo-adventure": 1.0},
        figures.CHAT_INPUT,
        figures.CHAT_OUTPUT,
        1_000,
        True,
    ),
    DemoService(
        "code-review",
        "code",
        "review",
        "gpt-4.1-mini",
        2.0,
        {"demo-fabrikam": 2.0, "demo-contoso": 1.0},
        figures.CODE_INPUT,
        figures.CODE_OUTPUT,
        2_000,
        False,
    ),
    DemoService(
        "agent-runner",
        "agent",
        "agents",
        "gpt-4o",
        0.5,
        {"demo-fabrikam-agents": 1.0},
        figures.CODE_INPUT,
        figures.CHAT_OUTPUT,
        1_000,
        False,
    ),
)


class DemoPattern(NamedTuple):
    """An example of the SDK that runs here: its file below ``sdk/python/examples``, and what it is told."""

    script: str
    arguments: tuple[str, ...]


PATTERNS = (
    DemoPattern("stateless.py", ("--every", "1", "--tenant", "demo-northwind", "--tenant", "demo-contoso")),
    DemoPattern("conversation.py", ("--every", "0.5", "--tenant", "demo-northwind", "--tenant", "demo-adventure")),
    DemoPattern("personal.py", ("--every", "1.5", "--tenant", "demo-northwind-shop")),
    DemoPattern("mesh.py", ("--every", "8", "--at-once", "4", "--tenant", "demo-fabrikam-agents", "--celery")),
)
