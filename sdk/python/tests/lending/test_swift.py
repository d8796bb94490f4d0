"""Calls on credit are calls as any other: recorded, traced, tried again, cancelled."""

from __future__ import annotations

import asyncio

import pytest

from sdk.python.tests.lending.lender import BOUND, COST, LIMIT, PRICED, Lender, books, cancelling
from tidegate.running import run
from tidegate.swift import SwiftCall
from tidegate.waiting import DONE


def test_swift__fails__counted_traced_and_raised_as_any_other(lender: Lender) -> None:
    lender.policy({})
    call = lender.swift(user="u", **PRICED)
    lender.clock.advance(0.5)

    call.settle(TimeoutError(), last=True)
    books(lender)

    row = lender.row()
    assert (row.calls, row.errors, row.kinds, row.cost_nusd) == (2, 1, {"error.timeout": 1}, 2 * BOUND)
    assert lender.tracer.waiting[-1].error == "TimeoutError"


def test_swift__traceparent_asked_for__has_a_span(lender: Lender) -> None:
    lender.policy({})
    call = lender.swift()
    spans = len(lender.tracer.waiting)

    parent = call.traceparent
    call.settle(None, last=True)

    assert f"{lender.tracer.waiting[-1].span_id:016x}" == parent.split("-")[2]
    assert len(lender.tracer.waiting) == spans + 1
    assert books(lender)["in flight"] == 0


def test_swift__asked_what_it_is__says_what_it_was_told(lender: Lender) -> None:
    lender.policy({"timeout_ms": 2000})

    call = lender.swift(user="u", session="s", category="c", tenant="acme", **PRICED)

    assert (call.user, call.session, call.category, call.tenant) == ("u", "s", "c", "acme")
    assert (call.route, call.model, call.input_tokens, call.max_output_tokens) == ("chat", "gpt-4o-mini", 400, 800)
    lender.clock.advance(0.5)
    assert call.timeout_s == pytest.approx(1.5)
    assert call.cell is not None
    assert call.release is None


def test_swift__entered_twice__misuse_is_said(lender: Lender) -> None:
    lender.policy({})
    call = lender.swift()

    with pytest.raises(RuntimeError, match="once"):
        call.admit()
    call.settle(None, last=True)
    with pytest.raises(RuntimeError, match="once"):
        call.admit()


def test_swift__recorded_after_its_end__charged_what_it_was_not_yet(lender: Lender) -> None:
    lender.policy({})
    call = lender.swift(**PRICED)
    call.record(input_tokens=400, output_tokens=100)
    call.settle(None, last=True)

    call.record(input_tokens=400, output_tokens=800)

    assert books(lender)["rows"].popitem()[1]["cost_nusd"] == BOUND + BOUND  # the first call, and this one


@pytest.mark.parametrize(
    "usage", [{"input": 400, "output": 100}, {"input": 400, "output": 60, "reasoning": 40}], ids=str
)
def test_swift__usage_by_classes__priced_and_counted(lender: Lender, usage: dict[str, int]) -> None:
    lender.policy({})
    call = lender.swift(**PRICED)

    call.record_usage(usage)
    call.settle(None, last=True)

    (row,) = books(lender)["rows"].values()
    assert row["cost_nusd"] == BOUND + COST
    assert row.get("usage", {}).get("reasoning", 0) == usage.get("reasoning", 0)


def test_guarded__fails_on_credit__tried_again_as_one_call(lender: Lender) -> None:
    lender.policy({"retry": {"max_attempts": 3, "base_ms": 0, "max_ms": 0}})
    errors: list[Exception] = []

    def body() -> str:
        if errors:
            raise errors.pop()
        return "answer"

    decorated = lender.guarded(body)
    for _ in range(3):
        decorated()
    errors.extend([TimeoutError(), ConnectionError()])

    assert decorated() == "answer"
    (row,) = books(lender)["rows"].values()
    assert (row["calls"], row["retries"], row["errors"]) == (4, 2, 0)


async def test_guarded_async__on_credit__counted_and_tried_again(lender: Lender) -> None:
    lender.policy({"retry": {"max_attempts": 2, "base_ms": 0, "max_ms": 0}})
    errors: list[Exception] = []

    async def body() -> str:
        await asyncio.sleep(0)
        if errors:
            raise errors.pop()
        return "answer"

    decorated = lender.guarded(body)
    for _ in range(3):
        await decorated()
    errors.append(TimeoutError())

    assert await decorated() == "answer"
    (row,) = books(lender)["rows"].values()
    assert (row["calls"], row["retries"], row["errors"]) == (4, 1, 0)


