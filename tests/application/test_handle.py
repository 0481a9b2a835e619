"""`app.handle()`: one message through layers, decoding, handler and decision, without Kafka."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    BatchFailure,
    ConfigurationError,
    DecodeError,
    Defer,
    IncomingMessage,
    InvalidMessageError,
    Retry,
    Skip,
    Stop,
    Subscriber,
    SubscriptionError,
    hookimpl,
)
from kafkaesk_testing import eventually


class Order(BaseModel):
    number: int


def new_app(*plugins: object) -> Application:
    """It has no servers: nothing connects."""
    app = Application(topic_prefix="shop.", plugins=plugins, entry_points=False)
    app.schema("Order", streams=["orders"])(Order)
    return app


@pytest.mark.parametrize(
    "data", [Order(number=7), {"number": 7}, b'{"schema":"Order:1","data":{"number":7}}']
)
async def test_a_handler_gets_what_a_consumer_would_hand_it(data: Any) -> None:
    got: list[Any] = []
    app = new_app()

    @app.subscribe("orders", "billing")
    async def bill(order: Order, schema: str, record: ConsumerRecord, app: Application) -> None:
        got.append((order, schema, record.topic, record.key, record.headers, app.is_consuming))

    result = await app.handle("orders", data, b"key", [("trace", b"1")])

    headers = (("trace", b"1"),)
    assert got == [(Order(number=7), "Order:1", "shop.orders", b"key", headers, False)]
    assert (result.kind, result.error) == ("done", None)


@pytest.mark.parametrize(
    ("raised", "kind", "delay"),
    [
        (Retry("busy", delay=5), "retry", 5),
        (Defer(60), "defer", 60),
        (Skip("old"), "skip", 0),
        (Stop(), "stop", 0),
        (KeyError("x"), "stop", 0),
    ],
    ids=repr,
)
async def test_the_result_says_what_would_become_of_the_record(
    raised: BaseException, kind: str, delay: float
) -> None:
    app = new_app()

    @app.subscribe("one", "one")
    async def one(data: bytes) -> None:
        raise raised

    @app.subscribe("batch", "batch")
    async def batch(data: list[bytes]) -> None:
        raise BatchFailure({0: raised})

    for stream in ("one", "batch"):
        result = await app.handle(stream, b"data")
        assert (result.kind, result.delay) == (kind, delay)
        assert result.error is raised


async def test_on_error_decides_and_sees_the_attempt() -> None:
    app = new_app()

    def decide(error: BaseException, message: IncomingMessage) -> Skip | Retry:
        return Retry(delay=1) if message.attempt < 3 else Skip("no more")

    @app.subscribe("orders", "billing", on_error=decide)
    async def bill(order: Order) -> None: ...

    kinds = [(await app.handle("orders", b"{", attempt=n)).kind for n in (1, 3)]
    failed = await app.handle("orders", b"{")

    assert kinds == ["retry", "skip"]
    assert isinstance(failed.error, DecodeError)


async def test_layers_see_the_message_and_skipped_plugins_do_not() -> None:
    class Layer:
        name = "layer"

        def __init__(self) -> None:
            self.seen: list[tuple[str, str, int]] = []

        @hookimpl
        async def wrap_consume(
            self, message: IncomingMessage, call_next: Any, subscription: Any
        ) -> Any:
            self.seen.append((subscription.group, message.stream, message.offset))
            return await call_next(message)

    layer = Layer()
    app = new_app(layer)

    @app.subscribe("orders", "billing")
    async def bill(data: bytes) -> None: ...

    @app.subscribe("orders", "shipping", skip_plugins=["layer"])
    async def ship(data: bytes) -> None: ...

    for group in ("billing", "shipping"):
        assert (await app.handle("orders", b"data", group=group, offset=9)).kind == "done"

    assert layer.seen == [("billing", "orders", 9)]


async def test_a_commit_of_the_handler_is_only_noted() -> None:
    app = new_app()

    @app.subscribe("orders", "billing")
    async def bill(data: bytes | None, subscriber: Subscriber) -> None:
        await subscriber.consumer.commit()

    assert (await app.handle("orders", None)).kind == "done"


async def test_a_running_application_handles_beside_its_consumer(
    embedded_app: Application,
) -> None:
    """The record is none of the group's, though it has the place of one."""
    app = embedded_app
    handled: list[bytes] = []

    @app.subscribe("orders", "billing")
    async def bill(data: bytes, subscriber: Subscriber) -> None:
        handled.append(data)
        await subscriber.consumer.commit()
        if data == b"by hand":
            await app.raw_publish("orders", b"from Kafka")

    async with app:
        result = await app.handle("orders", b"by hand")
        await app.consume_for(1, seconds=20)
        await eventually(lambda: not app.is_consuming)

    assert result.kind == "done"
    assert handled == [b"by hand", b"from Kafka"]


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (("nothing", b""), SubscriptionError, "no handler takes the stream 'nothing'; subscribe"),
        (("orders", b""), SubscriptionError, "taken by the groups billing, shipping; say which"),
        (("orders", {"number": "x"}), InvalidMessageError, "number"),
        (("orders", b"", "key"), TypeError, "key is of type str"),
    ],
)
async def test_what_cannot_be_handled_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], told: str
) -> None:
    app = new_app()
    for group in ("billing", "shipping"):

        @app.subscribe("orders", group)
        async def handle(data: bytes) -> None: ...

    with pytest.raises(error, match=told):
        await app.handle(*arguments)
    with pytest.raises(SubscriptionError, match="'orders' in group 'other'; subscribe one"):
        await app.handle("orders", b"", group="other")
    with pytest.raises(ConfigurationError, match="an attempt of 1 or more"):
        await app.handle("orders", b"", attempt=0)
