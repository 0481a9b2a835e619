"""What a message costs where nothing waits, counted and not timed: calls, tasks, allocations.

A number that grows says that something was added to each message; lower it when it shrinks.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition
from pydantic import BaseModel

from kafkaesk_core import Application, Delivery, OutgoingMessage, Router, hookimpl
from kafkaesk_core.consumer.dispatch import Dispatcher, HandlerPipeline
from kafkaesk_core.consumer.error_policy import ErrorPolicy
from kafkaesk_core.consumer.handling import MessageHandling
from kafkaesk_core.handlers import ArgumentProviders, bind
from kafkaesk_core.hooks import PublishCall
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.router import Ordering, Subscription
from kafkaesk_core.scheduler import Lanes
from kafkaesk_core.schema.registry import Schemas
from kafkaesk_core.settings import Settings
from kafkaesk_core.threads import HandlerThreads
from kafkaesk_testing import EmbeddedBroker

MESSAGES = 500
PARTITION = TopicPartition("content", 0)


class Content(BaseModel):
    number: int


class Cost:
    """Python calls, tasks and bytes kept, per message."""

    def __init__(self) -> None:
        self.calls = 0.0
        self.tasks = 0
        self.kept = 0.0


async def measured(work: Callable[[], Awaitable[None]]) -> Cost:
    """The cost of handling MESSAGES messages, the second time."""
    await work()
    cost, loop = Cost(), asyncio.get_running_loop()

    def count_call(_: Any, event: str, __: Any) -> None:
        cost.calls += event == "call"

    def count_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        cost.tasks += 1
        return asyncio.Task(coro, loop=loop, **options)

    gc.collect()
    loop.set_task_factory(count_task)
    sys.setprofile(count_call)
    try:
        await work()
    finally:
        sys.setprofile(None)
        loop.set_task_factory(None)
    tracemalloc.start()
    try:
        await work()
        gc.collect()
        cost.kept = tracemalloc.get_traced_memory()[0] / MESSAGES
    finally:
        tracemalloc.stop()
    cost.calls /= MESSAGES
    return cost


async def cost_of_publishing(
    key: bytes | None, *, validate: bool, plugins: Sequence[object] = ()
) -> Cost:
    with EmbeddedBroker(topics={"content": 1}) as broker:
        app = Application(
            broker.servers, entry_points=False, validate_published=validate, plugins=plugins
        )
        app.schema("Content", version=1)(Content)
        content = Content(number=1)

        async def publish() -> None:
            for _ in range(MESSAGES):
                await app.publish("content", content, key)

        async with app:
            await app.publish_and_wait("content", content)
            return await measured(publish)


async def test_publishing_costs_few_calls_and_no_task() -> None:
    cost = await cost_of_publishing(None, validate=False)

    # One is the loop's is_running(), a quarter of the time of asyncio.get_running_loop(), in C.
    assert cost.calls <= 7.5
    assert cost.tasks == 0


async def test_a_key_and_validation_cost_little_more() -> None:
    cost = await cost_of_publishing(b"key", validate=True)

    assert cost.calls <= 8.5
    assert cost.tasks == 0


async def test_a_message_that_opens_a_batch_costs_few_calls() -> None:
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event == "call"

    with EmbeddedBroker(topics={"content": 3}) as broker:
        app = Application(broker.servers, entry_points=False)
        app.schema("Content", version=1)(Content)
        async with app:
            await app.publish_and_wait("content", Content(number=0))
            for number in range(50):
                sys.setprofile(count)
                delivery = await app.publish("content", Content(number=number))
                sys.setprofile(None)
                await delivery

    assert calls / 50 <= 31


async def test_publishing_many_costs_fewer_calls_each_until_all_are_acknowledged() -> None:
    with EmbeddedBroker(topics={"content": 1}) as broker:
        app = Application(broker.servers, entry_points=False)
        app.schema("Content", version=1)(Content)
        content = Content(number=1)

        async def publish() -> None:
            assert (
                await app.publish_many("content", itertools.repeat(content, MESSAGES)) == MESSAGES
            )

        async with app:
            cost = await measured(publish)

    assert cost.calls <= 8.5


class Passing:
    """A plugin whose layer only calls the next one."""

    name = "passing"

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Delivery:
        return await call_next(message)


async def test_a_layer_costs_its_own_calls_and_that_of_its_coroutine() -> None:
    cost = await cost_of_publishing(None, validate=False, plugins=[Passing()])

    assert cost.calls <= 15.5
    assert cost.tasks == 0


class Asked:
    """A plugin that is only asked: at start, and how it is."""

    name = "asked"
    claimed_streams = frozenset({"asked.*"})
    claimed_options = frozenset({"asked"})

    @hookimpl
    def declare(self, router: Router) -> None:
        router.subscribe_to_topics(["asked.own"], "asked")(self._handle)

    @hookimpl
    def check_subscription(self, subscription: Subscription) -> None: ...

    @hookimpl
    def health(self) -> list[str]:
        return []

    @hookimpl
    def report(self) -> dict[str, int]:
        return {}

    async def _handle(self, data: bytes) -> None: ...


async def test_a_plugin_that_is_only_asked_costs_no_message_anything() -> None:
    cost = await cost_of_publishing(None, validate=False, plugins=[Asked()])

    assert cost.calls <= 7.5
    assert cost.tasks == 0


async def cost_of_handling(ordering: Ordering, *, was_paused: bool = False) -> Cost:
    tracker: OffsetTracker[TopicPartition] = OffsetTracker()

    async def handler(data: Content) -> None: ...

    subscription = Subscription("content", handler, "group", topics=["content"], ordering=ordering)
    nothing: Any = lambda *_: None  # noqa: E731 (one for all that is not asked for)
    binding: Any = bind(
        subscription,
        decoder=Schemas().decoder,
        known=ArgumentProviders(one={}, batch={}),
        claim=nothing,
        threads=HandlerThreads(),
    )
    failures = ErrorPolicy(subscription, report_failure=nothing, find_raiser=nothing)
    handling = MessageHandling(subscription, binding, tracker, failures, None)
    lanes: Lanes[Any] = Lanes(handling.run, concurrency=None if ordering == "partition" else 10)
    pipeline = HandlerPipeline(handling, lanes, Settings())
    dispatcher = Dispatcher(tracker, [pipeline], stream_of=lambda topic: topic, max_bytes=10**9)
    tracker.assign([PARTITION])
    if was_paused:
        lanes.pause(lambda _: True)
        lanes.pause(None)
    dispatcher.is_open = True
    value = b'{"schema":"Content:1","data":{"number":1}}'
    offsets = iter(range(10 * MESSAGES))
    records = [
        ConsumerRecord(*PARTITION, next(offsets), 0, 0, b"%d" % n, value, None, 1, len(value), ())
        for n in range(5 * MESSAGES)
    ]

    async def handle() -> None:
        taken, records[:] = records[:MESSAGES], records[MESSAGES:]
        dispatcher.take(PARTITION, taken)
        assert await lanes.wait_idle([PARTITION], 5)

    cost = await measured(handle)
    assert tracker.state(PARTITION).watermark == 3 * MESSAGES
    assert await lanes.stop(1) == 0
    return cost


async def test_handling_in_the_order_of_a_partition_costs_few_calls_and_no_task() -> None:
    cost = await cost_of_handling("partition")

    assert cost.calls <= 6.5
    assert cost.tasks == 0  # its worker waited for these records
    assert cost.kept < 60


async def test_a_pause_that_has_ended_costs_nothing() -> None:
    cost = await cost_of_handling("partition", was_paused=True)

    assert cost.calls <= 6.5
    assert cost.tasks == 0  # its worker waited for these records
    assert cost.kept < 60


async def test_handling_in_the_order_of_keys_costs_tasks_per_slot_and_not_per_message() -> None:
    cost = await cost_of_handling("key")

    assert cost.calls <= 24
    assert cost.tasks <= 10 + 1
    assert cost.kept < 64  # with the waiting worker, which is one for all of them


async def test_handling_in_no_order_costs_few_calls_and_no_task_per_message() -> None:
    cost = await cost_of_handling("unordered")

    assert cost.calls <= 18
    assert cost.tasks <= 10 + 1
    assert cost.kept < 40
