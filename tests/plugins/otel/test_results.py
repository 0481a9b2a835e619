"""How operations end: errors, decisions, acknowledgements; what is measured; what never breaks."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

import aiokafka.errors as kafka
import pytest
from aiokafka.structs import ConsumerRecord, RecordMetadata, TopicPartition
from opentelemetry import trace
from opentelemetry.instrumentation.aiokafka import AIOKafkaInstrumentor
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from kafkaesk_core import (
    Application,
    BatchFailure,
    DecodeError,
    Delivery,
    DeliveryFailedError,
    DeliveryUnknownError,
    HandlerTimeoutError,
    OutgoingMessage,
    PluginError,
    Retry,
    Skip,
    Stop,
    hookimpl,
)
from kafkaesk_otel import OTelPlugin, OTelSettings
from kafkaesk_retry import RetryPlugin, RetrySettings
from kafkaesk_testing import ApiKey, EmbeddedBroker, eventually
from kafkaesk_testing.fakes import PendingDelivery, delivery, incoming_message
from tests.plugins.otel.recorder import Point
from tests.plugins.otel.traced import Trace

# Any in this file: the fixtures give objects of this directory's conftest.

OUT = TopicPartition("out", 3)
PARENT = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


def events_of(span: Any) -> list[str]:
    return [event.attributes["exception.type"] for event in span.events]


# --- handling


async def test_an_exception_is_recorded_once_and_passes(sdk: Any, layers: Any) -> None:
    """4.10.6"""
    raised = ValueError("of the handler")

    async def handle(message: Any) -> None:
        raise raised

    with pytest.raises(ValueError, match="of the handler") as caught:
        await layers(sdk.plugin()).consume(handle, headers=[PARENT])
    process = sdk.span("process in")

    assert caught.value is raised
    assert process.status.status_code is StatusCode.ERROR
    assert process.status.description == "of the handler"
    assert process.attributes["error.type"] == "ValueError"
    assert events_of(process) == ["ValueError"]
    (duration,) = sdk.points()["messaging.process.duration"]
    assert duration.labels["error.type"] == "ValueError"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DecodeError("no JSON"), "kafkaesk_core.errors.DecodeError"),
        (
            HandlerTimeoutError("slow", topic="in", partition=0, offset=0, group="g"),
            "timeout",
        ),
        (kafka.NotEnoughReplicasError(), "NOT_ENOUGH_REPLICAS"),
        (Stop("why"), "kafkaesk_core.errors.Stop"),
        (asyncio.CancelledError(), "asyncio.exceptions.CancelledError"),
        (BatchFailure({0: Skip(), 1: KeyError("x")}), "KeyError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_the_type_of_an_error_is_of_low_cardinality(
    sdk: Any, layers: Any, error: BaseException, kind: str
) -> None:
    """4.6; a cancellation that is not the running task's is an error like any other."""

    async def handle(message: Any) -> None:
        raise error

    with suppress(BaseException):
        await layers(sdk.plugin()).consume(handle)
    process = sdk.span("process in")

    assert process.status.status_code is StatusCode.ERROR
    assert process.attributes["error.type"] == kind
    assert len(process.events) == 1


