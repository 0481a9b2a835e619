"""A record fails, waits, dies, and comes back: retries, a dead letter and its replay.

kafkaesk examples.retry:app --kafka-servers embedded://

Needs the package kafkaesk-retry. A person replays dead letters with
`kafkaesk dead replay examples.retry:app`; this service sends its own back, to where it came from.
"""

import logging

from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_core import ConsumerRecord, IncomingMessage, Subscriber
from kafkaesk_retry import retries

logger = logging.getLogger("retry")
app = kafkaesk_core.Application()
customers: set[int] = set()


@app.schema("Order", version=1, streams=["orders.placed"])
class Order(BaseModel):
    number: int
    customer: int


@app.subscribe("orders.placed", "billing", ordering="key")
@retries(attempts=3, first=0.2)
async def bill(order: Order) -> None:
    if order.customer not in customers:
        raise LookupError(f"no customer {order.customer}")
    logger.info("order %d is billed", order.number)


@app.subscribe_to_topics(["dlq.billing.orders.placed"], "undertaker")
async def mend(dead: ConsumerRecord, subscriber: Subscriber) -> None:
    logger.info("dead: %s", reason(subscriber.message))
    customers.add(7)  # somebody has found out, and mends it
    await app.forward("orders.placed", dead.value, dead.key, dead.headers)


def reason(message: IncomingMessage) -> str:
    return (dict(message.headers)["__dlq.errors.message"] or b"").decode()


@app.on("initialize")
async def place_order() -> None:
    await app.publish("orders.placed", Order(number=1, customer=7), key=b"7")
