"""The short way of the usual message makes no difference but in what it costs.

A stream's first message goes the whole way. The next ones of its model go the short one, whether
they find an open batch or begin one.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from itertools import chain, groupby
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import BaseModel, field_serializer

from kafkaesk_core import (
    Application,
    Delivery,
    KafkaeskError,
    MessageTooLargeError,
    NotRunningError,
    OutgoingMessage,
    hookimpl,
)
from kafkaesk_testing import EmbeddedBroker, eventually


class Content(BaseModel):
    number: int


class Order(BaseModel):
    number: int


class Derived(Content):
    pass


wrong: Any = "of a wrong type"


@pytest.fixture
def app() -> Iterator[Application]:
    with EmbeddedBroker(topics={"content": 3, "warm": 3}) as broker:
        settings = dict(broker.consumer_settings)
        app = Application(broker.servers, entry_points=False, kafka_settings=settings)
        app.schema("Content", version=1)(Content)
        app.schema("Order", version=1)(Order)
        yield app


async def warm_up(app: Application, stream: str = "content") -> None:
    """The next messages of this step of the event loop go the short way."""
    await app.publish_and_wait(stream, Content(number=-1))
    await app.publish(stream, Content(number=0))
    await app.publish(stream, Content(number=1), b"key")


async def consumed(app: Application, count: int) -> list[Any]:
    found: list[Any] = []

    @app.subscribe("content", group="group")
    async def handle(data: bytes, record: Any) -> None:
        found.append(record)

    await app.consume_for(count, seconds=20)
    return found


async def test_messages_of_both_ways_are_the_same_and_in_their_order(app: Application) -> None:
    async with app:
        await warm_up(app)
        for number in range(2, 10):
            await app.publish("content", Content(number=number), b"key")
        await app.publish("content", Content(number=10), b"key", headers=[])  # the whole way
        records = await consumed(app, 12)

    keyed = [record for record in records if record.key is not None]
    assert [record.value for record in keyed] == [
        b'{"schema":"Content:1","data":{"number":%d}}' % number for number in range(1, 11)
    ]
    assert {record.headers for record in records} == {()}
    assert max(r.timestamp for r in keyed) - min(r.timestamp for r in keyed) < 60_000


async def test_messages_that_begin_a_batch_each_keep_the_order_of_their_key(
    app: Application,
) -> None:
    async with app:
        await warm_up(app)
        for number in range(2, 40):
            await app.publish("content", Content(number=number), b"key")
            for _ in range(number % 5):
                await asyncio.sleep(0)
        records = await consumed(app, 41)

    keyed = [record for record in records if record.key is not None]
    assert [record.value for record in keyed] == [
        b'{"schema":"Content:1","data":{"number":%d}}' % number for number in range(1, 40)
    ]


async def test_a_partitioner_of_the_users_own_is_asked_once_for_each_message() -> None:
    asked: list[bytes | None] = []

    def choose(key: bytes | None, partitions: list[int], available: list[int]) -> int:
        asked.append(key)
        return 2

    with EmbeddedBroker(topics={"content": 3}) as broker:
        app = Application(
            broker.servers, entry_points=False, kafka_settings={"partitioner": choose}
        )
        app.schema("Content", version=1)(Content)
        async with app:
            for key in (b"a", b"a", None, None):
                delivery = await app.publish("content", Content(number=1), key)
                assert (await delivery).partition == 2

    assert asked == [b"a", b"a", None, None]


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (Content(number=1), wrong),
        (Content(number=1), bytearray(b"key")),
        (Content.model_construct(number=wrong), None),
        (Derived(number=1), None),
        (Order(number=1), None),
        ({"number": wrong}, None),
        (b"raw", None),
        (None, None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_the_short_way_refuses_what_the_whole_way_refuses_with_the_same_error(
    app: Application, data: Any, key: Any
) -> None:
    async def refused(*, is_warm: bool) -> tuple[type[Exception], str]:
        async with app:
            if is_warm:
                await warm_up(app)
            else:
                await app.publish_and_wait("content", Content(number=0))
            with pytest.raises((KafkaeskError, TypeError)) as raised:
                await app.publish("content", data, key)
            return type(raised.value), str(raised.value)

    assert await refused(is_warm=True) == await refused(is_warm=False)


@pytest.mark.parametrize("stream", ["", 7, ["content"], None], ids=repr)
async def test_a_wrong_stream_is_refused_as_before(app: Application, stream: Any) -> None:
    async with app:
        await warm_up(app)

        with pytest.raises((TypeError, ValueError), match=r"the stream is|name is empty"):
            await app.publish(stream, Content(number=1))


class Layer:
    def __init__(self) -> None:
        self.seen: list[int] = []

    @hookimpl
    async def wrap_publish(self, message: Any, call_next: Any) -> Delivery:
        self.seen.append(message.data.number)
        return await call_next(message)  # type: ignore[no-any-return]


async def test_a_plugin_that_is_registered_late_sees_the_next_message(app: Application) -> None:
    layer, observed = Layer(), []

    class Observer:
        @hookimpl
        def published(self, message: Any, metadata: Any, error: Any) -> None:
            observed.append(message.data.number)

    async with app:
        await warm_up(app)
        name = app.plugins.register(layer)
        await app.publish("content", Content(number=2))
        app.plugins.unregister(name)
        await app.publish("content", Content(number=3))
        app.plugins.register(Observer())
        await app.publish("content", Content(number=4))
        await app.flush()

    assert (layer.seen, observed) == ([2], [4])


async def test_a_version_that_is_registered_late_is_that_of_the_next_message(
    app: Application,
) -> None:
    async with app:
        await warm_up(app)
        app.schema("Content", version=2)(Content)
        await app.publish("content", Content(number=2))
        records = await consumed(app, 4)

    assert [r.value for r in records if b'"number":2' in r.value] == [
        b'{"schema":"Content:2","data":{"number":2}}'
    ]


@pytest.mark.rule_34
async def test_nothing_is_taken_any_more_once_the_publisher_stops(app: Application) -> None:
    """The open batch is still there: a message that went into it would be sent after the stop."""
    await app.initialize()
    await warm_up(app)
    runtime = app._runtime
    assert runtime is not None
    stopping = asyncio.create_task(runtime.publisher.stop())
    await eventually(lambda: runtime.publisher.health() == ["the publisher is not running"])

    with pytest.raises(NotRunningError, match="nothing can be published"):
        await app.publish("content", Content(number=2))
    assert runtime.model_writers["content"].offer(Content(number=2), None) is None

    await stopping
    await app.finalize()


async def test_another_event_loop_is_refused_as_before(app: Application) -> None:
    async with app:
        await warm_up(app)

        def publish_elsewhere() -> None:
            asyncio.run(app.publish("content", Content(number=2)))

        with pytest.raises(NotRunningError, match="was used on event loop"):
            await asyncio.to_thread(publish_elsewhere)


def test_the_thread_in_which_the_loop_ran_first_is_refused_once_it_runs_elsewhere(
    app: Application,
) -> None:
    """It was taken for the right one, and the right one for a wrong one that is let through."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(app.initialize())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(warm_up(app), loop).result(20)

        with pytest.raises(NotRunningError, match="was used on event loop"):
            asyncio.run(app.publish("content", Content(number=2)))
    finally:
        asyncio.run_coroutine_threadsafe(app.finalize(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.rule_38
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on Windows")
async def test_a_forked_process_is_refused_too(app: Application) -> None:
    """It has a copy of the open batch, which nothing sends: the message was lost."""
    async with app:
        await warm_up(app)
        if not (child := os.fork()):
            code = 1
            try:
                asyncio.run(app.publish("content", Content(number=2)))
            except NotRunningError:
                code = 0
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)

    assert os.waitstatus_to_exitcode(status) == 0


async def test_many_messages_are_counted_among_those_that_others_publish(app: Application) -> None:
    """Theirs are in the same batches."""

    async def others() -> None:
        for number in range(200):
            await app.publish("content", Content(number=number))
            await asyncio.sleep(0)

    async with app:
        other = asyncio.create_task(others())
        count = await app.publish_many("content", (Content(number=n) for n in range(1000)))
        await other
        await app.flush()

        assert count == 1000
        assert app.status().published["acked"] == 1200


async def test_messages_that_an_iterable_publishes_in_between_keep_their_order(
    app: Application,
) -> None:
    async def numbers() -> AsyncIterator[Content]:
        for number in range(0, 20, 2):
            yield Content(number=number)
            await app.publish("content", Content(number=number + 1), b"key")

    async with app:
        assert await app.publish_many("content", numbers(), key=lambda _: b"key") == 10
        records = await consumed(app, 20)

    assert [record.offset for record in records] == list(range(20))
    found = [int(record.value.split(b":")[-1].strip(b"}")) for record in records]
    assert found == list(range(20))


async def test_messages_that_are_published_while_an_iterable_yields_are_counted_apart(
    app: Application,
) -> None:
    """They take places between the others in the same batch."""
    others: list[Delivery] = []

    def numbers() -> Iterator[Content]:
        for number in range(0, 1000, 2):
            yield Content(number=number)
            others.append(at_once(app.publish("content", Content(number=number + 1))))

    async with app:
        await warm_up(app)

        assert await app.publish_many("content", numbers()) == 500
        assert len(await asyncio.gather(*others)) == 500
        records = await consumed(app, 1003)

    by_place = sorted(records, key=lambda record: (record.partition, record.offset))
    of_partition = {
        partition: [int(r.value.split(b":")[-1].strip(b"}")) for r in found]
        for partition, found in groupby(by_place, key=lambda record: record.partition)
    }
    for found in of_partition.values():
        later = [number for number in found if number > 1]  # 0 and 1 are also of the warm-up
        assert later == sorted(later)
    assert sorted(chain(*of_partition.values())) == sorted([-1, 0, 1, *range(1000)])


def at_once(publishing: Coroutine[Any, Any, Delivery]) -> Delivery:
    """Return the delivery of a message that is published without waiting."""
    try:
        publishing.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # of the coroutine
    raise AssertionError("it waits")


@pytest.mark.parametrize("is_by_key", [False, True], ids=["the iterable", "the key"])
async def test_what_is_registered_in_the_middle_holds_for_the_next_of_many(
    app: Application, is_by_key: bool
) -> None:
    layer = Layer()

    def register(content: Content) -> None:
        if content.number == 20:
            app.plugins.register(layer)
        if content.number == 30:
            app.schema("Content", version=2)(Content)

    def contents() -> Iterator[Content]:
        for number in range(40):
            content = Content(number=number)
            if not is_by_key:
                register(content)
            yield content

    async with app:
        await warm_up(app)
        count = await app.publish_many("content", contents(), key=register if is_by_key else None)
        assert count == 40
        records = await consumed(app, 43)

    assert layer.seen == list(range(20, 40))
    assert sum(record.value.startswith(b'{"schema":"Content:2"') for record in records) == 10


async def test_of_many_messages_those_before_an_unusable_one_are_published(
    app: Application,
) -> None:
    unusable: list[Any] = [Content.model_construct(number=wrong), Derived(number=1), None, b"raw"]
    async with app:
        for count, one in enumerate(unusable, 1):
            await warm_up(app)
            many: list[Any] = [*(Content(number=n) for n in range(7)), one, Content(number=8)]
            with pytest.raises(KafkaeskError):
                await app.publish_many("content", many)
            await app.flush()

            assert app.status().published["acked"] == count * (3 + 7)


async def test_an_iterable_that_raises_has_published_what_it_yielded(app: Application) -> None:
    def numbers() -> Iterator[Content]:
        yield from (Content(number=number) for number in range(7))
        raise LookupError("no more")

    async with app:
        await warm_up(app)
        with pytest.raises(LookupError, match="no more"):
            await app.publish_many("content", numbers())
        await app.flush()

        assert app.status().published["acked"] == 3 + 7


@pytest.mark.rule_39
async def test_a_full_buffer_is_waited_for_and_empty_in_the_end(app: Application) -> None:
    app.configure(kafka_settings={"max_request_size": 1_500}, send_buffer_bytes=2_000)
    async with app:
        await warm_up(app)
        for number in range(2, 200):
            await app.publish("content", Content(number=number))
        await app.flush()

        assert app.status().published["acked"] == 201
        runtime = app._runtime
        assert runtime is not None
        assert runtime.publisher._buffer.used == 0


async def test_a_serializer_that_raises_is_an_invalid_message(app: Application) -> None:
    class Fragile(BaseModel):
        number: int

        @field_serializer("number")
        def write(self, number: int) -> int:
            if number > 1:
                raise RuntimeError("cannot be written")
            return number

    app.schema("Fragile", version=1)(Fragile)
    async with app:
        await app.publish_and_wait("warm", Fragile(number=0))
        await app.publish("warm", Fragile(number=1))

        with pytest.raises(KafkaeskError, match="cannot be serialised"):
            await app.publish("warm", Fragile(number=2))

        await app.publish_and_wait("warm", Fragile(number=1))
        assert app.status().published["acked"] == 3


class Changing:
    """A plugin whose layer changes a message as its test says, and whose observer notes it."""

    name = "changing"

    def __init__(self) -> None:
        self.change: Callable[[OutgoingMessage], object] = lambda message: None
        self.sent: list[str | None] = []
        self.observed: list[tuple[str | None, int]] = []

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: Any) -> Any:
        self.change(message)
        delivery = await call_next(message)
        self.sent.append(message.schema)
        return delivery

    @hookimpl
    def published(self, message: OutgoingMessage, metadata: Any) -> None:
        if metadata is not None and isinstance(message.data, (Content, Order)):
            self.observed.append((message.schema, message.data.number))


