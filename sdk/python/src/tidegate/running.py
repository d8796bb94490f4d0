"""Retries, timeout and fallbacks around a function, for threads and for event loops.

Tried again is what may go well the second time: by default every ``Exception`` but refusals, errors of the program itself
(``TypeError``, ``ValueError``, ``KeyError``…) and HTTP statuses that would say the same again; pass ``retry_on`` to judge yourself.
A refusal, or an error that was tried often enough, goes to the fallbacks; any other error goes to the caller as it is.
"""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from tidegate.call import Call
from tidegate.core import outcome
from tidegate.core.backoff import delay_s, fits
from tidegate.core.fallback import in_order
from tidegate.core.policy import Fallback
from tidegate.errors import Refused
from tidegate.guard import Guard
from tidegate.hedging import hedges, race, race_async

T = TypeVar("T")
RetryOn = Callable[[Exception], bool]
MakeCall = Callable[[str], Call]


class Plan(NamedTuple):
    """How to run: the guard, how calls are made (by route), what is tried again."""

    guard: Guard
    make: MakeCall
    retry_on: RetryOn | None
    uniform: Callable[[], float] = random.random


def run(plan: Plan, route: str, fn: Callable[[Call], T]) -> T:
    """Return ``fn(call)``, with what the policy of ``route`` says around it."""
    return resume(plan, plan.make(route), fn, None)


async def arun(plan: Plan, route: str, fn: Callable[[Call], Awaitable[T]]) -> T:
    """Return ``await fn(call)``, with what the policy of ``route`` says around it."""
    return await aresume(plan, plan.make(route), fn, None)


def resume(plan: Plan, call: Call, fn: Callable[[Call], T], failed: BaseException | None) -> T:
    """Run from the beginning, or from where the first attempt has ``failed``."""
    try:
        return _attempts(plan, call, fn, failed)
    except Exception as error:
        for fallback in _fallbacks(plan, call, error):
            try:
                answer: T
                if fallback.route is None:
                    answer = copy.deepcopy(fallback.value)
                else:
                    answer = _attempts(plan, plan.make(fallback.route), fn, None)
            except Exception as second:
                if not _falls_back(plan, second):
                    raise
            else:
                plan.guard.fell_back(call)
                return answer
        raise


async def aresume(plan: Plan, call: Call, fn: Callable[[Call], Awaitable[T]], failed: BaseException | None) -> T:
    """As ``resume``, in an event loop."""
    try:
        return await _attempts_async(plan, call, fn, failed)
    except Exception as error:
        for fallback in _fallbacks(plan, call, error):
            try:
                answer: T
                if fallback.route is None:
                    answer = copy.deepcopy(fallback.value)
                else:
                    answer = await _attempts_async(plan, plan.make(fallback.route), fn, None)
            except Exception as second:
                if not _falls_back(plan, second):
                    raise
            else:
                plan.guard.fell_back(call)
                return answer
        raise


def _attempts(plan: Plan, call: Call, fn: Callable[[Call], T], failed: BaseException | None) -> T:
    error: Exception | None = None
    while True:
        if failed is None:
            _admit(call.admit, call, error)
            call.become_current()
            try:
                answer, won = race(call, fn) if hedges(call) else (fn(call), call)
            except BaseException as raised:  # noqa: BLE001  raised again below, or mended
                call.leave_current()
                failed = raised
            else:
                call.leave_current()
                if won is call:
                    call.settle(None, last=True)
                return answer
        pause = _pause(plan, call, failed)
        if pause is None:
            raise failed
        error, failed = failed, None  # type: ignore[assignment]  # _pause returns a number for Exceptions only
        _rest(call, pause)


def _admit(admit: Callable[[], None], call: Call, error: Exception | None) -> None:
    try:
        admit()
    except Refused as refusal:
        raise _given_up(call, error, refusal) from None
    except BaseException as stopped:
        _stopped(call, stopped)
        raise


async def _admit_async(call: Call, error: Exception | None) -> None:
    try:
        await call.admit_async()
    except Refused as refusal:
        raise _given_up(call, error, refusal) from None
    except BaseException as stopped:
        _stopped(call, stopped)
        raise


def _rest(call: Call, pause: float) -> None:
    try:
        time.sleep(pause)
    except BaseException as stopped:
        _stopped(call, stopped)
        raise


async def _attempts_async(
    plan: Plan, call: Call, fn: Callable[[Call], Awaitable[T]], failed: BaseException | None
) -> T:
    error: Exception | None = None
    while True:
        if failed is None:
            await _admit_async(call, error)
            await call.start_clock()
            call.become_current()
            try:
                answer, won = await race_async(call, fn) if hedges(call) else (await fn(call), call)
            except BaseException as raised:  # noqa: BLE001  raised again below, or mended
                call.leave_current()
                failed = raised
            else:
                call.leave_current()
                late = await call.stop_clock(None)
                if won is call:
                    call.settle(late, last=True)
                if late is not None:
                    raise late
                return answer
        late = await call.stop_clock(failed)
        pause = _pause(plan, call, late or failed)
        if pause is None and late is not None:
            raise late from failed
        if pause is None:
            raise failed
        error, failed = late or failed, None  # type: ignore[assignment]  # _pause returns a number for Exceptions only
        try:
            await asyncio.sleep(pause)
        except BaseException as stopped:
            _stopped(call, stopped)
            raise


def _pause(plan: Plan, call: Call, error: BaseException) -> float | None:
    """Settle a failed attempt; return how long to rest before the next one, ``None`` when there is none."""
    rule = call.policy.retry
    pause = None
    if rule is not None and call.attempts < rule.max_attempts and not call.final and _passing(plan, error):
        asked_s = outcome.read(error, wall_s=plan.guard.clock.wall_ms() / 1000).retry_after_s
        drawn = plan.uniform()
        pause = delay_s(rule, retry=call.attempts, uniform=drawn, retry_after_s=asked_s, previous_s=call.paused_s)
    if pause is not None and not (fits(pause, left_s=call.timeout_s) and plan.guard.may_retry(call)):
        pause = None
    call.settle(error, last=pause is None)
    if pause is not None:
        call.paused_s = pause
        call.renew()
    return pause


def _given_up(call: Call, error: Exception | None, refusal: Refused) -> Exception:
    """Return what the caller hears when an attempt was refused: the refusal, or the error that the attempt was to mend."""
    if error is None:
        return refusal
    error.add_note(f"tidegate: not tried again: {refusal}")
    _stopped(call, error)
    return error


def _stopped(call: Call, error: BaseException) -> None:
    """End a call between two attempts."""
    if call.attempts:
        call.end(error)


def _passing(plan: Plan, error: BaseException) -> bool:
    if isinstance(error, Refused) or not isinstance(error, Exception):
        return False
    return plan.retry_on(error) if plan.retry_on is not None else outcome.read(error).passing


def _falls_back(plan: Plan, error: Exception) -> bool:
    return isinstance(error, Refused) or _passing(plan, error)


def _fallbacks(plan: Plan, call: Call, error: Exception) -> list[Fallback]:
    if not _falls_back(plan, error) or (isinstance(error, Refused) and error.reason == "closed"):
        return []
    return list(in_order(call.policy.fallbacks, route=call.route))
