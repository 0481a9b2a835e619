"""Layers behind the encoding, deliveries of layers, and codecs, in an application that runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    ConsumeCall,
    Delivery,
    DeliveryFailedError,
    DeliveryUnknownError,
    IncomingMessage,
    OutgoingMessage,
    PublishCall,
    RecordMetadata,
    SchemaRegistration,
    TopicPartition,
    hookimpl,
)

TP = TopicPartition("orders", 3)
WRITTEN = RecordMetadata("orders", 3, TP, 7, 1700, 0, None)


class Order(BaseModel):
    number: int


class Backwards:
    """Turns the bytes of each message round, on their way out and in."""

    stage = "deliver"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        self.seen.append((message.data, message.schema, message.encoded))
        if message.encoded is not None:
            message.encoded = message.encoded[::-1]
        return await call_next(message)

    @hookimpl
    async def wrap_consume(self, message: IncomingMessage, call_next: ConsumeCall) -> Any:
        if message.value is not None:
            message.value = message.value[::-1]
        return await call_next(message)


class Upper:
    """A layer before the encoding, which is declared later."""

    stage = "observe"

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        assert not message.is_encoded
        if isinstance(message.data, Order):
            message.data = Order(number=message.data.number + 1)
        return await call_next(message)


class Observed:
    def __init__(self) -> None:
        self.data: list[Any] = []

    @hookimpl
    def published(self, message: OutgoingMessage) -> None:
        self.data.append(message.data)


async def test_a_layer_behind_the_encoding_sees_and_replaces_the_final_bytes() -> None:
    backwards, observed = Backwards(), Observed()
    plugins = [backwards, Upper(), observed]
    app = Application("embedded://", plugins=plugins, entry_points=False)
    app.schema("Order", streams=["orders"])(Order)
    got: list[Any] = []

    @app.subscribe("orders", "models")
    async def read(order: Order | None) -> None:
        got.append(order)

    async with app:
        consuming = asyncio.create_task(app.consume_for(3, seconds=20))
        await app.publish_and_wait("orders", Order(number=1), key=b"k")
        await app.publish_and_wait("orders", {"number": 4}, key=b"k")
        await (await app.raw_publish("orders", None, key=b"k"))
        await consuming

    assert got == [Order(number=2), Order(number=4), None]
    assert backwards.seen == [
        (Order(number=2), "Order:1", b'{"schema":"Order:1","data":{"number":2}}'),
        ({"number": 4}, "Order:1", b'{"schema":"Order:1","data":{"number":4}}'),
        (None, None, None),
    ]
    assert observed.data == [Order(number=2), {"number": 4}, None]
    assert app.chains()["wrap_publish"] == ["upper", "encode", "backwards", "send"]


async def test_what_is_written_past_the_layers_is_not_encoded_before() -> None:
    app = Application("embedded://", plugins=[Backwards()], entry_points=False)
    got: list[bytes] = []

    @app.subscribe("orders", "raw", skip_plugins=["backwards"])
    async def read(value: bytes) -> None:
        got.append(value)

    async with app:
        await (await app.forward("orders", b"as it is"))
        await app.consume_for(1, seconds=20)

    assert got == [b"as it is"]


class Tagged:
    """A codec that writes the number alone, and the schema into a header."""

    @hookimpl
    def codec(self, stream: str, schema: SchemaRegistration | None) -> Any:
        return self

    def encode(self, message: OutgoingMessage, schema: SchemaRegistration, content: bytes) -> bytes:
        assert isinstance(message.data, Order)
        assert content == b'{"number":%d}' % message.data.number
        message.headers.append(("type", schema.key.encode()))
        return b"%d" % message.data.number

    def decode(
        self, message: IncomingMessage, schema: SchemaRegistration | None
    ) -> tuple[str, bytes]:
        assert message.value is not None
        return str(dict(message.headers)["type"], "utf-8"), b'{"number":%b}' % message.value  # type: ignore[arg-type]  # it has one


async def test_a_codec_is_used_for_each_message_that_is_published_and_read() -> None:
    app = Application("embedded://", plugins=[Tagged()], entry_points=False)
    app.schema("Order", streams=["orders"])(Order)
    got: list[Any] = []

    @app.subscribe("orders", "models")
    async def read(order: Order, schema: str) -> None:
        got.append((order.number, schema))

    @app.subscribe("orders", "raw")
    async def read_raw(value: bytes) -> None:
        got.append(value)

    async with app:
        for number in (1, 2):
            await app.publish_and_wait("orders", Order(number=number), key=b"k")
        await app.publish_many("orders", [Order(number=3)], key=lambda _: b"k")
        await app.consume_for(6, seconds=20)

    assert [each for each in got if isinstance(each, bytes)] == [b"1", b"2", b"3"]
    assert [each for each in got if isinstance(each, tuple)] == [
        (number, "Order:1") for number in (1, 2, 3)
    ]


# --- deliveries


async def test_a_settled_delivery_is_acknowledged() -> None:
    delivery = Delivery.settled(WRITTEN)

    assert delivery.done()
    assert await delivery == WRITTEN
    assert (delivery.topic, delivery.partition, delivery.offset) == ("orders", 3, 7)


async def test_a_deferred_delivery_ends_as_its_future() -> None:
    future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
    delivery = Delivery.deferred(future, "orders")

    assert not delivery.done()
    asyncio.get_running_loop().call_soon(future.set_result, WRITTEN)

    assert await delivery == WRITTEN
    assert (delivery.topic, delivery.partition, delivery.offset) == ("orders", 3, 7)


async def test_a_deferred_delivery_fails_as_its_future() -> None:
    failed: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
    cancelled: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
    deliveries = [Delivery.deferred(one, "orders") for one in (failed, cancelled)]
    failed.set_exception(DeliveryFailedError("no room", topic="orders"))
    cancelled.cancel()

    with pytest.raises(DeliveryFailedError, match="no room"):
        await deliveries[0]
    with pytest.raises(DeliveryUnknownError, match="delivery to orders was cancelled"):
        await deliveries[1]