def change(**fields: Any) -> Callable[[OutgoingMessage], object]:
    def apply(message: OutgoingMessage) -> None:
        for name, value in fields.items():
            setattr(message, name, value)

    return apply


AT_1000 = change(timestamp_ms=1_000)


async def record_at(app: Application, metadata: Any) -> Any:
    servers = app.settings.kafka_servers
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    await consumer.start()
    try:
        partition = TopicPartition(metadata.topic, metadata.partition)
        consumer.assign([partition])
        consumer.seek(partition, metadata.offset)
        return await consumer.getone()
    finally:
        await consumer.stop()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (change(), ("content", b"key", b'{"schema":"Content:1","data":{"number":2}}', ())),
        (
            change(headers=[("a", b"1"), ("b", None)]),
            (
                *("content", b"key", b'{"schema":"Content:1","data":{"number":2}}'),
                (("a", b"1"), ("b", None)),
            ),
        ),
        (
            change(key=b"another"),
            ("content", b"another", b'{"schema":"Content:1","data":{"number":2}}', ()),
        ),
        (
            change(data=Content(number=7)),
            ("content", b"key", b'{"schema":"Content:1","data":{"number":7}}', ()),
        ),
        (
            change(data=Order(number=7), topic="warm"),
            ("warm", b"key", b'{"schema":"Order:1","data":{"number":7}}', ()),
        ),
        (
            change(topic="warm"),
            ("warm", b"key", b'{"schema":"Content:1","data":{"number":2}}', ()),
        ),
        (
            AT_1000,
            ("content", b"key", b'{"schema":"Content:1","data":{"number":2}}', ()),
        ),
    ],
    ids=["nothing", "headers", "key", "data", "model-and-topic", "topic", "timestamp"],
)
async def test_a_message_arrives_as_the_layers_of_plugins_left_it(
    app: Application, changed: Callable[[OutgoingMessage], object], expected: Any
) -> None:
    plugin = Changing()
    app.plugins.register(plugin)
    async with app:
        await warm_up(app)
        plugin.change = changed
        metadata = await (await app.publish("content", Content(number=2), b"key"))
        record = await record_at(app, metadata)
        await eventually(lambda: len(plugin.observed) == 4)  # three have warmed up

    assert (record.topic, record.key, record.value, record.headers) == expected
    assert plugin.sent[-1] == json.loads(record.value)["schema"]
    assert (plugin.sent[-1], json.loads(record.value)["data"]["number"]) in plugin.observed
    assert changed is not AT_1000 or record.timestamp == 1_000


