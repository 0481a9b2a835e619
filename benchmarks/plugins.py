"""`uv run bench plugins`: microseconds of the client's CPU that each plugin adds to a message.

Every round runs all cases in a different order, each with its own application and topic on the
embedded broker. It measures the CPU time of the event loop's thread, without the broker and other
processes. For each case it shows the median over the rounds, and the additional cost over "none"
(or the case's own control) in the same round: median, minimum and maximum.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiokafka.structs import ConsumerRecord
from opentelemetry import context
from opentelemetry.propagate import get_global_textmap
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from pydantic import BaseModel

from kafkaesk_core import Application, IncomingMessage
from kafkaesk_core.message import Header
from kafkaesk_headers import HeadersPlugin
from kafkaesk_ops import OpsPlugin, OpsSettings
from kafkaesk_otel import OTelPlugin, OTelSettings
from kafkaesk_testing import EmbeddedBroker

TRACE: Header = (
    "traceparent",
    b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
)
TENANT: tuple[Header, ...] = (("tenant", b"t1"), ("x-request", b"0123456789abcdef"))


class Item(BaseModel):
    """One line of an order."""

    article: str
    amount: int


class Order(BaseModel):
    """The message of all measurements: 203 bytes in its envelope."""

    number: int
    customer: str
    placed: datetime
    items: list[Item]
    note: str


ORDER = Order(
    number=12345,
    customer="customer-000042",
    placed=datetime(2024, 5, 17, 12, 30, tzinfo=UTC),
    items=[Item(article="coffee", amount=2), Item(article="cake", amount=1)],
    note="leave it at the door, please",
)


class Discarding(SpanExporter):
    """A span exporter that sends nothing."""

    def export(self, spans: Sequence[object]) -> SpanExportResult:
        """Discard the spans."""
        return SpanExportResult.SUCCESS


@dataclass
class Case:
    """A case: the plugins, the headers of the records, and the way of publishing.

    `control` is the case to compare with. With `in_trace`, the messages are published in the
    context of the records' trace; with `on_behalf`, for records with these headers.
    """

    name: str
    plugins: Callable[[], Sequence[object]] = tuple
    control: str = "none"
    headers: tuple[Header, ...] = ()
    in_trace: bool = False
    on_behalf: bool = False
    published: list[float] = field(default_factory=list)
    consumed: list[float] = field(default_factory=list)


def otel(*, ratio: float, metrics: bool) -> OTelPlugin:
    """Return a plugin with its own SDK that samples this share of traces."""
    tracers = TracerProvider(sampler=ParentBased(TraceIdRatioBased(ratio)), shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(Discarding()))
    return OTelPlugin(
        OTelSettings(metrics=metrics),
        tracer_provider=tracers,
        meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
        if metrics
        else None,
    )


def cases() -> list[Case]:
    """Return all cases, controls first."""
    return [
        Case("none"),
        Case("none, a trace header", headers=(TRACE,)),
        Case("none, 2 headers", headers=TENANT, on_behalf=True),
        Case("headers, nothing inherited", lambda: [HeadersPlugin()]),
        Case(
            "headers, 2 inherited",
            lambda: [HeadersPlugin()],
            control="none, 2 headers",
            headers=TENANT,
            on_behalf=True,
        ),
        Case("otel, no SDK", lambda: [OTelPlugin()]),
        Case(
            "otel, no SDK, a trace header",
            lambda: [OTelPlugin()],
            control="none, a trace header",
            headers=(TRACE,),
            in_trace=True,
        ),
        Case(
            "otel, SDK, unsampled",
            lambda: [otel(ratio=0, metrics=False)],
            control="none, a trace header",
            headers=(TRACE,),
            in_trace=True,
        ),
        Case("otel, SDK, 1 %", lambda: [otel(ratio=0.01, metrics=False)]),
        Case("otel, SDK, 1 %, metrics", lambda: [otel(ratio=0.01, metrics=True)]),
        Case("ops, counters", lambda: [OpsPlugin()]),
        Case("ops, histograms", lambda: [OpsPlugin(OpsSettings(histograms=True))]),
        Case(
            "ops, histograms, legacy names",
            lambda: [OpsPlugin(OpsSettings(histograms=True, legacy_names=True))],
        ),
        Case("all", lambda: [HeadersPlugin(), otel(ratio=0.01, metrics=True)]),
    ]


def chosen(start: str) -> list[Case]:
    """Return the cases whose names have this prefix, with their controls."""
    found = [case for case in cases() if case.name.startswith(start)]
    controls = {case.control for case in found}
    return [case for case in cases() if case.name in controls] + [
        case for case in found if case.name not in controls
    ]


class Run:
    """One case in one round."""

    def __init__(self, case: Case, broker: EmbeddedBroker, count: int) -> None:
        self._case = case
        self._count = count
        self._topic = f"orders-{uuid.uuid4().hex[:8]}"
        broker.create_topic(self._topic, partitions=3)
        self._app = Application(
            broker.servers,
            entry_points=False,
            create_topics=False,
            partitions=3,
            plugins=case.plugins(),
        )
        self._app.schema("Order", streams=[self._topic])(Order)
        self._app.subscribe(self._topic, self._topic)(self._handle)
        self._handled = 0
        self._began = self._ended = 0.0

    async def _handle(self, order: Order) -> None:
        self._handled += 1
        if self._handled == 1:
            self._began = time.thread_time()
        elif self._handled == self._count:
            self._ended = time.thread_time()

    async def measure(self) -> None:
        """Publish, then consume, and note the cost of both per message."""
        case, count = self._case, self._count
        async with self._app as app:
            await app.publish_and_wait(self._topic, ORDER, headers=self._own_headers())
            gc.collect()
            began = time.thread_time()
            await self._publish()
            case.published.append((time.thread_time() - began) / count * 1e6)
            gc.collect()
            await app.consume_for(count, seconds=60)
        case.consumed.append((self._ended - self._began) / (count - 1) * 1e6)

    def _own_headers(self) -> list[Header]:
        """Return the caller's own headers; none if a plugin should add them."""
        is_added = self._case.in_trace or (self._case.on_behalf and self._case.plugins())
        return [] if is_added else list(self._case.headers)

    async def _publish(self) -> None:
        app, topic, headers = self._app, self._topic, self._own_headers()
        token = context.attach(self._context())
        try:
            if self._case.on_behalf:
                for origin in self._origins():
                    await app.publish(topic, ORDER, headers=headers, origins=(origin,))
            else:
                for _ in range(self._count):
                    await app.publish(topic, ORDER, headers=headers)
        finally:
            context.detach(token)
        await app.flush()

    def _context(self) -> context.Context:
        if not self._case.in_trace:
            return context.Context()
        carrier = {name: (value or b"").decode() for name, value in self._case.headers}
        return get_global_textmap().extract(carrier, context.Context())

    def _origins(self) -> list[IncomingMessage]:
        """Return this many consumed messages, so that each publish is the first of its record."""
        record = ConsumerRecord("in", 0, 0, 0, 0, None, b"", None, 0, 0, self._case.headers)
        return [IncomingMessage(record, "in") for _ in range(self._count)]