@pytest.mark.d38
@pytest.mark.parametrize(
    ("disposition", "told"),
    [(Skip("why"), "skip"), (Retry(delay=0), "retry")],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_decision_is_no_error(
    sdk: Any, layers: Any, disposition: BaseException, told: str
) -> None:
    """What led to it is told in an event."""

    async def handle(message: Any) -> None:
        try:
            raise OSError("the cause")
        except OSError:
            raise disposition from None

    with pytest.raises(type(disposition)):
        await layers(sdk.plugin()).consume(handle, attempt=2)
    process = sdk.span("process in")

    assert process.status.status_code is StatusCode.UNSET
    assert process.attributes["kafkaesk.disposition"] == told
    assert process.attributes["kafkaesk.attempt"] == 2
    assert "error.type" not in process.attributes
    assert events_of(process) == ["OSError"]
    assert "error.type" not in sdk.points()["messaging.process.duration"][0].labels


async def test_a_dead_letter_is_recorded_and_traced(sdk: Any, trace_app: Trace) -> None:
    """A layer that answers failures itself: an event per attempt, no error, a send beneath."""

    class DeadLetter:
        stage = "recover"

        @hookimpl
        async def wrap_consume(self, message: Any, call_next: Any, app: Any) -> Any:
            for _ in range(2):
                try:
                    return await call_next(message)
                except Exception as error:
                    message.meta.setdefault("handled_errors", []).append(error)
            return await (await app.raw_publish(f"{message.stream}.dead", message.value))

    traced = trace_app(sdk.plugin(), DeadLetter(), topics="in,in.dead")

    @traced.app.subscribe("in", "readers")
    async def read(data: bytes) -> None:
        raise ValueError("poison")

    @traced.app.subscribe("in.dead", "buriers")
    async def bury(data: bytes) -> None: ...

    await traced.start()
    await traced.publish("in")
    await eventually(lambda: sdk.spans("process in.dead"), within=20)
    process, dead = sdk.span("process in"), sdk.span("send in.dead")

    assert process.status.status_code is StatusCode.UNSET
    assert events_of(process) == ["ValueError", "ValueError"]
    assert dead.parent.span_id == process.context.span_id
    assert sdk.span("process in.dead").parent.span_id == dead.context.span_id
    assert len({span.context.trace_id for span in sdk.spans()}) == 1


async def test_timeouts_are_errors_and_a_shutdown_is_none(sdk: Any, trace_app: Trace) -> None:
    """4.10.7"""
    handling = asyncio.Event()
    traced = trace_app(
        sdk.plugin(), topics="slow,last", drain_timeout=0.1, cancel_grace=0.5, shutdown_timeout=9
    )

    @traced.app.subscribe("slow", "slow", timeout_seconds=0.1, on_error="skip")
    async def slow(data: Any) -> None:
        await asyncio.Event().wait()

    @traced.app.subscribe("last", "last")
    async def last(data: Any) -> None:
        handling.set()
        await asyncio.Event().wait()

    await traced.start()
    await traced.publish("slow")
    await traced.publish("last")
    await asyncio.wait_for(handling.wait(), 20)
    await eventually(lambda: sdk.spans("process slow"), within=20)
    await traced.stop()
    timed, stopped = sdk.span("process slow"), sdk.span("process last")

    assert timed.status.status_code is StatusCode.ERROR
    assert timed.attributes["error.type"] == "timeout"
    assert stopped.status.status_code is StatusCode.UNSET
    assert stopped.attributes["kafkaesk.cancelled"] is True
    assert "error.type" not in stopped.attributes
    assert list(stopped.events) == []


# --- sending


def failed(error: Exception, kind: type[Any] = DeliveryFailedError) -> Delivery:
    delivery_error = kind("not delivered", topic="out", partition=3)
    delivery_error.__cause__ = error
    return delivery(topic="out", partition=3, error=delivery_error)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (failed(kafka.UnknownTopicOrPartitionError()), "UNKNOWN_TOPIC_OR_PARTITION"),
        (failed(kafka.RequestTimedOutError(), DeliveryUnknownError), "REQUEST_TIMED_OUT"),
        (
            DeliveryFailedError("no room", topic="out"),
            "kafkaesk_core.errors.DeliveryFailedError",
        ),
        (kafka.UnknownTopicOrPartitionError(), "UNKNOWN_TOPIC_OR_PARTITION"),
    ],
    ids=["refused", "unknown", "no room", "at once"],
)
async def test_a_failed_delivery_is_an_error_though_nobody_awaits_it(
    sdk: Any, layers: Any, outcome: Any, kind: str
) -> None:
    """4.10.8"""
    with suppress(DeliveryFailedError, kafka.KafkaError):
        await layers(sdk.plugin()).publish(outcome)
    await eventually(lambda: sdk.spans("send"))
    send = sdk.span("send out")

    assert send.status.status_code is StatusCode.ERROR
    assert send.attributes["error.type"] == kind
    assert len(send.events) == 1


