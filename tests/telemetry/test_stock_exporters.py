"""The exporters that people use, against a server as people run it: every signal, every compression, either encoding."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.runtime.running import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # it starts five processes
JS = Path(__file__).parent / "js"
TOKEN = "tgo_aaaaaaaaaaaa_" + "b" * 43
SIGNALS = ("traces", "metrics", "logs")


class Target:
    """A server with a key, and its database to look into."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        request = urllib.request.Request(
            f"{url}/api/v1/keys/",
            method="POST",
            data=b'{"name": "stock"}',
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            self.key = json.loads(response.read())["key"]
        self._database = psycopg.connect(
            host="127.0.0.1",
            port=(folder / "postgres" / "port").read_text().strip(),
            user="tidegate",
            password=(folder / "postgres" / "password").read_text().strip(),
            dbname="postgres",
            autocommit=True,
        )

    def ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._database.execute(sql.encode(), values).fetchall()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("stock") / "data"
    with running(folder, TIDEGATE_ADMIN_TOKEN=TOKEN) as server:
        yield Target(server.url, folder)


@pytest.mark.parametrize("compression", list(Compression))
def test_python__traces__arrive_once(compression: Compression, target: Target) -> None:
    service = f"py-traces-{compression.value}"
    exporter = OTLPSpanExporter(f"{target.url}/v1/traces", headers=_bearer(target), compression=compression)
    provider = TracerProvider(resource=Resource({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("stock")

    with tracer.start_as_current_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}):
        for _ in range(600):
            with tracer.start_as_current_span(
                "chat", attributes={"gen_ai.operation.name": "chat", "long": "x" * 5000}
            ) as span:
                span.set_attributes({"gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 100})
    provider.shutdown()

    sql = "SELECT count(*), sum(input_tokens), sum((parent_span_id = '')::int) FROM telemetry_span WHERE service = %s"
    assert target.ask(sql, service) == [(601, 60_000, 1)]


@pytest.mark.parametrize("compression", list(Compression))
def test_python__metrics__add_up(compression: Compression, target: Target) -> None:
    service = f"py-metrics-{compression.value}"
    exporter = OTLPMetricExporter(f"{target.url}/v1/metrics", headers=_bearer(target), compression=compression)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], resource=Resource({"service.name": service}))
    meter = provider.get_meter("stock")
    calls, took = meter.create_counter("calls"), meter.create_histogram("took", unit="s")

    for _ in range(3):  # cumulative: each export repeats what was before
        calls.add(2, {"gen_ai.request.model": "gpt-4o"})
        took.record(0.25)
        provider.force_flush()
    provider.shutdown()

    sql = """SELECT s.name, sum(p.sum), sum(p.samples) FROM telemetry_point p JOIN telemetry_series s ON s.id = p.series_id
             WHERE s.service = %s AND s.name IN ('calls', 'took') GROUP BY 1 ORDER BY 1"""
    (name, total, _), (other, seconds, samples) = target.ask(sql, service)
    assert (name, total, other, seconds, samples) == ("calls", 6.0, "took", 0.75, 3)


@pytest.mark.parametrize("compression", list(Compression))
def test_python__logs__arrive_once(compression: Compression, target: Target) -> None:
    service = f"py-logs-{compression.value}"
    exporter = OTLPLogExporter(f"{target.url}/v1/logs", headers=_bearer(target), compression=compression)
    provider = LoggerProvider(resource=Resource({"service.name": service}))
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    handler = LoggingHandler(logger_provider=provider)

    for number in range(5):
        handler.emit(_line(f"line {number}"))
    provider.shutdown()

    sql = "SELECT count(*), min(body), min(severity) FROM telemetry_log WHERE service = %s"
    assert target.ask(sql, service) == [(5, "line 0", 13)]


def _line(text: str) -> Any:
    return logging.LogRecord("app", logging.WARNING, __file__, 1, text, None, None)


def _bearer(target: Target) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.key}"}


@pytest.fixture(scope="module")
def stock_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the stock exporters for Node.js; skip where that can't be done."""
    if shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")
    folder = tmp_path_factory.mktemp("js")
    for name in ("package.json", "package-lock.json", "export.cjs"):
        shutil.copy(JS / name, folder)
    command = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    if subprocess.run(command, cwd=folder, capture_output=True, timeout=110, check=False).returncode:
        pytest.skip("npm can't install the exporters here")
    return folder


_TABLES = {
    "traces": ("SELECT count(*), sum(input_tokens) FROM telemetry_span WHERE service = %s", (3, 300)),
    "metrics": (
        """SELECT count(DISTINCT s.name), sum(p.sum) FROM telemetry_point p JOIN telemetry_series s ON s.id = p.series_id
           WHERE s.service = %s AND s.name IN ('calls', 'took')""",
        (2, 3.25),
    ),
    "logs": ("SELECT count(*), count(DISTINCT body) FROM telemetry_log WHERE service = %s", (3, 2)),
}


@pytest.mark.parametrize(
    ("signal", "protocol", "compression"), list(itertools.product(SIGNALS, ("http", "proto"), ("none", "gzip")))
)
def test_javascript__any_signal__arrives_once(
    signal: str, protocol: str, compression: str, target: Target, stock_js: Path
) -> None:
    command = ["node", "export.cjs", target.url, target.key, signal, protocol, compression]

    done = subprocess.run(command, cwd=stock_js, capture_output=True, text=True, timeout=60, check=False)

    sql, expected = _TABLES[signal]
    assert done.returncode == 0, done.stderr
    assert target.ask(sql, f"js-{signal}-{protocol}-{compression}") == [expected]
