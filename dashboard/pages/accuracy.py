"""Accuracy: where each unit of every budget stands, every way in which that could be wrong, and the proof of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.budgets.accuracy import Accuracy, Holding, accuracy, last_proof, leases_seen_by, lost_after, proofs
from controlplane.tenancy.models import Role
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params

MOST_DIFFERENCES = 20


@dataclass(frozen=True)
class Totals:
    """What all budgets of the page come to, in nano-USD and calls. ``overspend`` is of those that are hard caps."""

    overspend: int
    unverified: int
    stranded: int
    overage: int
    denied: int
    false_refusals: int
    lost: int
    reported_at: datetime | None

    @property
    def false_rate(self) -> float | None:
        return self.false_refusals / self.denied if self.denied else None


def _totals(found: list[Accuracy]) -> Totals:
    hard = [each for each in found if each.guaranteed]
    return Totals(
        overspend=sum(each.overspend_nusd for each in hard),
        unverified=sum(each.unverified_nusd for each in found),
        stranded=sum(each.stranded_nusd for each in hard),
        overage=sum(each.overage_nusd for each in found),
        denied=sum(each.denied_calls for each in hard),
        false_refusals=sum(each.false_refusals for each in hard),
        lost=sum(each.lost for each in found),
        reported_at=min((each.reported_at for each in found if each.reported_at), default=None),
    )


def build(asking: Asking, params: Params) -> Context:
    found = accuracy(asking.asker, asking.now, params.value("tenant") or None)
    proof = last_proof()
    holdings = leases_seen_by(asking.asker, asking.now)
    return {
        "title": "Accuracy",
        "found": found,
        "totals": _totals(found),
        "proof": proof,
        "proofs": proofs(),
        "may_prove": asking.asker.tenant is None and asking.asker.may(Role.OPERATOR),
        # The proof is of all tenants together: only who sees all of them may see which counters differ.
        "differences": proof.differences[:MOST_DIFFERENCES] if proof and asking.asker.tenant is None else [],
        "lost_after_s": lost_after().total_seconds(),
        "holdings": holdings,
        "chosen": _chosen(holdings, params.value("lease")),
    }


def _chosen(holdings: list[Holding], name: str) -> Holding | None:
    return next((each for each in holdings if each.name == name), None)


PAGE = Page(
    name="accuracy",
    section="accuracy",
    template="pages/accuracy.html",
    parts={
        "accuracy_summary": "accuracy/summary.html",
        "accuracy_figures": "accuracy/figures.html",
        "accuracy_list": "accuracy/list.html",
        "accuracy_leases": "accuracy/leases.html",
        "accuracy_proof": "accuracy/proof.html",
    },
    build=build,
    params=frozenset({"tenant", "lease"}),
)
