// Sends a few records of one signal with a stock exporter: node export.cjs BASE KEY traces|metrics|logs http|proto none|gzip
const [base, key, signal, protocol, compression] = process.argv.slice(2);
const { resourceFromAttributes } = require("@opentelemetry/resources");
const resource = resourceFromAttributes({ "service.name": `js-${signal}-${protocol}-${compression}` });
const options = { url: `${base}/v1/${signal}`, headers: { Authorization: `Bearer ${key}` }, compression };
const load = (name, kind) => require(`@opentelemetry/exporter-${name}-otlp-${protocol}`)[kind];

async function traces() {
  const { BasicTracerProvider, BatchSpanProcessor } = require("@opentelemetry/sdk-trace-base");
  const exporter = new (load("trace", "OTLPTraceExporter"))(options);
  const provider = new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(exporter)] });
  const tracer = provider.getTracer("stock");
  for (let number = 0; number < 3; number += 1) {
    const span = tracer.startSpan("chat gpt-4o", { kind: 2 });
    span.setAttributes({ "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 100 });
    span.addEvent("first token", { at: 1 });
    span.end();
  }
  await provider.shutdown();
}

async function metrics() {
  const { MeterProvider, PeriodicExportingMetricReader } = require("@opentelemetry/sdk-metrics");
  const exporter = new (load("metrics", "OTLPMetricExporter"))(options);
  const provider = new MeterProvider({ resource, readers: [new PeriodicExportingMetricReader({ exporter })] });
  const meter = provider.getMeter("stock");
  meter.createCounter("calls").add(3, { "gen_ai.request.model": "gpt-4o" });
  meter.createHistogram("took", { unit: "s" }).record(0.25);
  await provider.forceFlush();
  await provider.shutdown();
}

async function logs() {
  const { LoggerProvider, BatchLogRecordProcessor } = require("@opentelemetry/sdk-logs");
  const exporter = new (load("logs", "OTLPLogExporter"))(options);
  const provider = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter })] });
  const logger = provider.getLogger("stock");
  for (const body of ["one", "two", "two"]) logger.emit({ body, severityNumber: 9, attributes: { a: 1 } });
  await provider.shutdown();
}

({ traces, metrics, logs })[signal]().catch((error) => { console.error(error); process.exit(1); });