@pytest.mark.parametrize("headers", [[("a", "text")], [(1, b"1")], [("a",)]])
async def test_headers_that_a_layer_got_wrong_fail_alike_on_both_ways(
    app: Application, headers: Any
) -> None:
    plugin = Changing()
    app.plugins.register(plugin)
    async with app:
        plugin.change = change(headers=headers)
        with pytest.raises((TypeError, ValueError)) as whole:
            await app.publish("content", Content(number=1))
        plugin.change = change()
        await warm_up(app)
        plugin.change = change(headers=headers)
        with pytest.raises((TypeError, ValueError)) as short:
            await app.publish("content", Content(number=1))
        plugin.change = change()
        await app.publish_and_wait("content", Content(number=3))  # room was given back

    assert (type(short.value), str(short.value)) == (type(whole.value), str(whole.value))


async def test_a_message_whose_headers_make_it_too_large_is_refused_on_the_short_way(
    app: Application,
) -> None:
    plugin = Changing()
    app.plugins.register(plugin)
    async with app:
        await warm_up(app)
        plugin.change = change(headers=[("large", b"." * 2_000_000)])
        with pytest.raises(MessageTooLargeError, match="content"):
            await app.publish("content", Content(number=2))


async def test_what_a_layer_behind_the_encoding_wrote_is_what_is_published(
    app: Application,
) -> None:
    async with app:
        await warm_up(app)
        app.plugins.register(Reversing())
        for number in (2, 3):
            await app.publish("content", Content(number=number), b"key")
        records = await consumed(app, 5)

    values = [record.value[::-1] for record in records if record.value.startswith(b"}}")]
    assert values == [b'{"schema":"Content:1","data":{"number":%d}}' % number for number in (2, 3)]


