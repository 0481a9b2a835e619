"""`harness(app)`: messages in, outcomes and published messages out, without a consumer."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    Defer,
    IncomingMessage,
    Retry,
    Skip,
    Subscriber,
    SubscriptionError,
)
from kafkaesk_testing import harness


class Order(BaseModel):
    number: int


class Invoice(BaseModel):
    order: int


async def test_a_handler_is_done_and_what_it_published_is_there() -> None:
    app = Application("a.broker.that.is.away:9092", "shop.", entry_points=False)
    app.schema(Order)
    app.schema(Invoice)

    @app.subscribe("orders.*", "billing")
    async def bill(order: Order, subscriber: Subscriber) -> None:
        await subscriber.publish("invoices", Invoice(order=order.number), key=b"customer-7")

    for _ in range(2):  # an application may be tested again
        async with harness(app) as shop:
            outcome = await shop.deliver("orders.placed", Order(number=7))

            assert (outcome.kind, outcome.error, outcome.attempts) == ("done", None, 1)
            assert shop.published("invoices") == [Invoice(order=7)]
            assert shop.published("receipts") == []
            (message,) = shop.messages("invoices")
            assert (message.topic, message.key) == ("shop.invoices", b"customer-7")


# --- the outcomes are those of a consumer on real Kafka

BEHAVIOURS: dict[str, list[BaseException | None]] = {
    "done": [None],
    "skip": [Skip("no")],
    "retry": [Retry("later", delay=0.01), None],
    "retries": [Retry("later", delay=0.01)] * 3 + [None],
    "retry-skip": [Retry("later", delay=0.01), Skip("no")],
    "defer": [Defer(until=0.01), None],
    "defer-retry": [Defer(until=0.01), Retry("later", delay=0.01), None],
    "fails": [LookupError("no customer")],
    "retry-fails": [Retry("later", delay=0.01), LookupError("no customer")],
    "group": [ExceptionGroup("two", [ValueError("one"), LookupError("two")])],
}
"""What the handler of each stream raises, run by run."""
BYTES = {"empty": b"", "no-json": b"{", "no-schema": b"{}", "wrong": b'{"schema":"X:1","data":{}}'}
"""Values that cannot be decoded; the handlers of these streams are not called."""


class Behaving:
    """An application whose handlers do as said, and what it saw."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.runs: Counter[str] = Counter()
        self.attempts: dict[str, list[int]] = {}
        self.errors: dict[str, str] = {}
        app.schema(Order)
        for stream in (*BEHAVIOURS, *BYTES):
            app.subscribe(stream, "behaving", on_error=self.give_up)(self._handler(stream))

    def _handler(self, stream: str) -> Any:
        async def handle(order: Order, subscriber: Subscriber) -> None:
            raised = BEHAVIOURS[stream][self.runs[stream]]
            self.runs[stream] += 1
            self.attempts.setdefault(stream, []).append(subscriber.message.attempt)
            if raised is not None:
                raise raised

        return handle

    def give_up(self, error: BaseException, message: IncomingMessage) -> Skip:
        self.errors[message.stream] = type(error).__name__
        return Skip("given up")

    @property
    def seen(self) -> Any:
        return self.runs, self.attempts, self.errors


async def test_outcomes_are_those_of_a_consumer(kafkaesk_app: Application) -> None:
    real, harnessed = Behaving(kafkaesk_app), Behaving(Application(entry_points=False))
    kafkaesk_app.configure(partitions=1)
    values = dict.fromkeys(BEHAVIOURS, b'{"schema":"Order:1","data":{"number":1}}') | BYTES

    async with kafkaesk_app:
        await asyncio.gather(*(kafkaesk_app.raw_publish(*each) for each in values.items()))
        await kafkaesk_app.flush()
        assert await kafkaesk_app.consume_for(len(values), seconds=60) == len(values)
    async with harness(harnessed.app) as behaving:
        kinds = {
            stream: (await behaving.deliver(stream, value)).kind for stream, value in values.items()
        }

    assert harnessed.seen == real.seen
    finished = {"done", "retry", "retries", "defer", "defer-retry"}
    assert kinds == {stream: "done" if stream in finished else "skip" for stream in values}


async def test_waiting_takes_no_time_and_is_told() -> None:
    app = Application(entry_points=False)

    @app.subscribe("orders", "billing")
    async def bill(data: bytes, subscriber: Subscriber) -> None:
        if subscriber.message.attempt < 4:
            raise Retry("the bank is closed", delay=3600)

    async with harness(app) as shop:
        outcome = await shop.deliver("orders", b"one")
        with pytest.raises(AssertionError, match=r"orders\[0\]@1 is not over after 2 runs"):
            await shop.deliver("orders", b"two", max_attempts=2)
        with pytest.raises(SubscriptionError, match="no handler takes"):
            await shop.deliver("returns", b"three")

    assert (outcome.kind, outcome.attempts, outcome.waited) == ("done", 4, 3 * 3600)
