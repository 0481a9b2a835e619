"""`harness(app)`: messages in, outcomes and published messages out, without a consumer."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    BatchFailure,
    ConsumerRecord,
    Defer,
    IncomingMessage,
    Retry,
    Skip,
    Subscriber,
    SubscriptionError,
    hookimpl,
)
from kafkaesk_core.hooks import ConsumeCall
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


ORDER = b'{"schema":"Order:1","data":{"number":1}}'
INVOICE = b'{"schema":"Invoice:1","data":{"order":1}}'


class Layers:
    """A plugin with a layer around each handler, which acts on the streams of its name."""

    name = "layers"

    @hookimpl
    async def wrap_consume(self, message: IncomingMessage, call_next: ConsumeCall) -> object:
        if message.stream == "layer-swallows":
            return None
        if message.stream == "layer-raises":
            raise LookupError("a layer")
        if message.stream == "layer-skips":
            raise Skip("a layer")
        if message.stream == "layer-replaces":
            message.value = ORDER
        return await call_next(message)


class Taking:
    """An application whose handlers take their messages in different ways, and what they got."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.got: dict[str, list[Any]] = {}
        self.errors: dict[str, str] = {}
        app.schema(Order)
        app.schema(Invoice)
        app.plugins.register(Layers())
        for stream, (handler, _, options) in self.cases().items():
            subscribe = app.subscribe(stream, "taking", on_error=self.give_up, **options)
            subscribe(handler)

    def give_up(self, error: BaseException, message: IncomingMessage) -> Skip:
        self.errors[message.stream] = f"{type(error).__name__}: {error}".split(" at ")[0]
        return Skip("given up")

    def note(self, stream: str, *values: Any) -> None:
        self.got.setdefault(stream, []).append(values)

    async def take_bytes(self, data: bytes) -> None:
        self.note("bytes", data)

    async def take_record(self, record: ConsumerRecord) -> None:
        self.note("record", record.topic, record.key, record.value, record.headers)

    async def take_unannotated(self, data) -> None:  # type: ignore[no-untyped-def]
        self.note("unannotated", data)

    async def take_either(self, data: Invoice | Order) -> None:
        self.note("either", data)

    async def take_optional(self, data: Order | None) -> None:
        self.note("tombstone", data)

    async def take_order(self, data: Order, subscriber: Subscriber) -> None:
        self.note(subscriber.message.stream, data, subscriber.message.headers)

    def take_in_a_thread(self, data: Order) -> None:
        self.note("thread", data)

    async def publish(self, data: Order, subscriber: Subscriber) -> None:
        await subscriber.publish("invoices", Invoice(order=data.number))
        self.note("publishes", data)

    async def never_end(self, data: Order) -> None:
        await asyncio.Event().wait()

    async def cancel(self, data: Order) -> None:
        raise asyncio.CancelledError

    async def commit(self, data: Order, subscriber: Subscriber) -> None:
        await subscriber.consumer.commit()
        raise LookupError("after the commit")

    async def take_many(self, data: list[Order], subscriber: Subscriber) -> None:
        self.note("batch", data, subscriber.message.attempt)

    async def fail_one(self, data: list[Order]) -> None:
        raise BatchFailure({0: LookupError("the first")})

    def cases(self) -> dict[str, tuple[Any, bytes | None, dict[str, Any]]]:
        """By stream: the handler, the value that it gets, and the options of its subscription."""
        return {
            "bytes": (self.take_bytes, b"anything", {}),
            "record": (self.take_record, b"anything", {}),
            "unannotated": (self.take_unannotated, ORDER, {}),
            "either": (self.take_either, INVOICE, {}),
            "tombstone": (self.take_optional, None, {}),
            "no-tombstone": (self.take_order, None, {}),
            "other-schema": (self.take_order, INVOICE, {}),
            "plain": (self.take_order, b'{"number":1}', {"envelope": False}),
            "not-plain": (self.take_order, ORDER, {"envelope": False}),
            "thread": (self.take_in_a_thread, ORDER, {}),
            "publishes": (self.publish, ORDER, {}),
            "timeout": (self.never_end, ORDER, {"timeout_seconds": 0.05}),
            "cancels": (self.cancel, ORDER, {}),
            "commits": (self.commit, ORDER, {}),
            "batch": (self.take_many, ORDER, {"batch_timeout": 0.01}),
            "batch-fails": (self.fail_one, ORDER, {"batch_timeout": 0.01}),
            "layer-swallows": (self.take_order, ORDER, {}),
            "layer-raises": (self.take_order, ORDER, {}),
            "layer-skips": (self.take_order, ORDER, {}),
            "layer-replaces": (self.take_order, b"sealed", {}),
            "layer-skipped": (self.take_order, ORDER, {"skip_plugins": ["layers"]}),
        }


async def test_what_handlers_get_is_what_a_consumer_gives_them(kafkaesk_app: Application) -> None:
    kafkaesk_app.configure(partitions=1)
    real, harnessed = Taking(kafkaesk_app), Taking(Application(entry_points=False))
    values = {stream: value for stream, (_, value, _) in real.cases().items()}
    prefix, headers = kafkaesk_app.settings.topic_prefix, [("trace", b"1"), ("empty", None)]
    harnessed.app.configure(topic_prefix=prefix)

    async with kafkaesk_app:
        for stream, value in values.items():
            await kafkaesk_app.raw_publish(stream, value, b"key", headers)
        await kafkaesk_app.flush()
        assert await kafkaesk_app.consume_for(len(values), seconds=60) == len(values)
    async with harness(harnessed.app) as taking:
        kinds = {
            stream: (await taking.deliver(stream, value, b"key", headers)).kind
            for stream, value in values.items()
        }
        assert taking.published("invoices") == [Invoice(order=1)]

    assert harnessed.got == real.got
    assert harnessed.errors == real.errors
    assert len(BEHAVIOURS) + len(BYTES) + len(values) >= 30
    skipped = {"layer-skips", *real.errors}
    assert kinds == {stream: "skip" if stream in skipped else "done" for stream in values}


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
