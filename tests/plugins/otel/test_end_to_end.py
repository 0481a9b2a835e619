"""One trace over two processes and a real broker, as it arrives where traces are collected."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kafkaesk_testing import Kafka, eventually
from tests.plugins.otel.instrumented import instrumented
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
    with trace.get_tracer("customer").start_as_current_span("checkout"):
        await app.publish("orders", Order(number=7), key=b"order-7")

app.on("initialize", checkout)
"""
)

BILLING = (
    SHOP
    + """
@app.subscribe("orders", "billing")
async def bill(order: Order, subscriber) -> None:
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
        process shop.invoices  CONSUMER  (customer)  linked to: send shop.invoices"""


@contextmanager
def service(name: str, code: str, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """One of the two services."""
    (folder / f"{name}.py").write_text(code)
    own = {**environment, "OTEL_SERVICE_NAME": name}
    output = folder / f"{name}.log"
    with instrumented("kafkaesk", f"{name}:app", folder=folder, output=output, environment=own):
        yield


async def test_one_trace_over_publish_consume_publish_consume(kafka: Kafka, tmp_path: Path) -> None:
    prefix = f"e2e-{uuid.uuid4().hex[:8]}."
    with receiving() as receiver:
        environment = {
            "KAFKAESK_KAFKA_SERVERS": ",".join(kafka.servers),
            "KAFKAESK_TOPIC_PREFIX": prefix,
            "KAFKAESK_KAFKA_SETTINGS": '{"heartbeat_interval_ms": 300}',
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "KAFKAESK_OTEL_LAG_INTERVAL": "0.2",
        }
        with (
            service("billing", BILLING, tmp_path, environment),
            service("customer", CUSTOMER, tmp_path, environment),
        ):
            await eventually(lambda: len(receiver.spans) >= 6, within=90)
            await eventually(lambda: len(receiver.metrics) >= 5, within=30)

    drawing = drawn(receiver.spans).replace(prefix, "shop.")
    sys.stdout.write(f"{drawing}\n")
    assert drawing == EXPECTED
    assert len({span.trace_id for span in receiver.spans}) == 1
    assert len(receiver.spans) == 6
    scopes = {span.scope for span in receiver.spans if span.name != "checkout"}
    assert scopes == {"kafkaesk_otel"}
    process = next(s for s in receiver.spans if s.name == f"process {prefix}orders")
    host, _, port = kafka.servers[0].rpartition(":")
    expected = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": f"{prefix}orders",
        "messaging.consumer.group.name": "billing",
        "messaging.kafka.offset": 0,
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
