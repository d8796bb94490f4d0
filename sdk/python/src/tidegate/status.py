"""What a process knows and holds, as plain dictionaries for people and health checks. Amounts are nano-USD."""

from __future__ import annotations

from typing import Any

from tidegate.config import Config
from tidegate.guard import Guard
from tidegate.leasing import Slip


def describe_config(config: Config | None) -> dict[str, Any] | None:
    """Return which policy and prices are in force and whence they came; ``None`` before the first ones."""
    if config is None:
        return None
    return {
        "etag": config.etag,
        "revision": config.snapshot.revision,
        "scope": config.snapshot.scope,
        "source": config.source,
        "prices": config.prices_etag,
        "models": len(config.book),
    }


def describe(guard: Guard) -> dict[str, Any]:
    """Return what the guard holds, enforces and has yet to report, all at one instant."""
    in_flight = guard.in_flight
    with guard.lock:
        boot = guard.clock.boot()
        return {
            "leases": [_lease(slip, boot) for slip in guard.leases.slips.values()],
            "enforced": _enforced(guard),
            "breakers": _breakers(guard),
            "in_flight": in_flight,
            "waiting": len(guard.waiting),
            "unpriced_calls": guard.unpriced_calls,
            "unconfirmed_windows": guard.report.unconfirmed,
            "dropped_windows": guard.report.dropped_windows,
        }


def _lease(slip: Slip, boot: float) -> dict[str, Any]:
    denial = slip.path.denial
    return {
        "number": slip.number,
        "budgets": [ref.name for ref in slip.path.refs],
        **slip.lease._asdict(),
        "room": slip.lease.room,
        "live": slip.live(boot),
        "blocked_by": denial.blocked_by if denial is not None else None,
    }


def _enforced(guard: Guard) -> list[dict[str, Any]]:
    return [
        {
            "tenant": lane.tenant,
            "route": lane.route,
            "enforcement": lane.policy.enforcement,
            "running": lane.line.running,
            "waiting": lane.line.waiting,
        }
        for lane in guard.lanes.values()
    ]


def _breakers(guard: Guard) -> list[dict[str, Any]]:
    now = guard.clock.now()
    return [
        {"route": target, "model": model, "credential": credential, **state.view(rule, now)._asdict()}
        for (target, model), circuit in guard.breakers.items()
        for credential, state, rule in circuit.all(now)
    ]
