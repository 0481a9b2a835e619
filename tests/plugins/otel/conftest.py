"""An application that is traced and measured into memory, and layers without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from aiokafka.structs import ConsumerRecord, RecordMetadata, TopicPartition
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from kafkaesk_core import Application, Delivery, IncomingMessage, OutgoingMessage, Subscription
from kafkaesk_core.batch_outcome import BatchOutcome
from kafkaesk_core.plugins.registry import Plugins
from kafkaesk_core.status import Status
from kafkaesk_otel import OTelPlugin, OTelSettings

# Any in this file: attributes, settings and hooks are of any type.


class Point(NamedTuple):
    """One point of a metric: a count, or the number of durations; its unit; its labels."""

    value: float
    unit: str
    labels: Mapping[str, Any]
    bounds: Sequence[float] = ()


class Recorder:
    """An SDK whose spans and points stay in memory."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("test")

    def plugin(self, **arguments: Any) -> OTelPlugin:
        """A plugin that writes here; settings and arguments by name."""
        own = {
            name: arguments.pop(name) for name in (*arguments,) if name in OTelSettings.model_fields
        }
        providers = {"tracer_provider": self.tracers, "meter_provider": self.meters}
        return OTelPlugin(OTelSettings(**own), **{**providers, **arguments})

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """All spans that have ended, of names that begin so, in the order of their ends."""
        return [s for s in self._exporter.get_finished_spans() if s.name.startswith(name)]

    def span(self, name: str) -> ReadableSpan:
        """The one span of this name."""
        (found,) = (span for span in self.spans() if span.name == name)
        return found

    def points(self, metric: str = "") -> dict[str, list[Point]]:
        """All points of metrics whose names begin so."""
        found: dict[str, list[Point]] = {}
        data = self._reader.get_metrics_data()
        scopes = [s for r in data.resource_metrics for s in r.scope_metrics] if data else []
        for each in (m for scope in scopes for m in scope.metrics if m.name.startswith(metric)):
            for point in each.data.data_points:
                is_histogram = isinstance(point, HistogramDataPoint)
                value = point.count if is_histogram else point.value  # type: ignore[union-attr]
                bounds = point.explicit_bounds if is_histogram else ()  # type: ignore[union-attr]
                labels = dict(point.attributes or {})
                found.setdefault(each.name, []).append(
                    Point(value, each.unit or "", labels, tuple(bounds))
                )
        return found

    def shutdown(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def sdk() -> Iterator[Recorder]:
    """An SDK of its own for this test; the global one stays unset."""
    recorder = Recorder()
    yield recorder
    recorder.shutdown()


@pytest.fixture
def sdk_with() -> Iterator[Callable[[Sampler], Recorder]]:
    """Make an SDK with a sampler."""
    made: list[Recorder] = []

    def make(sampler: Sampler) -> Recorder:
        made.append(Recorder(sampler))
        return made[-1]

    yield make
    for recorder in made:
        recorder.shutdown()


class Traced:
    """An application on the embedded broker."""

    def __init__(self, plugins: Sequence[object], topics: str, **arguments: Any) -> None:
        self.app = Application(
            [f"embedded://?topics={topics}&partitions=1"],
            entry_points=False,
            plugins=plugins,
            **arguments,
        )
        self.app.schema("Note")({"type": "object"})
        self._running: asyncio.Task[None] | None = None

    async def publish(self, stream: str, data: Any = None, **options: Any) -> RecordMetadata:
        """Publish, and wait for the broker."""
        data = {} if data is None else data
        delivery = await self.app.publish(stream, data, schema="Note:1", **options)
        return await delivery

    async def start(self) -> None:
        await self.app.initialize()
        if self.app.subscriptions:
            self._running = asyncio.create_task(self.app.consume_forever())

    async def stop(self) -> None:
        await self.app.stop()
        if self._running is not None:
            await asyncio.wait([self._running])
            self._running.exception()
        await self.app.finalize()


TraceApp = Callable[..., Traced]


@pytest_asyncio.fixture
async def trace_app() -> AsyncIterator[TraceApp]:
    """Make an application with these plugins; it is stopped in the end."""
    made: list[Traced] = []

    def make(*plugins: object, topics: str = "in,out", **arguments: Any) -> Traced:
        made.append(Traced(plugins, topics, **arguments))
        return made[-1]

    yield make
    for traced in made:
        await traced.stop()


class Mark(NamedTuple):
    """Where a record is in its batch."""

    offset: int = 0
    timestamp: int = 0


class Bare:
    """As much of an application as hooks may ask for."""

    claimed_headers: frozenset[str] = frozenset()
    servers = ("broker-1:9092",)

    def status(self) -> Status:
        return Status("running")


async def handler(data: bytes) -> None: ...


class Layers:
    """The compiled chains of plugins around functions of the test: no broker."""

    def __init__(self, *plugins: object) -> None:
        self.plugins = Plugins()
        for plugin in plugins:
            self.plugins.register(plugin)
        self.subscription = Subscription("layers", handler, "group", pattern="*")
        self._constants: dict[str, Any] = {"subscription": self.subscription, "app": Bare()}

    async def consume(
        self,
        inner: Callable[[IncomingMessage], Awaitable[Any]],
        *headers: tuple[str, bytes | None],
        attempt: int = 1,
        **record: Any,
    ) -> Any:
        """Let a record pass, with `inner` for decoding and handler."""
        message = incoming(*headers, attempt=attempt, **record)
        return await self.plugins.chain("wrap_consume", inner, **self._constants)(message)

    async def consume_batch(
        self, inner: Callable[..., Awaitable[Any]], *messages: IncomingMessage
    ) -> Any:
        """Let a batch pass."""
        chain = self.plugins.chain("wrap_consume_batch", inner, **self._constants)
        return await chain(list(messages))

    async def publish(
        self, outcome: BatchOutcome | BaseException, message: OutgoingMessage | None = None
    ) -> OutgoingMessage:
        """Let a message pass, whose delivery has this outcome, or is refused."""
        message = message or OutgoingMessage("out", "out", b"{}")

        async def inner(_: OutgoingMessage) -> Delivery:
            if isinstance(outcome, BaseException):
                raise outcome
            return Delivery(outcome, Mark())

        await self.plugins.chain("wrap_publish", inner, app=Bare())(message)
        return message

    async def commit(
        self, inner: Callable[..., Awaitable[None]], offsets: Any, reason: str
    ) -> None:
        """Let a commit pass."""
        constants = {**self._constants, "reason": reason}
        await self.plugins.chain("wrap_commit", inner, **constants)(offsets)


def incoming(
    *headers: tuple[str, bytes | None],
    attempt: int = 1,
    offset: int = 0,
    key: bytes | None = b"k",
    value: bytes | None = b'{"schema":"Note:1","data":{}}',
) -> IncomingMessage:
    """A consumed record of the topic "in"."""
    record = ConsumerRecord("in", 0, offset, 0, 0, key, value, None, 0, 0, headers)
    return IncomingMessage(record, "in", attempt=attempt)


@pytest.fixture
def layers() -> type[Layers]:
    """Chains of plugins without a broker."""
    return Layers


@pytest.fixture
def make_message() -> Callable[..., IncomingMessage]:
    """Consumed records of the topic "in"."""
    return incoming


@pytest.fixture
def acknowledged() -> BatchOutcome:
    """What becomes of a message that the broker wrote to out[3] at offset 7."""
    partition = TopicPartition("out", 3)
    outcome = BatchOutcome(partition)
    outcome.acknowledge(RecordMetadata("out", 3, partition, 7, 0, 0, 0), 1)
    return outcome
