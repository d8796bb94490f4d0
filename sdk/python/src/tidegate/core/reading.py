"""Snapshots read piece by piece, for programs that have better things to do meanwhile.

``json.loads`` of some megabytes holds the interpreter for as long as it takes, and ten thousand compiled policies are objects for
the garbage collector to look at, again and again, and to free one by one. Here each policy and each tenant is decoded and checked by
itself, as a step after which others may run, and what is kept of it is where in the text it stands: it is compiled when somebody
asks for it. The text itself stays in the pieces that it came in.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

from tidegate.core.pieces import Pieces
from tidegate.core.policy import NOTHING, Policy, PolicyError
from tidegate.core.snapshot import Snapshot, SnapshotParts, TenantRules, compile_policy, faults_named

T = TypeVar("T")
Steps = Generator[None, None, T]
_decoder = json.JSONDecoder()
_WHITESPACE = re.compile(r"[ \t\n\r]*")


def read_snapshot(texts: Iterable[str]) -> Steps[Snapshot]:
    """Return the snapshot of a document as it was served, in pieces, in steps. Raises ``ValueError``, of which ``PolicyError`` is one."""
    text = Pieces(texts)
    document: dict[str, Any] = {}
    policies: _Policies | None = None
    tenants: dict[str, int] | None = None
    cursor = _Cursor(text)
    for key in cursor.inside("{", "a snapshot must be an object"):
        if key == "policies":
            policies = _Policies(text)
            yield from policies.read(cursor)
        elif key == "tenants":
            tenants = {}
            for tenant in cursor.inside("{", "tenants: must be an object"):
                tenants[tenant] = cursor.at
                cursor.value()
                yield
        else:
            document[key] = cursor.value()
            yield
    cursor.end()
    with faults_named():
        parts = SnapshotParts(document)
        if policies is None or tenants is None:
            raise PolicyError({"": "a snapshot has policies and tenants"})
        if policies.fault is not None:
            raise policies.fault
        nothing = [NOTHING] * len(policies)
        for tenant, begins in tenants.items():
            parts.rules(text.value_at(begins)[0], nothing, tenant)
            yield
        return parts.snapshot(policies, _Tenants(text, tenants, policies, parts))


def finish(steps: Steps[T]) -> T:
    """Return what comes of ``steps``, at once."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


class _Cursor:
    """A place in a JSON text: so far into the piece that begins there."""

    def __init__(self, text: Pieces) -> None:
        self._text = text
        self._stand(0)
        self._skip()

    @property
    def at(self) -> int:
        return self._begins + self._here

    def _stand(self, at: int) -> None:
        self._piece, self._begins = self._text.around(at)
        self._here = at - self._begins

    def _skip(self) -> None:
        """Pass over white space, into the next pieces where it has to be."""
        while True:
            self._here = _WHITESPACE.match(self._piece, self._here).end()  # type: ignore[union-attr]  # matches nothing, too
            if self._here < len(self._piece) or self.at == self._text.length:
                return
            self._stand(self.at)

    def _is(self, mark: str) -> bool:
        return self._piece.startswith(mark, self._here)

    def _pass(self, mark: str) -> None:
        if not self._is(mark):
            raise json.JSONDecodeError(f"Expecting {mark!r}", self._piece, self._here)
        self._here += 1
        self._skip()

    def value(self) -> Any:
        """Return the value that begins here, and stand behind it."""
        try:
            value, ends = _decoder.raw_decode(self._piece, self._here)
        except json.JSONDecodeError:
            ends = len(self._piece)
        if ends < len(self._piece):
            self._here = ends
        else:  # it may go on in the next piece
            value, at = self._text.value_at(self.at)
            self._stand(at)
        return value

    def inside(self, opens: str, fault: str) -> Iterator[str]:
        """Yield the key ("" in an array) of each value in the object or array that begins here. Who asks for the next one has
        moved behind the value."""
        if not self._is(opens):
            raise PolicyError({"": fault})
        closes = "}" if opens == "{" else "]"
        self._pass(opens)
        more = not self._is(closes)
        while more:
            key = ""
            if opens == "{":
                if not self._is('"'):
                    raise json.JSONDecodeError("Expecting a name in double quotes", self._piece, self._here)
                key = self.value()
                self._skip()
                self._pass(":")
            yield key
            self._skip()
            more = self._is(",")
            if more:
                self._pass(",")
        self._pass(closes)

    def end(self) -> None:
        if self.at != self._text.length:
            raise json.JSONDecodeError("Extra data", self._piece, self._here)


class _Policies(Sequence[Policy]):
    """Policies as places in a text, until they are asked for."""

    def __init__(self, text: Pieces) -> None:
        self.fault: PolicyError | None = None  # of the first that is no policy
        self._text = text
        self._begins = array("q")
        self._known: dict[int, Policy] = {}

    def read(self, cursor: _Cursor) -> Steps[None]:
        """Read on through the list that begins at ``cursor``."""
        for _ in cursor.inside("[", "policies: must be a list"):
            number = len(self._begins)
            self._begins.append(cursor.at)
            try:
                compile_policy(cursor.value(), number)
            except PolicyError as error:
                self.fault = self.fault or error
            yield

    def __len__(self) -> int:
        return len(self._begins)

    @overload
    def __getitem__(self, index: int) -> Policy: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Policy]: ...
    def __getitem__(self, index: int | slice) -> Policy | Sequence[Policy]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        known = self._known.get(index)
        if known is None:
            known = self._known[index] = compile_policy(self._text.value_at(self._begins[index])[0], index)
        return known


class _Tenants(Mapping[str, TenantRules]):
    """The rules of tenants as places in a text, until they are asked for."""

    def __init__(self, text: Pieces, begins: dict[str, int], policies: _Policies, parts: SnapshotParts) -> None:
        self._text = text
        self._begins = begins
        self._known: dict[str, TenantRules] = {}
        self._policies = policies
        self._parts = parts

    def __len__(self) -> int:
        return len(self._begins)

    def __iter__(self) -> Iterator[str]:
        return iter(self._begins)

    def __getitem__(self, tenant: str) -> TenantRules:
        known = self._known.get(tenant)
        if known is None:
            value, _ = self._text.value_at(self._begins[tenant])
            known = self._known[tenant] = self._parts.rules(value, self._policies, tenant)
        return known
