"""One trace with OpenTelemetry: its span around a call, the call, its spans inside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sdk.python.tests.bench import Bench
from tidegate.integrations.otel import attached, continued, current_traceparent, extract, inject
from tidegate.trace import parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exported: InMemorySpanExporter) -> Iterator[trace.Tracer]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    yield provider.get_tracer("test")
    provider.shutdown()


def test_call__inside_a_span__is_its_child_and_parent_of_spans_inside(
    bench: Bench, tracer: trace.Tracer, exported: InMemorySpanExporter
) -> None:
    with tracer.start_as_current_span("outer") as outer, bench.call(traceparent=current_traceparent()) as call:
        with attached(call), tracer.start_as_current_span("inner"):
            pass
        assert trace.get_current_span() is outer

    around = outer.get_span_context()
    inner = next(span for span in exported.get_finished_spans() if span.name == "inner")
    assert (call.trace_id, call.parent_id) == (around.trace_id, around.span_id)
    assert inner.parent is not None
    assert (inner.parent.trace_id, inner.parent.span_id) == (call.trace_id, call.span_id)


def test_current_traceparent__no_span__none() -> None:
    assert current_traceparent() is None


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_traceparent__continued__flags_are_passed_on(bench: Bench, flags: str) -> None:
    headers = {"TraceParent": f"00-{TRACE}-{SPAN}-{flags}"}
    sent: dict[str, str] = {}

    with bench.call(traceparent=extract(headers)) as call:
        inject(call, sent)

    assert sent["traceparent"] == f"00-{TRACE}-{call.span_id:016x}-{flags}"


def test_tracestate__of_the_span_around__goes_on_unchanged(bench: Bench, tracer: trace.Tracer) -> None:
    state = "vendor=a:b,rojo=00f067aa0ba902b7"
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": state}
    sent: dict[str, str] = {}

    around = TraceContextTextMapPropagator().extract(headers)
    with tracer.start_as_current_span("outer", around), bench.call(traceparent=current_traceparent()) as call:
        inject(call, sent)

    assert sent == {"traceparent": f"00-{TRACE}-{call.span_id:016x}-01", "tracestate": state}


def test_tracestate__call_of_another_trace__is_not_sent(bench: Bench, tracer: trace.Tracer) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=a"}
    sent: dict[str, str] = {}

    around, other = TraceContextTextMapPropagator().extract(headers), f"00-{'1' * 32}-{SPAN}-01"
    with tracer.start_as_current_span("outer", around), bench.call(traceparent=other) as call:
        inject(call, sent)

    assert "tracestate" not in sent


def test_traceparent__of_its_own__sampled_and_random(bench: Bench) -> None:
    with bench.call() as outer, bench.call() as inner:
        assert outer.traceparent.endswith("-03")
        assert inner.traceparent.endswith("-03")
        assert inner.parent_id == outer.span_id


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
        (f" 00-{TRACE}-{SPAN}-01 ", True),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE}-{SPAN}", False),
        (f"cc-{TRACE}-{SPAN}-01.more", False),
        ("", False),
    ],
)
def test_parse_traceparent__as_level_2_has_it__valid_or_not(text: str, valid: bool) -> None:
    assert (parse_traceparent(text) is not None) is valid
    assert (extract({"traceparent": text}) is not None) is valid


def test_parse_traceparent__flags_of_tomorrow__not_passed_on() -> None:
    found = parse_traceparent(f"00-{TRACE}-{SPAN}-ff")

    assert found is not None
    assert found.flags == 0x03


@pytest.mark.parametrize(
    "state",
    [
        "vendor=a:b,rojo=00f067aa0ba902b7",
        " congo=t61rcWkgMzE ,\t,rojo=1 ",
        "0@x/y*z-_=!~ a",
        "foo=1,foo=2",
        ",".join(f"k{number}=v" for number in range(32)),
        f"{'k' * 256}={'v' * 256}",
    ],
)
def test_continued__a_sound_tracestate__goes_on_unchanged_without_opentelemetry(bench: Bench, state: str) -> None:
    headers = {"TraceParent": f"00-{TRACE}-{SPAN}-03", "TraceState": state}
    sent: dict[str, str] = {}

    with bench.call(**continued(headers)), bench.call() as inner:
        inject(inner, sent)

    assert sent == {"traceparent": f"00-{TRACE}-{inner.span_id:016x}-03", "tracestate": state.strip(" \t")}


@pytest.mark.parametrize(
    "state",
    [
        "",
        ",",
        "Upper=1",
        "a b=1",
        "=1",
        "nothing",
        "a=",
        "a=1=2",
        "a=ü",
        "a=1\x00",
        f"{'k' * 257}=v",
        f"k={'v' * 257}",
        ",".join(f"k{number}=v" for number in range(33)),
    ],
)
def test_continued__a_malformed_tracestate__is_left_out_and_the_trace_goes_on(bench: Bench, state: str) -> None:
    told = continued({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": state})
    sent: dict[str, str] = {}

    with bench.call(**told) as call:
        inject(call, sent)

    assert told == {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    assert sent == {"traceparent": f"00-{TRACE}-{call.span_id:016x}-01"}


def test_continued__a_tracestate_without_its_traceparent__is_nothing(bench: Bench) -> None:
    assert continued({"tracestate": "vendor=a"}) == {}
    assert continued({"traceparent": "odd", "tracestate": "vendor=a"}) == {}
    with bench.call(tracestate="vendor=a") as call:
        assert call.tracestate == ""


def test_attached__a_call_with_a_tracestate_of_its_own__gives_it_to_spans_inside(
    bench: Bench, tracer: trace.Tracer
) -> None:
    with bench.call(traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="vendor=a") as call, attached(call):
        assert trace.get_current_span().get_span_context().trace_state.to_header() == "vendor=a"
        with tracer.start_as_current_span("inner") as inner:
            assert inner.get_span_context().trace_state.to_header() == "vendor=a"
