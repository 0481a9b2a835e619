"""CloudEvents in binary mode, as a codec: data is the value, everything else is in headers.

    kafkaesk examples.cloudevents:app --kafka-servers embedded://

Other services read these records with any library of CloudEvents: "Order:1" is the type Order.v1.
"""

import logging
from uuid import uuid4

from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_core import IncomingMessage, OutgoingMessage, SchemaRegistration, hookimpl
from kafkaesk_core.plugin import Codec

logger = logging.getLogger("cloudevents")


class CloudEvents:
    @hookimpl
    def codec(self, stream: str, schema: SchemaRegistration | None) -> Codec | None:
        return self if stream.startswith("orders.") else None

    def encode(self, message: OutgoingMessage, schema: SchemaRegistration, content: bytes) -> bytes:
        attributes = {
            "ce_specversion": "1.0",
            "ce_id": str(uuid4()),
            "ce_source": "/shop",
            "ce_type": f"{schema.id}.v{schema.version}",
            "content-type": "application/json",
        }
        message.headers += [(name, text.encode()) for name, text in attributes.items()]
        return content

    def decode(
        self, message: IncomingMessage, schema: SchemaRegistration | None
    ) -> tuple[str, bytes]:
        kind = dict(message.headers)["ce_type"] or b""
        name, _, version = kind.decode().rpartition(".v")
        return f"{name}:{version}", message.value or b""


app = kafkaesk_core.Application(plugins=[CloudEvents()])


@app.schema("Order", streams=["orders.placed"])
class Order(BaseModel):
    number: int


@app.subscribe("orders.*", "billing")
async def bill(order: Order, schema: str, record: kafkaesk_core.ConsumerRecord) -> None:
    logger.info("order %d is %s, on the wire %s", order.number, schema, record.value)


@app.on("initialize")
async def begin() -> None:
    await app.publish("orders.placed", Order(number=1))
