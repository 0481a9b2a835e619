"""Plugins beside each other: order, isolation, absence, repetition, a broker that is away (7)."""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from opentelemetry import trace
from opentelemetry.instrumentation.aiokafka import AIOKafkaInstrumentor
from opentelemetry.instrumentation.logging import LoggingInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Sum
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator

from kafkaesk_core import Application, Subscriber
from kafkaesk_headers import HeaderSettings, HeadersPlugin
from kafkaesk_otel import OTelPlugin
from kafkaesk_testing import EmbeddedBroker, Kafka, consuming, eventually

# Any in this file: data of messages, and settings.

STALE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


class Counting(IdGenerator):
    """The same identities in the same order, run by run."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def generate_span_id(self) -> int:
        return next(self._count)

    def generate_trace_id(self) -> int:
        return next(self._count)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracers(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


def application(*plugins: object, **arguments: Any) -> Application:
    app = Application(
        ["embedded://?topics=in,out&partitions=1"],
        entry_points=False,
        plugins=plugins,
        **arguments,
    )
    app.schema("Note", streams=["out"])({"type": "object"})
    return app


def collecting(app: Application) -> list[ConsumerRecord]:
    out: list[ConsumerRecord] = []

    @app.subscribe("out", "collectors")
    async def collect(record: ConsumerRecord) -> None:
        out.append(record)

    return out


async def test_an_outgoing_message_has_one_trace_and_what_it_inherits(
    tracers: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """3.6.11"""
    app = application(OTelPlugin(tracer_provider=tracers), HeadersPlugin())
    out = collecting(app)

    @app.subscribe("in", "readers")
    async def read(data: bytes, subscriber: Subscriber) -> None:
        await subscriber.publish("out", {})

    async with consuming(app):
        await app.raw_publish("in", b"", headers=[STALE, ("tenant", b"a"), ("tracestate", b"v=1")])
        await eventually(lambda: out, within=20)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    send, process = spans["send out"], spans["process in"]

    headers = out[0].headers
    assert sorted(name for name, _ in headers) == ["tenant", "traceparent", "tracestate"]
    assert dict(headers)["tenant"] == b"a"
    span_id = dict(headers)["traceparent"].decode().split("-")[2]
    assert span_id == trace.format_span_id(send.context.span_id)
    assert send.parent is not None
    assert process.context is not None
    assert send.parent.span_id == process.context.span_id


async def test_the_order_of_registration_changes_no_byte() -> None:
    """7.1"""
    wires: list[Any] = []
    for is_reversed in (False, True):
        provider = TracerProvider(id_generator=Counting(), shutdown_on_exit=False)
        plugins: list[object] = [OTelPlugin(tracer_provider=provider), HeadersPlugin()]
        app = application(*(reversed(plugins) if is_reversed else plugins))
        out = collecting(app)

        @app.subscribe("in", "readers")
        async def read(data: bytes, subscriber: Subscriber) -> None:
            await subscriber.publish("out", {}, headers=[("own", b"1")], timestamp_ms=5)

        async with consuming(app):
            await app.raw_publish("in", b"", headers=[STALE, ("x", b"1"), ("x", b"2")])
            await eventually(out.__len__, within=20)
        wires.append((out[0].headers, out[0].value, out[0].key, out[0].timestamp))

    assert wires[0] == wires[1]
    assert [name for name, _ in wires[0][0]] == ["x", "x", "own", "traceparent"]


async def test_concurrent_records_mix_neither_spans_nor_headers(
    tracers: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """7.2: a handler publishes, and so does a task it has started."""
    settings = HeaderSettings(scope="context")
    app = application(OTelPlugin(tracer_provider=tracers), HeadersPlugin(settings))
    out = collecting(app)
    tasks: set[asyncio.Task[Any]] = set()

    @app.subscribe("in", "readers", concurrency=20, ordering="unordered")
    async def read(record: ConsumerRecord) -> None:
        tasks.add(asyncio.create_task(app.publish("out", {"of": record.offset})))
        await asyncio.sleep(random.random() / 100)  # shuffles them
        await app.publish("out", {"of": record.offset})

    tracer = tracers.get_tracer("test")
    roots = {}
    async with consuming(app):
        for number in range(100):
            with tracer.start_as_current_span("root") as root:
                roots[number] = trace.format_trace_id(root.get_span_context().trace_id)
                await app.raw_publish("in", b"", headers=[("number", str(number).encode())])
        await eventually(lambda: len(out) == 200, within=20)
        await asyncio.gather(*tasks)

    for record in out:
        headers = dict(record.headers)
        assert headers["traceparent"].decode().split("-")[1] == roots[int(headers["number"])]
        assert f'{{"of":{int(headers["number"])}}}'.encode() in record.value
    assert len(exporter.get_finished_spans()) == 100 * (1 + 1 + 1 + 2 + 2)


@pytest.mark.parametrize(
    ("plugin", "others"),
    [("kafkaesk_headers", "kafkaesk_otel"), ("kafkaesk_otel", "kafkaesk_headers")],
)
def test_a_plugin_imports_no_other(plugin: str, others: str) -> None:
    """7.5"""
    program = f"import sys, {plugin}; print([m for m in sys.modules if m.startswith({others!r})])"

    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "installed", [["headers"], ["otel"], ["headers", "otel"]], ids=" and ".join
)
async def test_each_works_without_the_other(
    installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """7.5: as they are installed, from their entry points."""
    monkeypatch.setenv("KAFKAESK_PLUGINS", ",".join(installed))
    app = Application(["embedded://?topics=in,out&partitions=1"])
    app.schema("Note", streams=["out"])({"type": "object"})
    out = collecting(app)

    @app.subscribe("in", "readers")
    async def read(data: bytes, subscriber: Subscriber) -> None:
        await subscriber.publish("out", {})

    async with consuming(app):
        await app.raw_publish("in", b"", headers=[STALE, ("x", b"1")])
        await eventually(lambda: out, within=20)
        active = sorted(info.name for info in app.plugins.list() if info.status == "active")

    assert active == installed
    names = [name for name, _ in out[0].headers]
    expected = {
        "headers": ["traceparent", "x"],
        "otel": ["traceparent"],
        "headers otel": ["x", "traceparent"],
    }
    assert names == expected[" ".join(installed)]


async def test_an_application_starts_and_stops_many_times(
    tracers: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """7.6: no tasks, no registrations are left, nothing is told of."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    before = asyncio.all_tasks()
    for number in range(20):
        plugin = OTelPlugin(tracer_provider=tracers, meter_provider=meters)
        app = application(plugin, HeadersPlugin())
        async with app:
            await (await app.raw_publish("in", str(number).encode()))
    await eventually(lambda: asyncio.all_tasks() == before)
    data = reader.get_metrics_data()
    meters.shutdown()

    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    (sent,) = (metric for metric in metrics if metric.name == "messaging.client.sent.messages")
    assert isinstance(sent.data, Sum)
    assert sum(point.value for point in sent.data.data_points) == 20
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_the_end_does_not_wait_for_a_broker_that_is_away(
    tracers: TracerProvider, exporter: InMemorySpanExporter, embedded_kafka: EmbeddedBroker
) -> None:
    """7.7: every span ends, the lost messages are told, and nothing is left."""
    app = Application(
        embedded_kafka.servers,
        entry_points=False,
        create_topics=False,
        plugins=[OTelPlugin(tracer_provider=tracers), HeadersPlugin()],
        drain_timeout=0.2,
        cancel_grace=0.2,
        commit_timeout=0.2,
        shutdown_timeout=3,
    )
    embedded_kafka.create_topic("out", partitions=1)
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    async with app:
        await (await app.raw_publish("out", b"arrives"))
        embedded_kafka.set_down(1)
        for _ in range(10):
            await app.raw_publish("out", b"does not")
        began = loop.time()
    took = loop.time() - began
    await eventually(lambda: asyncio.all_tasks() == before)

    assert took < 8
    spans = exporter.get_finished_spans()
    assert len(spans) == 11
    assert [span.status.is_ok for span in spans] == [True] + [False] * 10


