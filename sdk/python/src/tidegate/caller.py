"""Makes calls: swift ones where a cell has credit, and those that ask the guard for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tidegate.call import Call, OwnCall
from tidegate.describing import MAX_TOKENS, CallOptions, Usd
from tidegate.swift import NEW, SwiftCall

if TYPE_CHECKING:
    from tidegate.cells import CellKey, Told
    from tidegate.guard import Guard
    from tidegate.trace import Tracer


ODD: Told = ("", "", -1, -1)  # in place of what is told that may be wrong, or needs cleaning
ALONE = object()  # in place of what is said by calls that are like no others


class Caller:
    """Makes calls: swift ones where a cell has credit."""

    def __init__(self, guard: Guard, tracer: Tracer) -> None:
        self.guard = guard
        self._cells = guard.cells.of
        self.tracer = tracer

    @property
    def tracer(self) -> Tracer:
        return self.guard.tracer

    @tracer.setter
    def tracer(self, tracer: Tracer) -> None:
        self.guard.tracer = tracer

    def call(  # say it by keyword; the defaults are positional because CPython fills those in several times faster
        self,
        route: str,
        tenant: str | None = None,
        user: str | None = None,
        session: str | None = None,
        category: str | None = None,
        model: str | None = None,
        target: str | None = None,
        credential: str | None = None,
        input_tokens: int | None = None,
        max_output_tokens: int | None = None,
        cost_usd: Usd | None = None,
        priority: int = 0,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> Call:
        """Return a call to enter with ``with`` or ``async with``. ``ValueError`` when it is described wrongly.

        What may be said is described at ``CallOptions``.
        """
        if (
            user is None and session is None and category is None and model is None and target is None
            and credential is None and input_tokens is None and max_output_tokens is None and cost_usd is None
            and traceparent is None and not priority
        ):  # fmt: skip
            try:
                cell = self._cells[route][tenant]
            except (KeyError, TypeError):  # a TypeError: something that is no text; it will be said
                return self.own_call(route, (route, tenant), fixed=True, tenant=tenant)
            call = SwiftCall()
            call.cell = cell
            call.begun = NEW
            call.told = None
            return call
        said: Any = tenant
        untold = input_tokens is None and max_output_tokens is None  # calls that say the same of their tokens: nothing
        if cost_usd is not None or traceparent is not None or priority:
            said = ALONE
        elif target is not None or credential is not None:
            said = (tenant, category, model, untold, target, credential)
        elif not untold:
            said = (tenant, category, model, True)
        elif category is not None or model is not None:
            said = (tenant, category, model)
        told = (
            None
            if untold and user is None and session is None
            else _told(user, session, input_tokens, max_output_tokens)
        )
        try:
            cell = self._cells[route][said]
        except (KeyError, TypeError):
            told = ODD
        if told is not ODD:
            call = SwiftCall()
            call.cell = cell
            call.begun = NEW
            call.told = told
            call.used = None
            if told is not None and (told[0] or told[1]):
                cell.people = True
            return call
        return self.own_call(
            route, None if said is ALONE else (route, said), fixed=untold,
            tenant=tenant, user=user, session=session, category=category, model=model, target=target, credential=credential,
            input_tokens=input_tokens, max_output_tokens=max_output_tokens, cost_usd=cost_usd, priority=priority,
            traceparent=traceparent, tracestate=tracestate,
        )  # fmt: skip

    def own_call(self, route: str, key: CellKey | None, *, fixed: bool = False, **options: Any) -> Call:
        """Return a call that does not begin on credit; ``key`` names those that may after it."""
        call = OwnCall(self.guard, self.tracer, route, cast("CallOptions", options))
        call.cell_key, call.fixed = key, fixed
        return call


def _told(user: Any, session: Any, input_tokens: Any, max_output_tokens: Any) -> Told:
    """Return what a call says of itself alone, ``ODD`` where it takes a closer look."""
    if (
        (input_tokens is None or (type(input_tokens) is int and 0 <= input_tokens <= MAX_TOKENS))
        and (max_output_tokens is None or (type(max_output_tokens) is int and 0 <= max_output_tokens <= MAX_TOKENS))
        and (user is None or _plain(user))
        and (session is None or _plain(session))
    ):
        return (user or "", session or "", input_tokens, max_output_tokens)
    return ODD


def _plain(text: Any) -> bool:
    """Whether ``text`` is text that needs no cleaning."""
    return type(text) is str and len(text) <= 120 and text.isascii() and "\0" not in text
