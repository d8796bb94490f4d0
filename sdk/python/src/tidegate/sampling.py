"""Which spans are kept, once it is known how their calls ended: all errors, refusals, slow calls and canaries, and a share of the rest.

Figures never come from spans but from the windows that every call is counted in, so nothing that is left out here bends one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, NamedTuple

from tidegate.giving_way import Lock
from tidegate.trace import MAX_SPANS, SLOW_S, Span

Reason = Literal["refused", "error", "canary", "slow", "share"]
CANARY = "canary"
MAX_KEPT_IDS = 4096
_RANDOM_BITS = 56  # of a trace id that W3C Trace Context, level 2, promises to be random: every process decides alike


class Sampling(NamedTuple):
    """``share`` of the traces in which nothing is worth telling are kept, from 0 to 1; calls of ``slow_s`` seconds or more always."""

    share: float = 1.0
    slow_s: float = SLOW_S

    def checked(self) -> Sampling:
        """Return it; ``ValueError`` says what is wrong."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is from 0 to 1, got {self.share!r}.")
        if not self.slow_s > 0 or math.isnan(self.slow_s):
            raise ValueError(f"slow_s is a number of seconds above 0, got {self.slow_s!r}.")
        return self

    def reason(self, span: Span) -> Reason | None:
        """Return why a span is kept, ``None`` when nothing in it is worth telling and its trace is not of the share."""
        if "tidegate.refused" in span.attributes:
            return "refused"
        if span.error is not None:
            return "error"
        if span.attributes.get("tidegate.arm") == CANARY:
            return "canary"
        if span.end_ns - span.start_ns >= self.slow_s * 1e9:
            return "slow"
        return "share" if in_share(span.trace_id, self.share) else None


def in_share(trace_id: int, share: float) -> bool:
    """Return whether a trace is of the ``share`` that is kept: the same in all processes, and of a greater share as well."""
    return trace_id & ((1 << _RANDOM_BITS) - 1) < share * (1 << _RANDOM_BITS)


def sampler_of(sampling: Sampling | None) -> Sampler | None:
    """Return what sifts spans; ``None`` when they are taken as they come."""
    return Sampler(sampling) if sampling is not None else None


class Sampler:
    """Holds back spans that nothing speaks for until the trace's first call has ended here; what speaks for one keeps all of them.

    Memory is bounded: of more than ``MAX_SPANS`` held back, the trace that waited longest is let go.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.left_out = 0
        self._lock = Lock()  # a finalizer may end a call here, in the midst of another's
        self._held: OrderedDict[int, list[Span]] = OrderedDict()
        self._count = 0
        self._kept: OrderedDict[int, Reason] = OrderedDict()

    def sift(self, spans: Sequence[Span]) -> list[Span]:
        """Return what is to be sent now that a call has ended: of ``spans``, which are of one trace, and of what was held back."""
        with self._lock:
            return self._sifted(spans)

    def _sifted(self, spans: Sequence[Span]) -> list[Span]:
        trace_id = spans[-1].trace_id
        reason = self._kept.get(trace_id) or self._why(spans)
        if reason is None:
            self._hold(trace_id, spans)
            return []
        if reason != "share":
            self._remember(trace_id, reason)
        held = self._held.pop(trace_id, [])
        self._count -= len(held)
        return [_marked(span, reason) for span in (*held, *spans)]

    def _why(self, spans: Sequence[Span]) -> Reason | None:
        return next((reason for span in reversed(spans) if (reason := self.sampling.reason(span))), None)

    def _hold(self, trace_id: int, spans: Sequence[Span]) -> None:
        if any(not span.parent_id for span in spans):  # the trace's first call: nobody is left to speak for it
            gone = self._held.pop(trace_id, [])
            self._count -= len(gone)
            self.left_out += len(gone) + len(spans)
            return
        self._held.setdefault(trace_id, []).extend(spans)
        self._count += len(spans)
        while self._count > MAX_SPANS:
            _, gone = self._held.popitem(last=False)
            self._count -= len(gone)
            self.left_out += len(gone)

    def _remember(self, trace_id: int, reason: Reason) -> None:
        self._kept[trace_id] = reason
        if len(self._kept) > MAX_KEPT_IDS:
            self._kept.popitem(last=False)


def _marked(span: Span, reason: Reason) -> Span:
    return span._replace(attributes={**span.attributes, "tidegate.kept": reason})
