"""What stands in for a call that could not be made: other routes and fixed values, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidegate.core.policy import Fallback


def in_order(fallbacks: Sequence[Fallback], *, route: str) -> Iterator[Fallback]:
    """Yield the fallbacks to try for ``route``, each route once, never itself; nothing after a value, which always succeeds."""
    tried = {route}
    for fallback in fallbacks:
        if fallback.route is None:
            yield fallback
            return
        if fallback.route not in tried:
            tried.add(fallback.route)
            yield fallback