async def test_async__deadline_on_credit__cancelled_as_any_other(lender: Lender) -> None:
    lender.policy({"timeout_ms": 1000})
    lender.swift().settle(None, last=True)

    async def work() -> None:
        async with lender.call() as call:
            assert isinstance(call, SwiftCall)
            assert call.cell is not None
            assert call.timeout_s == 1.0
            lender.clock.advance(1.1)
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError) as late:
        await work()

    assert "has a timeout of 1000 ms" in late.value.__notes__[0]
    assert isinstance(late.value.__cause__, asyncio.CancelledError)
    assert not cancelling()
    rows = books(lender)
    assert rows["in flight"] == 0
    assert sum(row["kinds"].get("error.timeout", 0) for row in rows["rows"].values()) == 1


async def test_async__ends_in_time_on_credit__never_cancelled_after(lender: Lender) -> None:
    lender.policy({"timeout_ms": 1000})
    lender.swift().settle(None, last=True)

    async with lender.call():
        pass
    lender.clock.advance(5)
    await asyncio.sleep(0.01)

    assert not cancelling()
    assert not lender.guard.deadlines.under_way


async def test_async__asked_for_its_traceparent_on_credit__its_deadline_is_watched_still(lender: Lender) -> None:
    lender.policy({"timeout_ms": 1000})
    lender.swift().settle(None, last=True)

    async def work() -> None:
        async with lender.call() as call:
            assert call.traceparent
            lender.clock.advance(1.1)
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await work()

    assert books(lender)["in flight"] == 0


async def test_async__cancelled_by_somebody_else_on_credit__stays_cancelled(lender: Lender) -> None:
    lender.policy({"timeout_ms": 1000})
    lender.swift().settle(None, last=True)

    async def work() -> None:
        async with lender.call():
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    lender.clock.advance(1.1)

    with pytest.raises(asyncio.CancelledError):
        await task
    assert books(lender)["in flight"] == 0
    assert not lender.guard.deadlines.under_way


async def test_guarded_async__deadline_on_credit__ends_with_a_timeout(lender: Lender) -> None:
    lender.policy({"timeout_ms": 1000})
    waits: list[float] = []

    async def answer() -> str:
        if waits:
            lender.clock.advance(1.1)
            await asyncio.sleep(waits.pop())
        return "yes"

    guarded = lender.guarded(answer)
    for _ in range(10):
        assert await guarded() == "yes"
    waits.append(30.0)

    with pytest.raises(TimeoutError) as late:
        await guarded()

    assert "chat has a timeout of 1000 ms" in late.value.__notes__[0]
    assert await guarded() == "yes"
    assert not cancelling()
    assert not lender.guard.deadlines.under_way
    assert books(lender)["in flight"] == 0


def test_guarded__refused_where_there_are_fallbacks__they_answer_and_are_counted(lender: Lender) -> None:
    lender.policy({"limits": [{**LIMIT, "amount": 1, "per_s": 3600}], "fallbacks": [{"value": "busy"}]})
    guarded = lender.guarded(lambda: "yes")
    plan = lender.plan()

    answers = [guarded() for _ in range(6)] + [run(plan, "chat", lambda _: "yes") for _ in range(4)]

    assert answers == ["yes"] + ["busy"] * 9
    rows = books(lender)["rows"].values()
    assert sum(row["fallbacks"] for row in rows) == 9
    assert sum(row["refused"] for row in rows) == 9


def test_other_builds__no_gil_to_rely_on__nothing_is_lent(lender: Lender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.lending.LENDS", False)
    lender.policy({})

    for _ in range(3):
        with lender.call():
            pass

    assert not lender.guard.cells.of
    assert lender.row().calls == 3


def test_cells__some_are_kept__the_others_are_found_no_more(lender: Lender) -> None:
    lender.policy({})
    kept, forgotten = lender.swift(tenant="acme").cell, lender.swift(tenant="acme", model="m").cell
    elsewhere = lender.swift(route="small", tenant="acme").cell
    cells = lender.guard.cells
    assert kept is not None
    assert elsewhere is not None
    assert cells.count == 3

    cells.keep({kept})

    assert cells.of == {"chat": {"acme": kept}}
    assert cells.count == 1
    assert cells.get(kept.cell_key or ("", None)) is kept
    assert forgotten is not None
    assert cells.get(forgotten.cell_key or ("", None)) is None
    assert cells.get(elsewhere.cell_key or ("", None)) is None


@pytest.mark.parametrize("wrong", [{"tenant": ["acme"]}, {"tenant": 7}, {"model": {}, "tenant": "acme"}, {"route": []}])
def test_call__something_that_is_no_text_where_others_have_credit__says_so(
    lender: Lender, wrong: dict[str, object]
) -> None:
    lender.policy({})
    lender.swift(tenant="acme")

    with pytest.raises(ValueError, match=r"tenant|text|route"):
        lender.call(**wrong)  # type: ignore[arg-type]


def test_done__awaited_in_many_loops__is_over_each_time() -> None:
    async def twice() -> None:
        await DONE
        await DONE

    for _ in range(2):
        asyncio.run(twice(), debug=True)
