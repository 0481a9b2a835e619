"""One trace over two processes and a real broker, as it arrives where traces are collected."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kafkaesk_testing import Kafka, eventually
from tests.plugins.otel.instrumented import PROGRAMS, instrumented
from tests.plugins.otel.receiver import drawn, receiving

SHOP = """
from opentelemetry import trace
from pydantic import BaseModel
from kafkaesk_core import Application

app = Application()

@app.schema("Order", streams=["orders"])
class Order(BaseModel):
    number: int

@app.schema("Invoice", streams=["invoices"])
class Invoice(BaseModel):
    number: int
"""

CUSTOMER = (
    SHOP
    + """
@app.subscribe("invoices", "customer")
async def pay(invoice: Invoice) -> None: ...

async def checkout() -> None:
    for number, name in ((7, "checkout"), (13, "checkout, unlucky")):
        with trace.get_tracer("customer").start_as_current_span(name):
            await app.publish("orders", Order(number=number), key=b"order-%d" % number)

app.on("initialize", checkout)
"""
)

BILLING = (
    SHOP
    + """
import pathlib

@app.subscribe("orders", "billing", ordering="key")
async def bill(order: Order, subscriber) -> None:
    if order.number == 13 and not pathlib.Path("mended").exists():
        raise LookupError("no such customer")
    await subscriber.publish("invoices", Invoice(number=order.number))
    await subscriber.consumer.commit()
"""
)

EXPECTED = """\
checkout  INTERNAL  (customer)
  send shop.orders  PRODUCER  (customer)
    process shop.orders  CONSUMER  (billing)  linked to: send shop.orders
      commit shop.orders  CLIENT  (billing)
      send shop.invoices  PRODUCER  (billing)
        process shop.invoices  CONSUMER  (customer)  linked to: send shop.invoices
checkout, unlucky  INTERNAL  (customer)
  send shop.orders  PRODUCER  (customer)
    process shop.orders, disposition retry  CONSUMER  (billing)  linked to: send shop.orders
    process shop.orders, attempt 2  CONSUMER  (billing)  linked to: send shop.orders
      send shop.dlq.billing.orders  PRODUCER  (billing)
    process shop.retry.billing.0  CONSUMER  (billing)  linked to: send shop.orders
      commit shop.retry.billing.0  CLIENT  (billing)
      send shop.invoices  PRODUCER  (billing)
        process shop.invoices  CONSUMER  (customer)  linked to: send shop.invoices"""
"""The second one is retried, becomes a dead letter, and is replayed."""
SPANS = len(EXPECTED.splitlines())


@contextmanager
def service(name: str, code: str, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """One of the two services."""
    (folder / f"{name}.py").write_text(code)
    own = {**environment, "OTEL_SERVICE_NAME": name}
    output = folder / f"{name}.log"
    with instrumented("kafkaesk", f"{name}:app", folder=folder, output=output, environment=own):
        yield


def replay(app: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Let the group that failed handle its dead letters again."""
    command = [str(PROGRAMS / "kafkaesk"), "dead", "replay", app, "--yes"]
    own = {**os.environ, **environment, "PYTHONPATH": str(folder)}
    subprocess.run(command, cwd=folder, env=own, check=True, timeout=60)


async def test_one_trace_over_publish_consume_publish_consume(kafka: Kafka, tmp_path: Path) -> None:
    prefix = f"e2e-{uuid.uuid4().hex[:8]}."
    with receiving() as receiver:
        environment = {
            "KAFKAESK_KAFKA_SERVERS": ",".join(kafka.servers),
            "KAFKAESK_TOPIC_PREFIX": prefix,
            "KAFKAESK_KAFKA_SETTINGS": '{"heartbeat_interval_ms": 300}',
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "KAFKAESK_OTEL_LAG_INTERVAL": "0.2",
            "KAFKAESK_RETRY_ENABLED": "true",
            "KAFKAESK_RETRY_ATTEMPTS": "2",
            "KAFKAESK_RETRY_FIRST": "0.1",
        }
        with (
            service("billing", BILLING, tmp_path, environment),
            service("customer", CUSTOMER, tmp_path, environment),
        ):
            letter = f"send {prefix}dlq.billing.orders"
            await eventually(lambda: letter in {span.name for span in receiver.spans}, within=90)
            (tmp_path / "mended").touch()
            await asyncio.to_thread(replay, "billing:app", tmp_path, environment)
            await eventually(lambda: len(receiver.spans) >= SPANS, within=90)
            await eventually(lambda: len(receiver.metrics) >= 5, within=30)

    drawing = drawn(receiver.spans).replace(prefix, "shop.")
    sys.stdout.write(f"{drawing}\n")
    assert drawing == EXPECTED
    assert len({span.trace_id for span in receiver.spans}) == 2
    scopes = {span.scope for span in receiver.spans if not span.name.startswith("checkout")}
    assert scopes == {"kafkaesk_otel"}
    process = next(
        span
        for span in receiver.spans
        if span.name == f"process {prefix}orders"
        and span.attributes["messaging.kafka.message.key"] == "order-7"
    )
    host, _, port = kafka.servers[0].rpartition(":")
    expected = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": f"{prefix}orders",
        "messaging.consumer.group.name": "billing",
        "messaging.kafka.message.key": "order-7",
        "kafkaesk.schema": "Order:1",
        "server.address": host,
        "server.port": int(port),
    }
    assert expected.items() <= process.attributes.items()
    assert receiver.metrics == {
        "messaging.client.operation.duration s",
        "messaging.client.sent.messages {message}",
        "messaging.client.consumed.messages {message}",
        "messaging.process.duration s",
        "kafkaesk.consumer.lag {message}",
    }
