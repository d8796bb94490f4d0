"""Two traces as one tree: what both did, what only one did, in order, however deep; and the page draws it."""

from __future__ import annotations

from django.template.loader import render_to_string

from dashboard.beside import Row, Told, beside
from dashboard.waterfall import Waterfall, waterfall_of
from tests.dashboard.test_waterfall import span


def trace(*chains: str, took_us: int = 10) -> Waterfall:
    """Return a trace of spans by their names from the top down: ``a``, ``a/b``, ``a/b#2``; what is after # sets two of a name apart."""
    spans = []
    for at, chain in enumerate(chains):
        above, _, name = chain.rpartition("/")
        made = span(chain, above, at, took_us)
        made.name = name.partition("#")[0]
        spans.append(made)
    return waterfall_of(spans)


def plain(rows: list[Row]) -> list[tuple[int, str, int | None, int | None, str]]:
    return [(row.depth, row.name, row.a.spans, row.b.spans, row.only) for row in rows]


def test_beside__trees_that_differ__are_one_with_what_is_only_in_one_of_them() -> None:
    rows = beside(trace("a", "a/b", "a/b/c", "a/d"), trace("a", "a/x", "a/b", "a/b#2", "a/b/y", took_us=5000))

    assert plain(rows) == [
        (0, "a", 1, 1, ""), (1, "b", 1, 2, ""), (2, "c", 1, None, "A"), (2, "y", None, 1, "B"), (1, "d", 1, None, "A"),
        (1, "x", None, 1, "B"),
    ]  # fmt: skip
    assert [row.change_us for row in rows] == [4990, 9990, None, None, None, None]
    assert [row.tone for row in rows] == ["up", "up", "", "", "", ""]


def test_beside__nothing_in_common__is_one_after_the_other() -> None:
    assert plain(beside(trace("a"), trace("b"))) == [(0, "a", 1, None, "A"), (0, "b", None, 1, "B")]


def test_beside__a_chain_of_five_thousand__is_no_deeper_than_any_other() -> None:
    chain = waterfall_of([span(f"s{n}", f"s{n - 1}" if n else "", n, 1) for n in range(5000)])

    rows = beside(chain, trace("s0"))

    assert [row.depth for row in rows] == [*range(5000)]
    assert rows[0].b == Told(1, 10, 0, 0, 0)


def test_diff__what_only_one_trace_has__is_drawn_with_dashes() -> None:
    a, b = trace("a", "a/b"), trace("a", "a/c")

    page = render_to_string(
        "traces/diff.html",
        {
            "a": a,
            "b": b,
            "a_sums": {"tokens": 0, "cost_nusd": 0},
            "b_sums": {"tokens": 0, "cost_nusd": 0},
            "rows": beside(a, b),
        },
    )

    assert "only A" in page
    assert "only B" in page
    assert page.count("<tr>") == 5
