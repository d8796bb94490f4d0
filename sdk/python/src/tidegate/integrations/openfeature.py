"""A provider of OpenFeature over a gate: ``pip install "./sdk/python[openfeature]"``.

    api.set_provider(TidegateProvider(gate))
    client.get_string_value("assistant.model", "gpt-4o-mini", EvaluationContext("user-1", {"tenant": "acme"}))

A deployment is a flag whose value is its config, ``deployment.entry`` the flag of one entry; all is decided in this process, from
the snapshot in memory, as for guarded calls. An evaluation counts nowhere: what is compared are calls (``gate.call``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata

from tidegate.client import Gate
from tidegate.core.ofrep import Refusal, context_of, evaluate, flags_that_differ
from tidegate.core.snapshot import Snapshot

T = TypeVar("T")
Tree = Sequence[FlagValueType] | Mapping[str, FlagValueType]


class TidegateProvider(AbstractProvider):
    """Resolves flags by the releases that a gate knows. The gate stays its owner's: shutting down does not close it."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate
        self._snapshot: Snapshot | None = None

    def get_metadata(self) -> Metadata:
        return Metadata(name="Tidegate")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002  (OpenFeature names it)
        """Listen for new releases. ``ProviderNotReadyError`` before the control plane was ever reached; it is told when it is."""
        self._snapshot = self._gate.guard.snapshot
        self._gate.guard.followers.append(self._followed)
        if self._snapshot is None:
            raise ProviderNotReadyError("The control plane was never reached: nothing is known yet.")

    def shutdown(self) -> None:
        if self._followed in self._gate.guard.followers:
            self._gate.guard.followers.remove(self._followed)

    def _followed(self, snapshot: Snapshot) -> None:
        before, self._snapshot = self._snapshot, snapshot
        if before is None:
            self.emit_provider_ready(ProviderEventDetails())
            return
        changed = flags_that_differ(before, snapshot)
        if changed:
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=changed))

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        return self._resolve(flag_key, default_value, evaluation_context, bool)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        return self._resolve(flag_key, default_value, evaluation_context, str)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        return self._resolve(flag_key, default_value, evaluation_context, int)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        found = self._resolve(flag_key, default_value, evaluation_context, float, int)
        found.value = float(found.value)
        return found

    def resolve_object_details(
        self, flag_key: str, default_value: Tree, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[Tree]:
        return self._resolve(flag_key, default_value, evaluation_context, dict, list)

    def _resolve(
        self, flag: str, default: T, said: EvaluationContext | None, *kinds: type[Any]
    ) -> FlagResolutionDetails[T]:
        snapshot = self._gate.guard.snapshot
        if snapshot is None:
            return _fault(default, "PROVIDER_NOT_READY", "The control plane was never reached: nothing is known yet.")
        try:
            context = context_of((said.targeting_key if said else None) or "", said.attributes if said else {})
        except Refusal as refusal:
            return _fault(default, refusal.code, refusal.details)
        document = evaluate(snapshot, flag, context).document or {}
        if "errorCode" in document:
            return _fault(default, document["errorCode"], document["errorDetails"])
        value = document.get("value", default)
        if "value" in document and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            return _fault(default, "TYPE_MISMATCH", f"{flag} is a {type(value).__name__}.")
        return FlagResolutionDetails(
            value, reason=Reason(document["reason"]), variant=document["variant"], flag_metadata=document["metadata"]
        )


def _fault(default: T, code: str, details: str) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(default, error_code=ErrorCode(code), error_message=details, reason=Reason.ERROR)
