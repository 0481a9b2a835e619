"""A handler that fails: tried again with a pause, and skipped when that does not help.

kafkaesk examples.failures:app --kafka-servers embedded://
"""

import logging

from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_core import IncomingMessage, Retry, Skip

logger = logging.getLogger("failures")
app = kafkaesk_core.Application()


@app.schema("Order", version=1, streams=["orders.placed"])
class Order(BaseModel):
    number: int


def decide(error: BaseException, message: IncomingMessage) -> Retry | Skip:
    """Three attempts, one second apart; without on_error= the application would stop."""
    if message.attempt < 3:
        return Retry(f"attempt {message.attempt} failed", delay=1)
    return Skip("three attempts failed")


@app.subscribe("orders.placed", "labels", on_error=decide)
async def print_label(order: Order) -> None:
    """Order 1 never works. The others of its partition wait for it; other partitions do not."""
    if order.number == 1:
        raise ConnectionError("no answer from the printer")
    logger.info("printed label %d", order.number)


@app.on("initialize")
async def place_orders() -> None:
    for number in range(3):
        await app.publish("orders.placed", Order(number=number))
