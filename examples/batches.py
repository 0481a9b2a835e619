"""Publishes 250 orders and stores them in batches, as a database likes it.

kafkaesk examples.batches:app --kafka-servers embedded://
"""

import logging

from pydantic import BaseModel

import kafkaesk_core
from kafkaesk_core import BatchFailure, Skip

logger = logging.getLogger("batches")
app = kafkaesk_core.Application()
stored: dict[int, str] = {}  # a table, in a real service


@app.schema("Order", version=1, streams=["orders.placed"])
class Order(BaseModel):
    number: int
    article: str


@app.subscribe("orders.placed", "archive", batch_size=100, batch_timeout=0.2)
async def store(orders: list[Order]) -> None:
    """One insert for all; an order that cannot be stored is skipped alone."""
    refused = {i: Skip("no article") for i, order in enumerate(orders) if not order.article}
    stored.update({o.number: o.article for i, o in enumerate(orders) if i not in refused})
    logger.info("stored %d orders at once, %d in all", len(orders) - len(refused), len(stored))
    if refused:
        raise BatchFailure(refused)


@app.on("initialize")
async def place_orders() -> None:
    orders = (Order(number=n, article="" if n == 13 else "a coffee") for n in range(250))
    logger.info("published %d orders", await app.publish_many("orders.placed", orders))