async def test_tracing_does_not_silence_the_log_of_failures(
    sdk: Any, embedded_kafka: EmbeddedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """4.10.8, with a broker: nobody has looked at the delivery, and that is logged as ever."""
    app = Application(
        embedded_kafka.servers, entry_points=False, create_topics=False, plugins=[sdk.plugin()]
    )
    embedded_kafka.create_topic("out", partitions=1)
    async with app:
        embedded_kafka.push_errors(ApiKey.PRODUCE, 29)
        await app.raw_publish("out", b"refused")
        await eventually(lambda: sdk.spans("send"), within=20)
    send = sdk.span("send out")

    assert send.attributes["error.type"] == "TOPIC_AUTHORIZATION_FAILED"
    assert "1 of 1 failed deliveries were never awaited" in caplog.text
    (sent,) = sdk.points()["messaging.client.sent.messages"]
    assert sent.labels["error.type"] == "TOPIC_AUTHORIZATION_FAILED"


async def test_a_send_span_lasts_until_the_acknowledgement(sdk: Any, layers: Any) -> None:
    """4.10.9, its first part."""
    pending = PendingDelivery(OUT)

    await layers(sdk.plugin()).publish(pending.delivery)
    before = sdk.spans()
    asyncio.get_running_loop().call_later(
        0.2, pending.acknowledge, RecordMetadata(*OUT, OUT, 40, 0, 0, 0)
    )
    await eventually(lambda: sdk.spans("send"))
    send = sdk.span("send out")

    assert before == []
    assert (send.end_time - send.start_time) / 1e9 >= 0.2
    assert send.attributes["messaging.kafka.offset"] == 40


async def test_where_a_message_went_is_what_the_broker_said(sdk: Any, trace_app: Trace) -> None:
    """4.10.9: keyless messages over 8 partitions."""
    traced = trace_app(sdk.plugin(), topics="wide")
    traced.app.configure(["embedded://?topics=wide&partitions=8"])

    await traced.start()
    went = []
    for number in range(100):
        with sdk.tracer.start_as_current_span(f"root {number}") as root:
            metadata = await traced.publish("wide")
        went.append((root.get_span_context().span_id, str(metadata.partition), metadata.offset))
    await eventually(lambda: len(sdk.spans("send")) == 100, within=20)

    partition, offset = "messaging.destination.partition.id", "messaging.kafka.offset"
    assert went == [
        (span.parent.span_id, span.attributes[partition], span.attributes[offset])
        for span in sdk.spans("send")
    ]
    assert len({place for _, place, _ in went}) > 1


async def test_what_a_caller_cancels_is_no_error(sdk: Any, layers: Any) -> None:
    chain = layers(sdk.plugin())
    waiting = asyncio.Event()

    async def forever(_: Any) -> Any:
        waiting.set()
        await asyncio.Event().wait()

    call = chain.chain("wrap_publish", forever)
    publishing = asyncio.create_task(call(OutgoingMessage("out", "out", b"")))
    await waiting.wait()
    publishing.cancel()
    await asyncio.wait([publishing])
    send = sdk.span("send out")

    assert send.status.status_code is StatusCode.UNSET
    assert send.attributes["kafkaesk.cancelled"] is True


# --- measuring


async def test_the_metrics_of_the_convention(sdk: Any, trace_app: Trace) -> None:
    """4.10.19: values, units, labels, buckets."""
    traced = trace_app(sdk.plugin())

    @traced.app.subscribe("in", "readers")
    async def read(data: Any) -> None:
        if not data["data"]["retried"] and "again" not in seen:
            seen.append("again")
            raise Retry(delay=0)
        seen.append("done")

    seen: list[str] = []
    await traced.start()
    for number in range(10):
        await traced.publish("in", {"retried": number})
    await eventually(lambda: seen.count("done") == 10, within=20)
    await eventually(lambda: len(sdk.spans("process")) == 11, within=20)
    points = sdk.points("messaging.")
    host, _, port = traced.app.servers[0].rpartition(":")

    shared = {
        "messaging.system": "kafka",
        "messaging.destination.name": "in",
        "messaging.destination.partition.id": "0",
        "server.address": host,
        "server.port": int(port),
    }
    send = {**shared, "messaging.operation.name": "send"}
    group = {**shared, "messaging.consumer.group.name": "readers"}
    assert {name: [tuple(p) for p in found] for name, found in points.items()} == {
        "messaging.client.operation.duration": [
            (10, "s", {**send, "messaging.operation.type": "send"}, BUCKETS)
        ],
        "messaging.client.sent.messages": [(10, "{message}", send, ())],
        "messaging.client.consumed.messages": [
            (10, "{message}", {**group, "messaging.operation.name": "poll"}, ())
        ],
        "messaging.process.duration": [
            (11, "s", {**group, "messaging.operation.name": "process"}, BUCKETS)
        ],
    }


async def test_failed_sends_are_counted_by_their_error(
    sdk: Any, layers: Any, acknowledged: Any
) -> None:
    """4.10.19: what was never sent is not counted as sent."""
    chain = layers(sdk.plugin(metrics_partition=False))
    for _ in range(10):
        await chain.publish(acknowledged)
    for _ in range(2):
        await chain.publish(failed(kafka.NotEnoughReplicasError()))
    with pytest.raises(ValueError, match="invalid"):
        await chain.publish(ValueError("invalid"))
    await eventually(lambda: len(sdk.spans("send")) == 13)
    points = sdk.points()

    def by_error(name: str) -> dict[Any, float]:
        return {point.labels.get("error.type"): point.value for point in points[name]}

    assert by_error("messaging.client.sent.messages") == {None: 10, "NOT_ENOUGH_REPLICAS": 2}
    assert by_error("messaging.client.operation.duration") == {
        None: 10,
        "NOT_ENOUGH_REPLICAS": 2,
        "ValueError": 1,
    }
    labels = [p.labels for found in points.values() for p in found]
    assert all("messaging.destination.partition.id" not in found for found in labels)


async def test_a_duration_is_that_of_its_span(sdk: Any, layers: Any) -> None:
    """4.7"""

    async def handle(message: Any) -> None:
        await asyncio.sleep(0.01)

    await layers(sdk.plugin()).consume(handle)
    process = sdk.span("process in")
    data = sdk._reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (point,) = next(m.data.data_points for m in data if m.name == "messaging.process.duration")

    assert point.sum == pytest.approx((process.end_time - process.start_time) / 1e9, abs=1e-9)
    (exemplar,) = point.exemplars
    assert exemplar.span_id == process.context.span_id


async def test_metrics_can_be_switched_off_and_need_no_tracer(sdk: Any, layers: Any) -> None:
    async def handle(message: Any) -> None: ...

    await layers(sdk.plugin(metrics=False)).consume(handle)
    without = sdk.points()
    only = OTelPlugin(OTelSettings(), meter_provider=sdk.meters)
    await layers(only).consume(handle, headers=[PARENT])

    assert without == {}
    assert len(sdk.spans()) == 1
    assert set(sdk.points()) == {"messaging.client.consumed.messages", "messaging.process.duration"}


@pytest.mark.d40
async def test_the_lag_of_consumers_is_shown(sdk: Any, trace_app: Trace) -> None:
    traced = trace_app(sdk.plugin(lag_interval=0.05), auto_commit_interval_ms=50)
    goes_on = asyncio.Event()

    @traced.app.subscribe("in", "readers")
    async def read(data: Any) -> None:
        await goes_on.wait()

    await traced.start()
    for _ in range(5):
        await traced.publish("in")

    def lag() -> list[Point]:
        points: dict[str, list[Point]] = sdk.points("kafkaesk.consumer.lag")
        return points.get("kafkaesk.consumer.lag", [])

    seen: list[Point] = []

    def is_five() -> bool:
        seen.extend(lag())
        return any(point.value == 5 for point in seen)

    await eventually(is_five, within=20)
    goes_on.set()
    await eventually(lambda: any(p.value == 0 for p in lag()), within=20)

    point = next(p for p in seen if p.value == 5)
    assert point.unit == "{message}"
    assert point.labels == {
        "messaging.system": "kafka",
        "messaging.consumer.group.name": "readers",
        "messaging.destination.name": "in",
        "messaging.destination.partition.id": "0",
    }


# --- without an SDK


async def test_without_an_sdk_a_trace_is_handed_on_unchanged(trace_app: Trace) -> None:
    """4.10.15"""
    out: list[ConsumerRecord] = []
    state = ("tracestate", b"vendor=1")
    traced = trace_app(OTelPlugin())

    @traced.app.subscribe("in", "readers")
    async def read(record: ConsumerRecord) -> None:
        await traced.publish("out", headers=[("x", b"1")])

    @traced.app.subscribe("out", "collectors")
    async def collect(record: ConsumerRecord) -> None:
        out.append(record)

    await traced.start()
    await traced.app.raw_publish("in", b"", headers=[PARENT, state])
    await traced.app.raw_publish("in", b"")
    await eventually(lambda: len(out) == 2, within=20)

    assert sorted(record.headers for record in out) == [
        (("x", b"1"),),
        (("x", b"1"), PARENT, state),
    ]


async def test_an_sdk_that_is_set_up_later_is_found(
    sdk: Any, trace_app: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service may set the provider in its "initialize" handler."""
    traced = trace_app(OTelPlugin())
    await traced.start()
    await traced.publish("out")
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: sdk.tracers)
    publishing: list[asyncio.Task[Any]] = []

    def is_traced() -> bool:
        publishing.append(asyncio.create_task(traced.publish("out")))
        return bool(sdk.spans("send"))

    await eventually(is_traced, within=20)
    await asyncio.gather(*publishing)

    assert sdk.spans("send out")


def run(program: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    return result.stdout


def test_importing_the_plugin_imports_no_sdk() -> None:
    """4.10.24"""
    program = (
        "import sys, kafkaesk_otel; kafkaesk_otel.OTelPlugin();"
        "print([m for m in sys.modules if m.startswith("
        "('opentelemetry.sdk', 'opentelemetry.semconv', 'opentelemetry.instrumentation'))])"
    )

    assert run(program).strip() == "[]"


GLOBAL = """
import asyncio
from opentelemetry import trace, metrics
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from kafkaesk_core import Application

exporter = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
app = Application("embedded://")
heads = []

@app.subscribe("in", "readers")
async def read(data: bytes, record) -> None:
    heads.append([name for name, _ in record.headers])

async def main():
    async with app:
        with trace.get_tracer("t").start_as_current_span("root"):
            await app.raw_publish("in", b"1")
        await app.consume_for(1, seconds=20)
    print(sorted(span.name for span in exporter.get_finished_spans()), heads)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "['process in', 'root', 'send in'] [['traceparent']]"),
        ({"OTEL_PROPAGATORS": "b3"}, "['process in', 'root', 'send in'] [['b3']]"),
        ({"OTEL_SDK_DISABLED": "true"}, "[] [[]]"),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "x, kafkaesk"}, "['root'] [[]]"),
        ({"KAFKAESK_OTEL_EXCLUDE_TOPICS": '["i*"]'}, "['root'] [[]]"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value) or "installed",
)
def test_the_installed_plugin_obeys_the_environment(environment: dict[str, str], told: str) -> None:
    """4.8 and 4.10.13: the standard variables, and our own."""
    assert told in run(GLOBAL, **environment)


