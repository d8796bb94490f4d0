"""Points of metrics that the server measures of itself, as if somebody had sent them."""

from __future__ import annotations

from typing import NamedTuple

from controlplane.telemetry.otlp.decoding import Origin
from controlplane.telemetry.otlp.series import Kind, Measure, PointRow, key_of

SERVICE = "tidegate"


class Own(NamedTuple):
    """One value: what was added since the last one, or a ``level``."""

    name: str
    value: float
    unit: str
    instance: str = ""
    tenant: str = ""
    level: bool = False


def own_point(own: Own, at_ns: int) -> PointRow:
    origin = Origin(SERVICE, own.instance, b"{}", {})
    measure = Measure([], 0, at_ns, 1, float(own.value))
    kind = Kind.GAUGE if own.level else Kind.SUM
    key = key_of(origin, f"tidegate.{own.name}", own.unit, kind, not own.level, measure, lambda _: own.tenant)
    return PointRow(key, False, measure)
