"""A header that travels on: what is published for a record carries the record's tenant.

kafkaesk examples.headers:app --kafka-servers embedded://

Needs the package kafkaesk-headers, which acts without a line of code here.
"""

import logging

from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_core import ConsumerRecord, Subscriber

logger = logging.getLogger("headers")
app = kafkaesk_core.Application()


@app.schema("Order", version=1, streams=["orders.placed"])
class Order(BaseModel):
    number: int


@app.schema("Invoice", version=1, streams=["invoices.sent"])
class Invoice(BaseModel):
    order: int


@app.subscribe("orders.placed", "billing")
async def bill(order: Order, subscriber: Subscriber) -> None:
    await subscriber.publish("invoices.sent", Invoice(order=order.number))


@app.subscribe("invoices.sent", "archive")
async def archive(invoice: Invoice, record: ConsumerRecord) -> None:
    tenant = dict(record.headers)["tenant"] or b"unknown"
    logger.info("invoice of order %d belongs to tenant %s", invoice.order, tenant.decode())


@app.on("initialize")
async def place_order() -> None:
    await app.publish("orders.placed", Order(number=1), headers=[("tenant", b"blue")])
