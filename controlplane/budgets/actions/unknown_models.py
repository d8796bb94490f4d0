"""What is done with calls whose model has no price: the installation's rule, and how it gets into the price book."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from controlplane.budgets.actions.prices import costs_nothing, faults_of_rates, may_price, refresh_price_book
from controlplane.budgets.models import UnknownModels, UnknownPolicy
from controlplane.problems import Invalid
from controlplane.tenancy.actions.audit import record
from controlplane.tenancy.queries import Asker
from tidegate.core.matching import compile_clause
from tidegate.core.price import UNKNOWN_POLICIES

MAX_FAMILIES = 50


@transaction.atomic
def set_unknown_models(
    *, by: Asker, policy: str, rates: dict[str, str], families: list[dict[str, Any]]
) -> UnknownModels:
    """Set what is done with models that have no price. ``Invalid`` names what is wrong.

    ``estimate`` charges ``rates`` (decimal USD by class; none: what 95 % of the makers' models stay below), or those of the first
    family whose ``pattern`` matches: ``{"pattern": {"contains": "embed"}, "rates": {"input": "0.2"}}``. ``refuse`` lets no such call
    through. ``allow`` lets it cost nothing.
    """
    may_price(by)
    errors = {} if policy in UNKNOWN_POLICIES else {"policy": f"must be one of {', '.join(UNKNOWN_POLICIES)}"}
    errors |= faults_of_rates(rates) if rates else {}
    errors |= _faults_of_families(families)
    if not errors and policy == UnknownPolicy.ESTIMATE:
        errors |= _faults_of_nothing(rates, families)
    if errors:
        raise Invalid("The rule can't be set like this.", errors=errors)
    before = UnknownModels.objects.first()
    after = {"policy": policy, "rates": rates, "families": families}
    rule, _ = UnknownModels.objects.update_or_create(once=True, defaults={**after, "set_by": by.name})
    refresh_price_book(by=by)
    record(
        by=by,
        action="price.unknown_models_set",
        target_kind="price",
        target="unknown models",
        summary=f"Calls of models without a price: {policy}",
        before=before.document if before else None,
        after=after,
    )
    return rule


def _faults_of_nothing(rates: dict[str, str], families: list[dict[str, Any]]) -> dict[str, str]:
    """An estimate of nothing would hide calls from every budget without saying so."""
    fault = "is an estimate of nothing: no budget would see such calls. That is what the policy allow says"
    faults = {"rates.input": fault} if rates and costs_nothing(rates) else {}
    found = (number for number, family in enumerate(families) if costs_nothing(family["rates"]))
    return faults | {f"families.{number}.rates": fault for number in found}


def _faults_of_families(families: list[dict[str, Any]]) -> dict[str, str]:
    if len(families) > MAX_FAMILIES:
        return {"families": f"has {len(families)} entries, at most {MAX_FAMILIES} are allowed"}
    faults = {}
    for number, family in enumerate(families):
        where = f"families.{number}"
        try:
            compile_clause(family.get("pattern"), "pattern")
        except ValueError as error:
            faults[f"{where}.pattern"] = str(error)
        rates = family.get("rates")
        if isinstance(rates, dict):
            faults |= {f"{where}.{place}": text for place, text in faults_of_rates(rates).items()}
        else:
            faults[f"{where}.rates"] = "is missing"
    return faults