@pytest.mark.s6
async def test_the_subscriber_carries_headers_on(kafka: Kafka) -> None:
    """With a real broker and the plugins as they are installed."""
    from kafkaesk_testing.pytest_plugin import new_application

    template = new_application(kafka.servers).settings
    app = Application(
        list(template.kafka_servers), template.topic_prefix, template.kafka_settings, partitions=1
    )
    app.schema("Note", streams=["s6.in", "s6.out"])({"type": "object"})
    out: list[ConsumerRecord] = []

    @app.subscribe("s6.in", "s6")
    async def read(data: Any, subscriber: Subscriber) -> None:
        await subscriber.publish("s6.out", data={"answer": True}, headers=[("own", b"1")])

    @app.subscribe("s6.out", "collectors")
    async def collect(record: ConsumerRecord) -> None:
        out.append(record)

    async with consuming(app):
        await app.publish("s6.in", {}, headers=[("tenant", b"a"), ("bin", b"\xff"), ("null", None)])
        await eventually(lambda: out, within=30)

    assert out[0].headers == (("tenant", b"a"), ("bin", b"\xff"), ("null", None), ("own", b"1"))


async def test_log_lines_are_neither_traced_nor_inherit(
    tracers: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """3.6.18, 4.10.18 and 7.3: log records that are shipped from within a handler."""
    app = Application(
        ["embedded://?topics=in,logs&partitions=1"],
        plugins=[
            OTelPlugin(tracer_provider=tracers),
            HeadersPlugin(HeaderSettings(scope="context")),
        ],
        plugin_settings={"logging": {"stream": "logs"}},
    )
    logs: list[ConsumerRecord] = []

    @app.subscribe("in", "readers")
    async def read(data: bytes) -> None:
        for number in range(100):
            logging.getLogger("shop").warning("line %d", number)

    @app.subscribe("logs", "collectors", skip_plugins=["otel"])
    async def collect(record: ConsumerRecord) -> None:
        logs.append(record)

    async with consuming(app):
        await app.raw_publish("in", b"", headers=[STALE, ("tenant", b"a")])
        await eventually(lambda: sum(b"line" in r.value for r in logs) >= 100, within=20)

    assert {name for record in logs for name, _ in record.headers} & {
        "traceparent",
        "tenant",
    } == set()
    assert [s.name for s in exporter.get_finished_spans() if "logs" in s.name] == []


@pytest.fixture
def everything_is_told(tracers: TracerProvider) -> Iterator[None]:
    """The root logger at DEBUG, spans on a console, and what OpenTelemetry itself instruments."""
    tracers.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=io.StringIO())))
    root, level = logging.getLogger(), logging.getLogger().level
    instrumentors: list[Any] = [LoggingInstrumentor(), AIOKafkaInstrumentor()]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=tracers)
    root.setLevel(logging.DEBUG)
    yield
    root.setLevel(level)
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


@pytest.mark.usefixtures("everything_is_told")
async def test_nothing_feeds_itself_where_everything_is_told(
    tracers: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """7.4: it ends, and what was logged and traced is as much as was done."""
    app = Application(
        ["embedded://?topics=in,logs&partitions=1"],
        plugins=[OTelPlugin(tracer_provider=tracers), HeadersPlugin()],
        plugin_settings={"logging": {"stream": "logs", "level": "DEBUG"}},
    )
    logs: list[bytes] = []

    @app.subscribe("in", "readers")
    async def read(data: bytes) -> None:
        logging.getLogger("shop").debug("line")

    @app.subscribe("logs", "collectors", skip_plugins=["otel"])
    async def collect(data: bytes) -> None:
        logs.append(data)

    async with consuming(app):
        for _ in range(20):
            await app.raw_publish("in", b"")
        await eventually(lambda: sum(b'"line"' in line for line in logs) == 20, within=20)
        before = len(logs)
        await asyncio.sleep(1)  # in which nothing is done, and polled several times

        assert len(logs) - before <= 5
    assert len(logs) < 200
    names = [span.name for span in exporter.get_finished_spans()]
    assert names.count("process in") == 20
    assert [name for name in names if name in ("send logs", "process logs")] == []
