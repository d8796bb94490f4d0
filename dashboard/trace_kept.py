"""Waterfalls of the traces that somebody looks at: made once, and again when more of their spans have arrived.

The page, its script and every frame ask for the same one. A trace of fifty thousand spans takes seconds to read and to draw up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

from controlplane.telemetry import queries as telemetry
from controlplane.tenancy.queries import Asker
from dashboard.waterfall import Waterfall, waterfall_of

MOST_LINES = 120_000  # of all that are kept
_kept: OrderedDict[Hashable, Waterfall] = OrderedDict()
_lock = Lock()


def waterfall_seen_by(asker: Asker, trace_id: str) -> tuple[Waterfall, int]:
    """Return a trace as far as it is drawn, and how many spans it has; ``NotFound`` for none that the asker may see."""
    trace_id = trace_id.strip().lower()
    mark = telemetry.trace_mark(asker, trace_id)
    key = (trace_id, asker.tenant.pk if asker.tenant else None, mark)
    with _lock:
        found = _kept.get(key)
        if found is not None:
            _kept.move_to_end(key)
    if found is None:
        found = waterfall_of(telemetry.trace_seen_by(asker, trace_id, light=True))
        _keep(key, found)
    return found, max(mark.spans, len(found.lines))


def _keep(key: Hashable, found: Waterfall) -> None:
    with _lock:
        _kept[key] = found
        while len(_kept) > 1 and sum(len(each.lines) for each in _kept.values()) > MOST_LINES:
            _kept.popitem(last=False)
