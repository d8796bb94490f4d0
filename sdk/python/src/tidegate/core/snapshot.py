"""Snapshots: the policies, budgets and deployments of one scope, compiled, as callers look them up for a call.

The same functions run on the server (before a snapshot is published) and in the SDK (when one arrives).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from tidegate.core.checks import Check, whole
from tidegate.core.policy import ANY_ROUTE, NOTHING, Policy, PolicyError, parse_policy
from tidegate.core.release import Deployment, compile_deployments

FORMAT = 1


class BudgetRef(NamedTuple):
    """A budget that a call may touch; a call does so when it equals every part that ``match`` names."""

    id: int
    tenant: str | None
    slug: str
    match: tuple[tuple[str, str], ...]  # ("route" | "category" | "model" | "user" | "session", value)
    on_exhausted: str  # "block" or "warn"
    on_disconnect: str = "stop"  # or "finish_lease"
    strict: bool = True  # calls hold the worst case, not what such calls used to need
    on_overrun: str = "finish"  # or "cut": what becomes of a call that outgrows its hold where nothing is left

    @property
    def name(self) -> str:
        """``tenant/slug``, as refusals name it."""
        return f"{self.tenant or ''}/{self.slug}"


class TenantRules(NamedTuple):
    routes: Mapping[str, Policy]
    budgets: tuple[BudgetRef, ...]
    deployments: tuple[Deployment, ...] = ()  # the nearest first
    personal: bool = False  # whether a budget is of one user or session: calls alike in all else may touch others


_BUDGET_MATCHES = {"route", "category", "model", "user", "session"}


class Snapshot:
    """The compiled intent for one scope. Immutable; looked up on every call."""

    __slots__ = ("_default", "_tenants", "deployments", "lease_ttl_ms", "prices", "revision", "scope", "sync_ms")

    def __init__(
        self,
        head: Mapping[str, Any],
        tenants: Mapping[str, TenantRules],
        default: TenantRules,
        deployments: Mapping[str, Deployment],
    ) -> None:
        self.revision: int = head["revision"]
        self.scope: str | None = head["scope"]
        self.prices: str | None = head["prices"]
        self.sync_ms: int = head["sync_ms"]
        self.lease_ttl_ms: int = head["lease_ttl_ms"]
        self._tenants = tenants
        self._default = default
        self.deployments = deployments

    @property
    def tenants(self) -> Iterable[str]:
        """The slugs of the tenants that have rules of their own."""
        return self._tenants.keys()

    def rules(self, tenant: str | None) -> TenantRules:
        """Return the rules of ``tenant``; those for unknown tenants when it has none."""
        return self._tenants.get(tenant or "", self._default)

    def policy_for(self, tenant: str | None, route: str) -> Policy:
        """Return the policy for a call of ``tenant`` on ``route``."""
        routes = self.rules(tenant).routes
        return routes.get(route) or routes.get(ANY_ROUTE, NOTHING)

    def deployment_of(self, tenant: str | None, route: str) -> Deployment | None:
        """Return the deployment whose releases calls of ``tenant`` on ``route`` get, if there is one."""
        for deployment in self.rules(tenant).deployments:
            if route in deployment.routes or ANY_ROUTE in deployment.routes:
                return deployment
        return None

    def budgets_for(
        self, tenant: str | None, *, route: str, category: str = "", model: str = "", user: str = "", session: str = ""
    ) -> tuple[BudgetRef, ...]:
        """Return the budgets that a call touches, leaf first. Names of models are compared as prices compare them: whatever their case."""
        budgets = self.rules(tenant).budgets
        if not budgets:
            return ()
        call = {"route": route, "category": category, "model": model.lower(), "user": user, "session": session}
        return tuple(budget for budget in budgets if all(call[part] == value for part, value in budget.match))


class SnapshotParts:
    """A snapshot that is being compiled: all of it but its policies and tenants, which may come one by one."""

    def __init__(self, document: Any) -> None:
        if not isinstance(document, Mapping):
            raise PolicyError({"": "a snapshot must be an object"})
        if document.get("format") != FORMAT:
            raise PolicyError({"format": f"this is version {document.get('format')!r}, known is {FORMAT}"})
        for name, check in _HEAD.items():
            fault = check(document.get(name))
            if fault:
                raise PolicyError({name: fault})
        self._document = document
        with faults_named("budgets"):
            self._budgets = {int(key): _budget(int(key), value) for key, value in document["budgets"].items()}
        self._deployments = compile_deployments(document.get("deployments", {}))

    def rules(self, value: Any, policies: Sequence[Policy], tenant: str) -> TenantRules:
        with faults_named(f"tenants.{tenant}"):
            return _rules(value, _Known(policies, self._budgets, self._deployments))

    def snapshot(self, policies: Sequence[Policy], tenants: Mapping[str, TenantRules]) -> Snapshot:
        with faults_named("default"):
            default = _rules(self._document["default"], _Known(policies, self._budgets, self._deployments))
        return Snapshot(self._document, tenants, default, self._deployments)


def compile_snapshot(document: Any) -> Snapshot:
    """Return the snapshot of a document as it was served; ``PolicyError`` names the first part that is wrong."""
    with faults_named():
        parts = SnapshotParts(document)
        policies = [compile_policy(policy, number) for number, policy in enumerate(document["policies"])]
        tenants = {slug: parts.rules(value, policies, slug) for slug, value in document["tenants"].items()}
        return parts.snapshot(policies, tenants)


@contextmanager
def faults_named(part: str = "") -> Iterator[None]:
    """Turn whatever a ``part`` of a snapshot that has the wrong shape raises into a ``PolicyError``."""
    try:
        yield
    except PolicyError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PolicyError({part: f"is not what a snapshot has: {type(error).__name__} {error}"}) from error


_HEAD: dict[str, Check] = {
    "revision": whole(0, 2**63),
    "scope": lambda value: None if value is None or isinstance(value, str) else "must be text or null",
    "prices": lambda value: None if value is None or isinstance(value, str) else "must be text or null",
    "sync_ms": whole(50, 600_000),
    "lease_ttl_ms": whole(100, 86_400_000),
}


def compile_policy(document: Any, number: int) -> Policy:
    """Return a policy of a snapshot; ``PolicyError`` names its ``number``, too."""
    try:
        return parse_policy(document, compiled=True)
    except PolicyError as error:
        raise PolicyError({f"policies[{number}].{path}": text for path, text in error.errors.items()}) from None


def _terms(key: int, value: Mapping[str, Any]) -> dict[str, Any]:
    strict, on_overrun = value.get("strict", True), value.get("on_overrun", "finish")
    if not isinstance(strict, bool) or on_overrun not in ("finish", "cut"):
        raise PolicyError({f"budgets.{key}": "strict is true or false, on_overrun is finish or cut"})
    return {"strict": strict, "on_overrun": on_overrun}


def _budget(key: int, value: Mapping[str, Any]) -> BudgetRef:
    match = value["match"]
    if set(match) - _BUDGET_MATCHES:
        raise PolicyError({f"budgets.{key}.match": f"may name {', '.join(sorted(_BUDGET_MATCHES))}"})
    return BudgetRef(
        key,
        value["tenant"],
        value["slug"],
        tuple(sorted((part, value.lower() if part == "model" else value) for part, value in match.items())),
        value["on_exhausted"],
        value.get("on_disconnect", "stop"),
        **_terms(key, value),
    )


class _Known(NamedTuple):
    """What the rules of tenants refer to."""

    policies: Sequence[Policy]
    budgets: Mapping[int, BudgetRef]
    deployments: Mapping[str, Deployment]


def _rules(value: Mapping[str, Any], known: _Known) -> TenantRules:
    routes = {route: known.policies[_index(index, len(known.policies))] for route, index in value["routes"].items()}
    deployments = tuple(known.deployments[slug] for slug in value.get("deployments", ()))
    budgets = tuple(known.budgets[key] for key in value["budgets"])
    personal = any(part in ("user", "session") for budget in budgets for part, _ in budget.match)
    return TenantRules(routes, budgets, deployments, personal)


def _index(value: Any, policies: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < policies:
        raise ValueError(f"{value!r} is not the index of a policy")
    return value
