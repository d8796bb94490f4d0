"""Traces: a filtered list that is live, with a histogram in which a time can be brushed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from controlplane.problems import Invalid
from controlplane.telemetry import queries as telemetry
from controlplane.telemetry.patience import TooDear
from controlplane.telemetry.queries import Slot, Slots, TraceFilter
from controlplane.telemetry.sampled import margin
from dashboard.asking import Asking
from dashboard.page import Context, Page, Params

SIZE = 50
BARS = 60
SINCE = {
    "15m": ("last 15 min", 900),
    "1h": ("last hour", 3600),
    "24h": ("last 24 h", 86400),
    "7d": ("last 7 days", 7 * 86400),
}
# What can be filtered by, as it is called on a chip.
FIELDS = {
    "tenant": "Tenant",
    "route": "Route",
    "model": "Model",
    "release": "Release",
    "status": "Status",
    "service": "Service",
    "operation": "Operation",
    "agent": "Agent",
    "tool": "Tool",
    "session": "Session",
    "user": "User",
    "min_ms": "Longer than, ms",
    "max_ms": "Shorter than, ms",
    "min_tokens": "Tokens, at least",
    "min_usd": "Dollars, at least",
    "attribute": "Attribute key=value",
    "trace_id": "Trace id",
    "text": "Name or service",
}
HINTS = {"status": "Status: ok or error"}
STEPS_S = (1, 5, 10, 15, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 86400)


@dataclass(frozen=True)
class Chip:
    """One filter. ``fault`` says why it filters nothing."""

    name: str
    label: str
    value: str
    fault: str = ""


@dataclass(frozen=True)
class Bar:
    """One step of the histogram: its place in percent, heights in units of the drawing, and the times that it stands for."""

    x: float
    width: float
    ok: float
    failed: float
    slot: Slot
    since: str
    until: str


@dataclass(frozen=True)
class Histogram:
    """``one_in``: it is estimated from one in so many traces when that is more than 1, and ``margin`` is how far off the total may be."""

    bars: Sequence[Bar]
    most: int
    total: int
    step_s: int
    one_in: int
    margin: int


def moment(text: str) -> datetime | None:
    """Return a time out of an address, ``None`` for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def window_of(params: Params, now: datetime) -> tuple[datetime, datetime, str]:
    """Return from when to when traces are asked for, and that in words. A brushed time goes before a chosen range."""
    since, until = moment(params.value("from")), moment(params.value("to"))
    if since is not None and until is not None and since < until:
        return since, until, f"{since:%d %b %H:%M:%S} to {until:%H:%M:%S} UTC"
    words, seconds = SINCE.get(params.value("since"), SINCE["24h"])
    return now - timedelta(seconds=seconds), now, words


def filter_of(params: Params) -> TraceFilter:
    return TraceFilter(**{name: params.value(name) for name in FIELDS})


def _chip(name: str, value: str) -> Chip:
    fault = ""
    if name == "status" and value not in ("ok", "error"):
        fault = "is neither ok nor error, and left out"
    elif name.startswith(("min_", "max_")) and not _is_number(value):
        fault = "is not a number, and left out"
    return Chip(name, FIELDS[name], value, fault)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def build(asking: Asking, params: Params) -> Context:
    since, until, words = window_of(params, asking.now)
    wanted = filter_of(params)
    brushed = bool(params.value("from"))
    dear = ""
    found, slots, step_s = list[telemetry.Trace](), Slots(), _step(since, until)
    try:
        starts = datetime.fromtimestamp(since.timestamp() // step_s * step_s, UTC)
        slots = telemetry.trace_slots(asking.asker, wanted, starts, until, step_s)
        found = telemetry.traces_seen_by(
            asking.asker, wanted, since, params.value("cursor"), SIZE + 1, until if brushed else None
        )
    except TooDear as problem:
        dear = problem.detail
    except ValueError:
        raise Invalid("That place in the list does not exist.", errors={"cursor": "is not one"}) from None
    shown = found[:SIZE]
    return {
        "title": "Traces",
        "traces": shown,
        "dear": dear,
        "longest_us": max((each.duration_us for each in shown), default=1),
        "next": shown[-1].cursor if len(found) > SIZE else "",
        "words": words,
        "brushed": brushed,
        "histogram": _histogram(slots, step_s),
        "since_choices": [(name, label) for name, (label, _) in SINCE.items()],
        "chips": [_chip(name, params.value(name)) for name in FIELDS if params.value(name)],
        "fields": [(name, HINTS.get(name, label)) for name, label in FIELDS.items() if name != "text"],
        "live": not params.value("cursor") and not brushed,
    }


def _step(since: datetime, until: datetime) -> int:
    whole = (until - since).total_seconds()
    return next((step for step in STEPS_S if whole / step <= BARS + 1), int(whole // BARS) + 1)


def _histogram(slots: Slots, step_s: int) -> Histogram:
    most = max((slot.traces for slot in slots.steps), default=0)
    width = 100 / max(1, len(slots.steps))
    bars = []
    for number, slot in enumerate(slots.steps):
        failed = 48 * slot.errors / most if most else 0.0
        ok = 48 * (slot.traces - slot.errors) / most if most else 0.0
        ends = slot.at + timedelta(seconds=step_s)
        bars.append(
            Bar(round(width * number, 3), round(width, 3), round(ok, 2), round(failed, 2), slot, slot.at.isoformat(), ends.isoformat())
        )  # fmt: skip
    return Histogram(bars, most, slots.total, step_s, slots.one_in, margin(slots.total, slots.one_in))


PAGE = Page(
    name="traces",
    section="traces",
    template="pages/traces.html",
    parts={"trace_histogram": "traces/histogram.html", "trace_list": "traces/list.html"},
    build=build,
    params=frozenset({*FIELDS, "since", "from", "to", "cursor"}),
)
