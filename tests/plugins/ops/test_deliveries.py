"""The histogram of deliveries: from the publishing of a message to its acknowledgement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import pytest

from kafkaesk_core import (
    Delivery,
    DeliveryFailedError,
    InvalidMessageError,
    OutgoingMessage,
    PluginError,
    PublishCall,
    hookimpl,
)
from kafkaesk_core.delivery import BatchResult, delivery_of
from kafkaesk_core.structs import RecordMetadata, TopicPartition
from kafkaesk_ops import OpsPlugin
from kafkaesk_ops.deliveries import Deliveries, Followed
from kafkaesk_testing import eventually

from .test_ops import service

ORDERS = TopicPartition("orders", 0)
PLACE = RecordMetadata("orders", 0, ORDERS, 7, -1, 0, 0)


def value(ops: OpsPlugin, name: str, topic: str = "orders", **labels: str) -> float | None:
    place = {"application": "", "topic": topic, **labels}
    return ops.registry.get_sample_value(f"kafkaesk_delivery_seconds_{name}", place)


async def test_every_way_of_publishing_is_timed() -> None:
    app, ops = service(histograms=True, topic_prefix="shop.")
    app.schema("Order", streams=["orders"])({"type": "object"})

    async with app:
        began = time.perf_counter()
        await app.publish_and_wait("orders", {"number": 1})
        await app.publish("orders", {"number": 2})
        assert await app.publish_many("orders", [{"number": n} for n in range(50)]) == 50
        await app.raw_publish("lines", b"1")
        await app.flush()
        most = time.perf_counter() - began
        await eventually(lambda: value(ops, "count", "shop.lines") == 1, within=5)

        assert value(ops, "count", "shop.orders") == 52
        assert 0 < (value(ops, "sum", "shop.orders") or 0) < 52 * most


async def test_a_message_is_timed_until_its_acknowledgement_and_a_failed_one_is_not() -> None:
    """Of a layer that publishes later, as an outbox does."""

    class Outbox:
        stage = "transform"

        def __init__(self) -> None:
            self.futures: list[asyncio.Future[RecordMetadata]] = []

        @hookimpl
        async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
            self.futures.append(asyncio.get_running_loop().create_future())
            return Delivery.deferred(self.futures[-1])

    app, ops = service(histograms=True)
    outbox = Outbox()
    app.plugins.register(outbox)

    async with app:
        written = await app.raw_publish("orders", b"1")
        failed = await app.raw_publish("orders", b"2")
        await asyncio.sleep(0.1)  # how long it takes
        before = value(ops, "count")
        outbox.futures[0].set_result(PLACE)
        outbox.futures[1].set_exception(DeliveryFailedError("the table is full", topic="orders"))
        await written
        with pytest.raises(DeliveryFailedError):
            await failed
        await eventually(lambda: value(ops, "count") == 1, within=5)

        assert before is None
        assert (value(ops, "bucket", le="0.05"), value(ops, "bucket", le="120.0")) == (0, 1)
        assert (value(ops, "sum") or 0) >= 0.1
        await asyncio.sleep(0)
        assert value(ops, "count") == 1, "the failed one has no end"


async def test_a_refused_message_has_no_delivery() -> None:
    app, ops = service(histograms=True)
    app.schema("Order", streams=["orders"])({"type": "object", "required": ["number"]})

    async with app:
        with pytest.raises(InvalidMessageError):
            await app.publish("orders", {})

        assert value(ops, "count") is None


async def test_what_a_layer_returns_in_place_of_a_delivery_is_its_own_fault() -> None:
    class Wrong:
        @hookimpl
        async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> None:
            await call_next(message)

    app, _ = service(histograms=True)
    app.plugins.register(Wrong())

    async with app:
        with pytest.raises(PluginError, match="wrong"):
            await app.raw_publish("orders", b"1")


class Mark(NamedTuple):
    """Where a record is in its batch."""

    offset: int
    timestamp: int = 0


class Ends:
    """What was told about deliveries: how many ended together, and with what error."""

    def __init__(self) -> None:
        self.told: list[tuple[int, BaseException | None]] = []

    def __call__(self, followed: Sequence[Followed], now: float) -> None:
        _, error = followed[0][0].peek() or (None, None)
        self.told.append((len(followed), error))


async def test_the_deliveries_of_a_batch_end_together() -> None:
    ends, batch = Ends(), BatchResult(ORDERS)
    deliveries = Deliveries(ends)
    for index in range(5):
        deliveries.follow(delivery_of(batch, Mark(index)), 0.0)

    batch.acknowledge(PLACE, 5)
    await asyncio.sleep(0)

    assert ends.told == [(5, None)]


async def test_the_deliveries_of_a_batch_that_was_split_end_with_their_part() -> None:
    """A broker may find a batch too large: its halves are sent again, each on its own."""
    ends, batch, error = Ends(), BatchResult(ORDERS), DeliveryFailedError("no", topic="orders")
    deliveries = Deliveries(ends)
    for index in range(4):
        deliveries.follow(delivery_of(batch, Mark(index)), 0.0)

    first, second = batch.split([1, 3])
    first.acknowledge(PLACE, 1)
    await eventually(lambda: ends.told == [(1, None)], within=5)
    second.fail(error, 3)
    await eventually(lambda: len(ends.told) == 4, within=5)

    assert ends.told[1:] == [(1, error)] * 3


async def test_a_failure_that_is_only_measured_still_counts_as_not_looked_at() -> None:
    unobserved: list[int] = []
    batch = BatchResult(ORDERS, lambda _, count: unobserved.append(count))
    deliveries = Deliveries(Ends())
    for index in range(3):
        deliveries.follow(delivery_of(batch, Mark(index)), 0.0)

    batch.fail(DeliveryFailedError("no", topic="orders"), 3)
    await asyncio.sleep(0)
    batch.report()

    assert unobserved == [3]


async def test_a_service_that_starts_again_measures_anew() -> None:
    app, ops = service(histograms=True)

    for _ in range(2):
        async with app:
            await app.raw_publish("orders", b"1")
            await app.flush()
            await eventually(lambda: value(ops, "count") == 1, within=5)
        assert value(ops, "count") is None
