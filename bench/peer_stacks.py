"""What a Python program wraps a model call in today, and single parts of it, each used as its documentation shows."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import backoff
import pybreaker
import tenacity
from circuitbreaker import circuit
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from prometheus_client import CollectorRegistry, Counter, Histogram

Function = Callable[[], Any]
COST_NUSD = 200_000
PLENTY = 10**9


class Nowhere(SpanExporter):
    """Takes spans in batches and does nothing with them: only the caller's process is measured."""

    def export(self, spans: Any) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


class Budget:
    """The few lines that everybody writes: a sum under a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.left = 10**18

    def spend(self, nusd: int) -> None:
        with self._lock:
            if self.left < nusd:
                raise RuntimeError("the budget is exhausted")
            self.left -= nusd


def _tracer(sampler: Sampler) -> Any:
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return provider.get_tracer("bench")


def popular(function: Function) -> Function:
    """pybreaker, limits, a semaphore, tenacity, OpenTelemetry with every call traced, prometheus_client with labels, a budget."""
    breaker = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=20)
    limiter, rate = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(PLENTY)
    slots, budget, tracer, registry = threading.BoundedSemaphore(64), Budget(), _tracer(ALWAYS_ON), CollectorRegistry()
    latency = Histogram("latency_seconds", "How long calls take.", ["route", "model"], registry=registry)
    calls = Counter("calls", "Calls.", ["route", "outcome"], registry=registry)

    @tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_random_exponential(max=8), reraise=True)
    def attempt() -> Any:
        return breaker.call(function)

    def call() -> Any:
        with tracer.start_as_current_span("chat", attributes={"gen_ai.request.model": "m", "tenant": "acme"}):
            if not limiter.hit(rate, "acme", "chat"):
                raise RuntimeError("rate limited")
            budget.spend(COST_NUSD)
            with slots, latency.labels("chat", "m").time():
                answer = attempt()
            calls.labels("chat", "ok").inc()
            return answer

    return call


def tuned(function: Function) -> Function:
    """The cheapest of each kind that we found, children cached, no call traced."""
    limiter, rate = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(PLENTY)
    slots, budget, tracer, registry = threading.BoundedSemaphore(64), Budget(), _tracer(ALWAYS_OFF), CollectorRegistry()
    latency = Histogram("latency_seconds", "How long calls take.", ["route", "model"], registry=registry).labels(
        "c", "m"
    )
    calls = Counter("calls", "Calls.", ["route", "outcome"], registry=registry).labels("chat", "ok")
    guarded = backoff.on_exception(backoff.expo, Exception, max_tries=3)(
        circuit(failure_threshold=5, recovery_timeout=20)(function)
    )

    def call() -> Any:
        with tracer.start_as_current_span("chat"):
            if not limiter.hit(rate, "acme", "chat"):
                raise RuntimeError("rate limited")
            budget.spend(COST_NUSD)
            with slots, latency.time():
                answer = guarded()
            calls.inc()
            return answer

    return call


def with_pybreaker(function: Function) -> Function:
    return functools.partial(pybreaker.CircuitBreaker(fail_max=5, reset_timeout=20).call, function)


def with_circuitbreaker(function: Function) -> Function:
    guarded: Function = circuit(failure_threshold=5, recovery_timeout=20)(function)
    return guarded


def with_limits(function: Function) -> Function:
    limiter, rate = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(PLENTY)

    def call() -> Any:
        if not limiter.hit(rate, "acme", "chat"):
            raise RuntimeError("rate limited")
        return function()

    return call


def with_tenacity(function: Function) -> Function:
    decorate = tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_random_exponential(max=8))
    guarded: Function = decorate(function)
    return guarded


def with_span(function: Function) -> Function:
    tracer = _tracer(ALWAYS_ON)

    def call() -> Any:
        with tracer.start_as_current_span("chat"):
            return function()

    return call


def with_histogram(function: Function) -> Function:
    latency = Histogram("latency_seconds", "How long calls take.", ["route", "model"], registry=CollectorRegistry())

    def call() -> Any:
        with latency.labels("chat", "m").time():
            return function()

    return call


def with_semaphore(function: Function) -> Function:
    slots = threading.BoundedSemaphore(64)

    def call() -> Any:
        with slots:
            return function()

    return call


STACKS: dict[str, Callable[[Function], Function]] = {"stack, popular": popular, "stack, tuned": tuned}
PARTS: dict[str, Callable[[Function], Function]] = {
    "pybreaker": with_pybreaker,
    "circuitbreaker": with_circuitbreaker,
    "limits, fixed window": with_limits,
    "tenacity": with_tenacity,
    "OpenTelemetry span": with_span,
    "prometheus Histogram": with_histogram,
    "BoundedSemaphore": with_semaphore,
}
