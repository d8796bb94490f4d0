"""All live pages by name: what the views show and the websocket sends."""

from __future__ import annotations

from dashboard.page import Page
from dashboard.pages import (
    accuracy,
    alert_channels,
    alert_rules,
    alerts,
    audit,
    breakers,
    budgets,
    clients,
    limits,
    mesh,
    metrics,
    overview,
    prices,
    rollout_forms,
    rollouts,
    sessions,
    settings,
    slos,
    state,
    tenants,
    trace,
    traces,
)

PAGES: dict[str, Page] = {
    page.name: page
    for page in (
        overview.PAGE,
        tenants.PAGE,
        tenants.ONE,
        tenants.NEW,
        budgets.PAGE,
        budgets.NEW,
        accuracy.PAGE,
        prices.PAGE,
        limits.PAGE,
        limits.EDIT,
        breakers.PAGE,
        rollouts.PAGE,
        rollout_forms.NEW,
        rollout_forms.EDIT,
        rollout_forms.DEPLOYMENT,
        traces.PAGE,
        trace.ONE,
        trace.COMPARE,
        metrics.PAGE,
        mesh.PAGE,
        sessions.PAGE,
        alerts.PAGE,
        alert_rules.PAGE,
        alert_rules.EDIT,
        alert_channels.PAGE,
        slos.PAGE,
        slos.EDIT,
        clients.PAGE,
        state.PAGE,
        state.OWNER,
        audit.PAGE,
        settings.PAGE,
    )
}
