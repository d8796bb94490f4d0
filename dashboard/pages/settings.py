"""Settings: operators and their tokens, the installation's keys, and how programs connect."""

from __future__ import annotations

from django.conf import settings

from controlplane.telemetry import queries as telemetry
from controlplane.tenancy import queries as tenancy
from dashboard.asking import Asking
from dashboard.captures import capture_context
from dashboard.page import Context, Page, Params

MOST = 100
FOLDS = {
    "points": "metrics",
    "quarters": "metrics, per 15 min",
    "windows": "calls, per hour",
    "spans": "spans",
    "shapes": "steps of traces",
    "total": "calls of all tenants",
    "window": "calls of each tenant",
    "all": "calls of the installation",
    "tenant": "calls of tenants as a whole",
}
STEPS = {"s": "s", "m": "min", "h": "h", "d": "d"}


def fold_words(kind: str) -> str:
    """Return what is added up: ``calls of all tenants, per 15 min`` for ``total_15m``."""
    name, _, step = kind.partition("_")
    words = FOLDS.get(name, name)
    return f"{words}, per {step[:-1]} {STEPS.get(step[-1], step[-1])}" if step else words


def build(asking: Asking, _params: Params) -> Context:
    own = telemetry.own_figures(asking.now) if asking.asker.tenant is None else None
    return {
        "title": "Settings",
        "operators": list(tenancy.operators_seen_by(asking.asker)[:MOST]),
        "tokens": list(tenancy.tokens_seen_by(asking.asker)[:MOST]),
        "keys": list(tenancy.keys_seen_by(asking.asker).filter(tenant=None)[:MOST]),
        "may_all": asking.asker.tenant is None,
        "own": own,
        "folds": sorted((fold_words(kind), seconds) for kind, seconds in own.behind) if own else [],
        **capture_context(None),
        "span_days": settings.SPAN_RETENTION_DAYS,
        "window_hours": settings.WINDOW_RETENTION_HOURS,
        "sync_ms": settings.SYNC_INTERVAL_MS,
        "lease_s": settings.LEASE_TTL_MS / 1000,
    }


PAGE = Page(
    name="settings",
    section="settings",
    template="pages/settings.html",
    parts={
        "operator_list": "settings/operators.html",
        "token_list": "settings/tokens.html",
        "key_list": "settings/keys.html",
        "storage": "settings/storage.html",
    },
    build=build,
)
