"""Publishes an order each second, handles it, and shows what was committed.

kafkaesk examples.orders:app --kafka-servers embedded://
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping

from aiokafka.structs import TopicPartition
from pydantic import BaseModel

import kafkaesk_core

logger = logging.getLogger("orders")
app = kafkaesk_core.Application(auto_commit_interval_ms=2000)


@app.schema("Order", version=1, retention=24 * 60 * 60, streams=["orders.placed"])
class Order(BaseModel):
    number: int
    article: str


@app.subscribe("orders.*", "billing")
async def bill(order: Order) -> None:
    logger.info("consumed  order %d: %s", order.number, order.article)


Offsets = Mapping[TopicPartition, int]


@app.hook
async def wrap_commit(offsets: Offsets, call_next: Callable[[Offsets], Awaitable[None]]) -> None:
    await call_next(offsets)
    for partition, offset in offsets.items():
        logger.info("committed %s[%d] up to %d", partition.topic, partition.partition, offset)


async def place_orders() -> None:
    for number in itertools.count(1):
        order = Order(number=number, article="a coffee")
        sent = await app.publish_and_wait("orders.placed", order, key=b"%d" % number)
        logger.info("published order %d to %s[%d]", number, sent.topic, sent.partition)
        await asyncio.sleep(1)


async def open_shop() -> None:
    shop = asyncio.create_task(place_orders())

    async def close_shop() -> None:
        shop.cancel()

    app.on("finalize", close_shop)


app.on("initialize", open_shop)