# --- what never breaks


class Exploding(TextMapPropagator):
    """A propagator that raises whatever it is asked."""

    @property
    def fields(self) -> set[str]:
        return {"traceparent"}

    def extract(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("extract")

    def inject(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("inject")


@pytest.mark.parametrize("has_sdk", [True, False])
async def test_a_propagator_that_raises_is_as_if_it_were_not_there(
    sdk: Any, trace_app: Trace, has_sdk: bool, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = (sdk.plugin if has_sdk else OTelPlugin)(propagator=Exploding())
    seen: list[Any] = []
    traced = trace_app(plugin)

    @traced.app.subscribe("in", "readers")
    async def read(record: ConsumerRecord) -> None:
        seen.append(record.headers)

    await traced.start()
    for _ in range(3):
        await traced.app.raw_publish("in", b"", headers=[PARENT])
    await eventually(lambda: len(seen) == 3, within=20)

    assert seen == [(PARENT,)] * 3
    assert plugin.counts["extracting a context"] >= 3
    told = [record.getMessage() for record in caplog.records if record.name == "kafkaesk.otel"]
    assert len(told) == len(plugin.counts) > 0


class BrokenExporter(SpanExporter):
    def export(self, spans: Any) -> Any:
        raise RuntimeError("export")


async def test_hooks_and_exporters_that_raise_stop_nothing(
    sdk: Any, layers: Any, acknowledged: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """4.10.23"""

    def explode(span: Any, message: Any) -> None:
        raise RuntimeError("hook")

    async def handle(message: Any) -> str:
        return "handled"

    sdk.tracers.add_span_processor(SimpleSpanProcessor(BrokenExporter()))
    plugin = sdk.plugin(on_send=explode, on_process=explode)
    chain = layers(plugin)
    results = [await chain.consume(handle) for _ in range(3)]
    for _ in range(3):
        await chain.publish(acknowledged)
    await eventually(lambda: len(sdk.spans()) == 6)

    assert results == ["handled"] * 3
    assert plugin.counts == {"on_process": 3, "on_send": 3}
    told = [record.getMessage() for record in caplog.records if record.name == "kafkaesk.otel"]
    assert len(told) == 2


async def test_hooks_add_attributes(sdk: Any, layers: Any, acknowledged: Any) -> None:
    """4.3"""
    plugin = sdk.plugin(
        on_send=lambda span, message: span.set_attribute("to", message.topic),
        on_process=lambda span, message: span.set_attribute("at", message.offset),
    )

    async def handle(message: Any) -> None: ...

    await layers(plugin).consume(handle)
    await layers(plugin).publish(acknowledged)
    await eventually(lambda: sdk.spans("send"))

    assert sdk.span("process in").attributes["at"] == 0
    assert sdk.span("send out").attributes["to"] == "out"


class BrokenSampler:
    """A tracer whose every span fails to begin."""

    def start_span(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("sampler")


class BrokenTracers:
    def get_tracer(self, *_: Any, **__: Any) -> BrokenSampler:
        return BrokenSampler()


async def test_an_sdk_that_raises_stops_nothing(
    layers: Any, acknowledged: Any, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = OTelPlugin(tracer_provider=BrokenTracers())  # type: ignore[arg-type]
    chain = layers(plugin)

    async def handle(message: Any) -> str:
        return "handled"

    async def handle_batch(messages: Any) -> str:
        return "handled"

    async def commit(offsets: Any) -> None: ...

    assert await chain.consume(handle, PARENT) == "handled"
    assert (
        await chain.consume_batch(handle_batch, incoming_message(stream="in", headers=[PARENT]))
        == "handled"
    )
    await chain.publish(acknowledged)
    await chain.commit(commit, {OUT: 1}, reason="manual")

    assert plugin.counts == {
        "beginning a process span": 2,
        "beginning a send span": 1,
        "beginning a commit span": 1,
    }
    assert len([r for r in caplog.records if r.name == "kafkaesk.otel"]) == 3


async def test_a_layer_that_returns_something_else_than_a_delivery_is_survived(
    sdk: Any, layers: Any
) -> None:
    class Own:
        @hookimpl
        async def wrap_publish(self, message: Any, call_next: Any) -> Any:
            return "my own receipt"

    plugin = sdk.plugin()
    await layers(plugin, Own()).publish(ValueError("never called"))

    assert plugin.counts == {"following a delivery": 1}
    assert sdk.span("send out").status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("process_parent", "parent", "process_parent: Input should be 'creation', 'ambient' or"),
        ("settle_spans", True, "settle_spans: Input should be 'manual', 'all' or 'off'"),
        ("lag_interval", 0, "lag_interval: Input should be greater than 0"),
        ("server_address", "broker", "server_address: Value error, write host:port"),
        ("exclude_topic", [], "unknown key 'exclude_topic'; did you mean 'exclude_topics'?"),
    ],
)
async def test_a_wrong_setting_stops_the_start(name: str, value: Any, told: str) -> None:
    app = Application("embedded://", plugin_settings={"otel": {name: value}})

    with pytest.raises(PluginError) as caught:
        await app.initialize()

    assert told in str(caught.value)
    assert "kafkaesk-otel" in str(caught.value)


# --- beside the client's own instrumentation


async def test_beside_the_clients_instrumentation_nothing_is_doubled(
    sdk: Any, trace_app: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    """4.10.22: one send span, one process span, one header; its own spans are not ours."""
    headers: list[Any] = []
    traced = trace_app(sdk.plugin())

    @traced.app.subscribe("in", "readers")
    async def read(record: ConsumerRecord) -> None:
        headers.append([name for name, _ in record.headers])

    AIOKafkaInstrumentor().instrument(tracer_provider=sdk.tracers)
    try:
        await traced.start()
        for _ in range(5):
            await traced.publish("in")
        await eventually(lambda: len(headers) == 5, within=20)
        await traced.stop()
    finally:
        AIOKafkaInstrumentor().uninstrument()

    ours = [s for s in sdk.spans() if s.instrumentation_scope.name == "kafkaesk_otel"]
    assert headers == [["traceparent"]] * 5
    assert sorted(span.name for span in ours) == ["process in"] * 5 + ["send in"] * 5
    assert len([s for s in sdk.spans() if s.kind is SpanKind.PRODUCER]) == 5
    sends = {s.context.span_id for s in sdk.spans("send in")}
    assert {s.parent.span_id for s in sdk.spans("process in")} == sends
    (consumed,) = sdk.points()["messaging.client.consumed.messages"]
    assert consumed.value == 5
    warnings = [r.getMessage() for r in caplog.records if r.name == "kafkaesk.otel"]
    assert len(warnings) == 1
    assert "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=aiokafka" in warnings[0]


@pytest.fixture(autouse=True)
def _at_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


async def test_retries_a_dead_letter_and_its_replay_read_as_one_trace(
    sdk: Any, trace_app: Trace
) -> None:
    """With kafkaesk-retry, which writes dead letters byte for byte past all layers."""
    retry = RetryPlugin(RetrySettings(attempts=2, first=0.0))
    traced = trace_app(sdk.plugin(), retry, topics="in,dlq.readers.in")
    is_mended = False

    @traced.app.subscribe("in", "readers")
    async def read(data: bytes) -> None:
        if not is_mended:
            raise ValueError("poison")

    @traced.app.subscribe_to_topics(["dlq.readers.in"], "undertaker")
    async def replay(record: ConsumerRecord) -> None:
        nonlocal is_mended
        is_mended = True
        await traced.app.forward("in", record.value, record.key, record.headers)

    await traced.start()
    await traced.publish("in")
    await eventually(lambda: len(sdk.spans("process")) == 4, within=30)

    drawing = tree(sdk.spans())
    sys.stdout.write(f"{drawing}\n")
    assert drawing == DEAD_AND_REPLAYED
    letter = sdk.span("send dlq.readers.in")
    assert letter.attributes["messaging.kafka.offset"] == 0
    assert letter.attributes["messaging.destination.partition.id"] == "0"
    assert letter.start_time <= letter.end_time
    assert len({span.context.trace_id for span in sdk.spans()}) == 1


DEAD_AND_REPLAYED = """\
send in
  process in, disposition retry, ValueError
  process in, attempt 2, ValueError
    send dlq.readers.in
  process dlq.readers.in
  process in"""


def tree(spans: Any, parent_id: int | None = None, indent: str = "") -> str:
    """The spans in the order in which they began, what decided on them, and their events."""
    below = [one for one in spans if (one.parent and one.parent.span_id) == parent_id]
    lines = []
    for one in sorted(below, key=lambda span: span.start_time):
        told = [
            f"{name} {value}"
            for name in ("attempt", "disposition")
            if (value := one.attributes.get(f"kafkaesk.{name}")) is not None
        ]
        lines.append(indent + ", ".join([one.name, *told, *events_of(one)]))
        if inner := tree(spans, one.context.span_id, indent + "  "):
            lines.append(inner)
    return "\n".join(lines)
