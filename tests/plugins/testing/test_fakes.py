"""The fakes do what the real ones do, as far as a plugin sees it."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import RecordMetadata, TopicPartition

from kafkaesk_core import (
    Delivery,
    DeliveryFailedError,
    IncomingMessage,
    OutgoingMessage,
    PublishCall,
    hookimpl,
)
from kafkaesk_testing.fakes import (
    FakeApplication,
    HookRunner,
    PendingDelivery,
    delivery,
    incoming_message,
    outgoing_message,
)


class Tenant:
    """Adds a header to what is published, and tells the application what is consumed."""

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        message.headers.append(("tenant", b"blue"))
        return await call_next(message)

    @hookimpl
    async def wrap_consume(self, message: IncomingMessage, call_next: Any, app: Any) -> Any:
        await app.publish("audit", {"offset": message.offset}, key=b"k")
        return await call_next(message)


async def test_a_layer_is_run_around_a_function_of_the_test() -> None:
    runner, message = HookRunner(Tenant()), outgoing_message({"number": 7}, headers=[("a", b"1")])

    returned = await runner.publish(delivery(partition=3, offset=7), message)

    assert message.headers == [("a", b"1"), ("tenant", b"blue")]
    assert (returned.topic, returned.partition, (await returned).offset) == ("orders", 3, 7)


async def test_the_application_notes_what_a_plugin_publishes() -> None:
    app = FakeApplication()
    runner = HookRunner(Tenant(), app=app)

    async def handle(message: IncomingMessage) -> str:
        return f"handled {message.offset}"

    assert await runner.consume(handle, offset=5) == "handled 5"
    assert app.published == [("audit", {"offset": 5}, {"key": b"k"})]


async def test_the_application_answers_as_the_test_says() -> None:
    app = FakeApplication()
    pending = PendingDelivery(TopicPartition("audit", 0))
    app.answers += [ConnectionError("away"), pending.delivery]

    with pytest.raises(ConnectionError, match="away"):
        await app.publish("audit", {})
    published = await app.publish("audit", {})

    assert not published.done()
    pending.acknowledge(RecordMetadata("audit", 0, TopicPartition("audit", 0), 4, 0, 0, 0))
    assert (await published).offset == 4
    assert len(app.published) == 1


async def test_a_failed_delivery_raises_its_error() -> None:
    error = DeliveryFailedError("no leader", topic="orders")

    with pytest.raises(DeliveryFailedError, match="no leader"):
        await delivery(error=error)


async def test_a_refused_message_raises_through_the_layers() -> None:
    with pytest.raises(ValueError, match="too large"):
        await HookRunner(Tenant()).publish(ValueError("too large"))


def test_an_incoming_message_is_that_of_its_record() -> None:
    message = incoming_message(b"{}", stream="orders", topic="shop.orders", headers=[("a", None)])

    assert (message.stream, message.topic, message.value) == ("orders", "shop.orders", b"{}")
    assert message.record.headers == (("a", None),)
