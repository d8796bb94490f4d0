"""What spans say, a minute at a time: which values their attributes, agents, tools and operations have, as sets of bits.

A *term* is a value under a name, as a hash of 64 bits. ``telemetry_span_terms`` has a Bloom filter for every minute in which spans began (B.
Bloom, 1970, in blocks of one word as F. Putze, P. Sanders and J. Singler have them, 2007): a term that is not in it was said by no span of
that minute; of others, one in some ten thousand is in it by chance. Spans of the minutes that may have a term are looked at.

A filter of many terms lies in several rows, its *parts*: 1, 2 and 3, 4 to 7 and so on, so that a row has some 128 blocks and is found
without knowing how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from controlplane.telemetry.store import TraceFilter

MARK = "terms"
TABLE = "telemetry_span_terms"
STEP_S = 60
COLUMNS = ("agent", "tool", "operation")  # of spans, that are terms by their names
# How a term's hash is made: of a name and the hash of a value, of a name alone, and of a column's value.
PAIR = "hashtextextended({name}, {hash})"
OF_TEXT, OF_OTHER = (
    "jsonb_hash_extended({value}, 0)",
    "hashtextextended({value}::text, 0)",
)  # of a value that is a text, or something else
NAME = "hashtextextended({name}, 1)"
NAMED = {column: f"hashtextextended({{value}}, {place + 2})" for place, column in enumerate(COLUMNS)}
_MOST_PARTS_LOG2 = 16
_IN_PART, _IN_BLOCK = 256, 2  # terms at most, and about so many
_PROBES = 5
_WORD = 64


class Probe(NamedTuple):
    """Where a term is sought: the parts that may have it, its place among their blocks, and the bits that are set when it is there."""

    parts: list[int]
    place: int
    bits: int


def probe_of(term: int) -> Probe:
    """Return where a term, a signed hash, is sought."""
    whole = term & 0xFFFF_FFFF_FFFF_FFFF
    return Probe([(1 << log2) + (whole & (1 << log2) - 1) for log2 in range(_MOST_PARTS_LOG2 + 1)], *_in_part(whole))


def _in_part(whole: int) -> tuple[int, int]:
    left, bits = whole >> 30, 0
    for _ in range(_PROBES):
        bits |= 1 << (left & 63)
        left >>= 6
    return whole >> 16 & 0x3FFF, _signed(bits)


def _signed(bits: int) -> int:
    return bits - (1 << _WORD) if bits >> (_WORD - 1) else bits


def filters_of(terms: Sequence[int]) -> dict[int, list[int]]:
    """Return the filter of some terms, each there once: the blocks of its parts, as signed numbers of 64 bits."""
    log2 = min(_MOST_PARTS_LOG2, max(0, (len(terms) - 1) // _IN_PART).bit_length())
    count = max(1, -(-len(terms) // (_IN_BLOCK << log2)))
    found: dict[int, list[int]] = {}
    for term in terms:
        part = (1 << log2) + (term & (1 << log2) - 1)
        blocks = found.get(part) or found.setdefault(part, [0] * count)
        place, bits = _in_part(term & 0xFFFF_FFFF_FFFF_FFFF)
        blocks[place % count] |= bits
    return found


class Sought(NamedTuple):
    """What one part of a filter seeks in spans: the clause that a span ``c`` fits and its parameters, and SQL of the terms one of which it then says."""

    field: str
    clause: str
    values: list[str]
    terms: list[tuple[str, list[str]]]


def sought_by(wanted: TraceFilter) -> list[Sought]:
    """Return what a filter seeks that terms tell of; all of it has to be in a trace, in any of its spans."""
    found = [
        Sought(column, f'c."{column}" = %s', [value], [(NAMED[column].format(value="%s"), [value])])
        for column in COLUMNS
        if (value := getattr(wanted, column))
    ]
    key, equals, value = (part.strip() for part in wanted.attribute.partition("="))
    if equals:
        clause = "(c.attributes ->> %s = %s OR c.resource ->> %s = %s)"
        hashes = (OF_TEXT.format(value="to_jsonb(%s::text)"), OF_OTHER.format(value="%s"))
        terms = [(PAIR.format(name="%s", hash=each), [key, value]) for each in hashes]
        found.append(Sought("attribute", clause, [key, value] * 2, terms))
    elif key:
        clause = "(c.attributes ? %s OR c.resource ? %s)"
        found.append(Sought("attribute", clause, [key] * 2, [(NAME.format(name="%s"), [key])]))
    return found