class Reversing:
    """A plugin that changes the bytes after the encoding."""

    name = "reversing"
    stage = "deliver"

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: Any) -> Any:
        message.encoded = (message.encoded or b"")[::-1]
        return await call_next(message)


class Holding:
    """A layer that changes a message, and holds it until it is told to go on."""

    name = "holding"

    def __init__(self, change: Callable[[OutgoingMessage], object], stage: str | None) -> None:
        self.stage = stage
        self._change = change
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: Any) -> Any:
        self._change(message)
        self.arrived.set()
        await self.go_on.wait()
        return await call_next(message)

    async def publish_and_unregister(self, app: Application, data: Content) -> Any:
        """Publish a message, which finishes after the plugin was taken away."""
        app.plugins.register(self)
        publishing = asyncio.create_task(app.publish_and_wait("content", data))
        await self.arrived.wait()
        app.plugins.unregister(self)
        self.go_on.set()
        return await publishing


async def test_where_a_layer_sent_its_last_message_no_other_follows(app: Application) -> None:
    """All later messages of the stream did, for as long as the application ran."""
    async with app:
        metadata = await Holding(change(topic="warm"), None).publish_and_unregister(
            app, Content(number=1)
        )
        await app.publish("warm", {"number": 2}, schema="Content:1")  # opens a batch
        delivery = await app.publish("content", Content(number=3))

        assert metadata.topic == "warm"
        assert (await delivery).topic == "content"


async def test_the_bytes_of_a_layer_that_was_taken_away_meanwhile_are_published(
    app: Application,
) -> None:
    """A layer that encrypts, say: the message went out as it was before."""

    def encrypt(message: OutgoingMessage) -> None:
        message.encoded = b"encrypted"

    async with app:
        await warm_up(app)
        metadata = await Holding(encrypt, "deliver").publish_and_unregister(app, Content(number=2))
        record = await record_at(app, metadata)

    assert record.value == b"encrypted"
