"""Carries out the timeline: faults at the provider, and an operator's hand on the agents' budget."""

from __future__ import annotations

from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone

from controlplane.budgets.actions.budgets import change_amount
from controlplane.budgets.models import Account, Budget
from controlplane.runtime.demo import timeline, wire, world
from controlplane.runtime.demo.seed import DEMO

CENT = 10_000_000  # nano-USD
FAULTS = {timeline.BROWNOUT: {timeline.BROWNOUT_MODEL: {"error_rate": 0.75, "status": 503, "slowness": 2.5}}}


async def tell_provider(port: int, phase: timeline.Phase) -> None:
    """Set the faults of a phase; whatever was set before is gone."""
    async with wire.exchange("127.0.0.1", port, "PUT", "/admin/faults", FAULTS.get(phase.name, {})) as reply:
        await reply.document()


def steer_budget(phase: timeline.Phase) -> None:
    """Leave the runaway agent little, and give the calm one room again."""
    tenant, slug = world.AGENTS_BUDGET
    budget = Budget.objects.select_related("tenant").filter(tenant__slug=tenant, slug=slug, archived_at=None).first()
    if budget is None:
        return
    if phase.name == timeline.RUNAWAY:
        _leave(budget, world.AGENTS_RUNAWAY_NUSD, "demo: an agent runs away")
    elif _left(budget) < world.AGENTS_CALM_NUSD // 4:
        _leave(budget, world.AGENTS_CALM_NUSD, "demo: the agent was stopped and may work again")


def _leave(budget: Budget, nusd: int, reason: str) -> None:
    amount_nusd = -(-(_exposed(budget) + nusd) // CENT) * CENT  # as a person would type it
    change_amount(by=DEMO, budget=budget, amount_nusd=amount_nusd, reason=reason, now=timezone.now())


def _left(budget: Budget) -> int:
    return budget.amount_nusd - _exposed(budget)


def _exposed(budget: Budget) -> int:
    """Return what the newest account of a budget spent and may still be charged, in nano-USD."""
    exposed = F("outstanding_nusd") + F("settled_nusd")
    newest = Account.objects.filter(budget=budget).order_by("-starts_at").annotate(exposed=Greatest(exposed, 0))
    return newest.values_list("exposed", flat=True).first() or 0