def table(found: Sequence[Case], kind: str, values: Callable[[Case], list[float]]) -> str:
    """Return a table: the median of each case, and its additional cost over its control."""
    by_name = {case.name: values(case) for case in found}
    lines = [f"{kind:34}{'us':>8}{'more':>9}{'least':>8}{'most':>8}   than"]
    for case in found:
        own = by_name[case.name]
        line = f"{case.name:34}{statistics.median(own):8.2f}"
        if case.name != case.control:
            more = [mine - other for mine, other in zip(own, by_name[case.control], strict=True)]
            line += f"{statistics.median(more):9.2f}{min(more):8.2f}{max(more):8.2f}"
            line += f"   {case.control}"
        lines.append(line)
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(prog="bench plugins")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--only", default="", help="cases that begin with this, and controls")
    options = parser.parse_args(argv)
    found = chosen(options.only)
    for number in range(options.rounds + 1):
        for case in random.sample(found, len(found)):
            with EmbeddedBroker() as broker:
                asyncio.run(Run(case, broker, options.messages).measure())
        if number == 0:  # the first round warms up
            for case in found:
                case.published.clear()
                case.consumed.clear()
        sys.stderr.write(f"\rround {number} of {options.rounds}")
    sys.stderr.write("\n")
    print(
        f"{options.rounds} rounds of {options.messages} messages, Python {sys.version.split()[0]}"
    )
    for text in (
        table(found, "publish", lambda case: case.published),
        table(found, "consume", lambda case: case.consumed),
    ):
        print(f"\n{text}")
