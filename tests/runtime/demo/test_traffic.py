"""Figures, traces and the timeline: what the demo's traffic is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.runtime.demo import figures, timeline, world
from controlplane.runtime.demo.traces import Arrival, read_trace
from controlplane.runtime.engines import CannotStart

TABLES = [figures.CHAT_INPUT, figures.CHAT_OUTPUT, figures.CODE_INPUT, figures.CODE_OUTPUT, figures.GAPS]


@pytest.mark.parametrize("table", TABLES)
def test_quantiles__every_table__grow_with_the_probability(table: figures.Quantiles) -> None:
    assert len(table) == len(figures.PROBABILITIES)
    assert list(table) == sorted(table)


@given(chance=st.floats(0, 1), table=st.sampled_from(TABLES))
def test_draw__any_chance__stays_within_the_table(chance: float, table: figures.Quantiles) -> None:
    value = figures.draw(table, chance)

    assert table[0] <= value <= table[-1]


def test_draw__evenly_spread_chances__have_the_mean_of_the_trace() -> None:
    values = [figures.draw(figures.CHAT_INPUT, (place + 0.5) / 10_000) for place in range(10_000)]

    assert sum(values) / len(values) == pytest.approx(1154.7, rel=0.01)  # of the 19,366 rows of the source


def test_read_trace__heading_and_rows__returns_arrivals(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("seconds,input,output\n0,374,44\n4.315, 396 ,109\n\n4.542,879,55\n")

    assert read_trace(path) == [Arrival(0, 374, 44), Arrival(4.315, 396, 109), Arrival(4.542, 879, 55)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no rows"),
        ("0,1,2\n1,2\n", "line 2: has 2 values"),
        ("0,1,2\nsoon,1,2\n", "line 2: the arrival 'soon'"),
        ("0,1,2\n\nnan,1,2\n", "line 3: the arrival 'nan'"),
        ("-1,1,2\n", "line 1: the arrival '-1'"),
        ("2,1,2\n1,1,2\n", "line 2: the arrival 1 lies before"),
        ("0,1.5,2\n", "line 1: the input tokens '1.5'"),
        ("0,1,-2\n", "line 1: the output tokens '-2'"),
        ("0,1,99999999999\n", "line 1: the output tokens"),
    ],
)
def test_read_trace__bad_row__names_line_and_value(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)

    with pytest.raises(CannotStart, match=r"trace\.csv") as refused:
        read_trace(path)

    assert complaint in str(refused.value)


def test_read_trace__no_such_file__says_so(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="can't be read"):
        read_trace(tmp_path / "nowhere.csv")


@given(elapsed_s=st.floats(-10, 1e6))
def test_phase_at__any_time__repeats_after_a_loop(elapsed_s: float) -> None:
    phase = timeline.phase_at(elapsed_s)

    assert phase in timeline.PHASES
    assert timeline.phase_at(phase.starts_s + timeline.LOOP_S) == phase


def test_timeline__one_loop__has_each_incident_and_ends_calm() -> None:
    names = [phase.name for phase in timeline.PHASES]

    assert {timeline.BROWNOUT, timeline.RUNAWAY, timeline.NOISY} < set(names)
    assert names[0] == names[-1] == timeline.CALM


def test_world__services__call_for_six_tenants_that_exist() -> None:
    called = {tenant for service in world.SERVICES for tenant in service.tenants}

    assert len(called) == 6
    assert called < {tenant.slug for tenant in world.TENANTS}
    assert {timeline.NOISY_TENANT, timeline.RUNAWAY_TENANT} < called
