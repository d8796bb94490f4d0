"""Makes calls: swift ones where a cell has credit, and those that ask the guard for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tidegate.call import Call, OwnCall
from tidegate.describing import MAX_TOKENS, CallOptions, Usd
from tidegate.swift import NEW, SwiftCall

if TYPE_CHECKING:
    from tidegate.cells import CellKey
    from tidegate.guard import Guard
    from tidegate.trace import Tracer


class Caller:
    """Makes calls: swift ones where a cell has credit."""

    def __init__(self, guard: Guard, tracer: Tracer) -> None:
        self.guard = guard
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
    ) -> Call:
        """Return a call to enter with ``with`` or ``async with``. ``ValueError`` when it is described wrongly.

        What may be said is described at ``CallOptions``.
        """
        untold = input_tokens is None and max_output_tokens is None  # calls that say the same of their tokens: nothing
        key: CellKey | None = (route, tenant, category, model) if untold else (route, tenant, category, model, True)
        if cost_usd is not None or traceparent is not None or priority:
            key = None
        elif target is not None or credential is not None:
            key = (route, tenant, category, model, untold, target, credential)
        try:
            cell = self.guard.cells[key]  # type: ignore[index]  # None is the key of no cell
        except KeyError:
            cell = None
        except TypeError:  # something that is no text; it will be said
            cell = key = None
        if cell is not None:
            call = SwiftCall()
            call.cell = cell
            call.begun = NEW
            if untold and user is None and session is None:
                call.told = None
                return call
            if (
                ((type(input_tokens) is int and 0 <= input_tokens <= MAX_TOKENS) or input_tokens is None)
                and (
                    (type(max_output_tokens) is int and 0 <= max_output_tokens <= MAX_TOKENS)
                    or max_output_tokens is None
                )
                and (user is None or _plain(user))
                and (session is None or _plain(session))
            ):
                if user or session:
                    cell.people = True
                call.told = (user or "", session or "", input_tokens, max_output_tokens)
                call.used = None
                return call
        return self.own_call(
            route, key, fixed=untold,
            tenant=tenant, user=user, session=session, category=category, model=model, target=target, credential=credential,
            input_tokens=input_tokens, max_output_tokens=max_output_tokens, cost_usd=cost_usd, priority=priority,
            traceparent=traceparent,
        )  # fmt: skip

    def own_call(self, route: str, key: CellKey | None, *, fixed: bool = False, **options: Any) -> Call:
        """Return a call that does not begin on credit; ``key`` names those that may after it."""
        call = OwnCall(self.guard, self.tracer, route, cast("CallOptions", options))
        call.cell_key, call.fixed = key, fixed
        return call


def _plain(text: Any) -> bool:
    """Whether ``text`` is text that needs no cleaning."""
    return type(text) is str and len(text) <= 120 and text.isascii() and "\0" not in text
