"""How much is read ahead: a record that waits, or is slow, delays no other partition (rule 16)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.consumer.dispatch import (
    QUEUE_HIGH,
    READ_AHEAD,
    Dispatcher,
    HandlerPipeline,
)
from kafkaesk_core.consumer.error_policy import ErrorPolicy
from kafkaesk_core.consumer.fetched import FetchedRecord
from kafkaesk_core.consumer.handling import MessageHandling
from kafkaesk_core.errors import Retry
from kafkaesk_core.handlers import Binding
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.router import Ordering, Subscription
from kafkaesk_core.scheduler import Lanes
from kafkaesk_core.settings import Settings
from kafkaesk_testing import eventually

A, B, C, D = (TopicPartition("topic", number) for number in range(4))
BUFFER = 1_000_000


class Reading:
    """Partitions with records of 1,000 bytes; those of the key b"late" ask for a retry."""

    def __init__(
        self,
        *partitions: TopicPartition,
        ordering: Ordering = "partition",
        limit: int = 10_000,
        is_quick: bool = False,
    ) -> None:
        self.tracker: OffsetTracker[TopicPartition] = OffsetTracker()
        self.tracker.assign(partitions)
        self.release = asyncio.Event()
        self.handled: list[tuple[int, int]] = []

        async def handler(data: bytes) -> None: ...

        subscription = Subscription("id", handler, "group", pattern="*", ordering=ordering)
        failures = ErrorPolicy(
            subscription, report_failure=lambda _: None, find_raiser=lambda _: None
        )
        binding = Binding(self._handle, (lambda value: value, self._handle_value))
        handling = MessageHandling(subscription, binding, self.tracker, failures, None)
        if not is_quick:
            handling.put_around(lambda chain, message: chain(message))  # it gets messages
        self.lanes: Lanes[FetchedRecord] = Lanes(handling.run, concurrency=100)
        self.dispatcher = Dispatcher(
            self.tracker,
            [HandlerPipeline(handling, self.lanes, Settings(max_uncommitted=limit))],
            stream_of=lambda topic: topic,
            max_bytes=BUFFER,
        )
        self.dispatcher.is_open = True
        self._next = dict.fromkeys(partitions, 0)

    async def _handle(self, message: IncomingMessage) -> None:
        if message.key == b"late":
            raise Retry(delay=60)
        await self.release.wait()
        self.handled.append((message.partition, message.offset))

    async def _handle_value(self, value: bytes) -> None:
        self.handled.append((0, len(self.handled)))
        if len(self.handled) > 10:
            await self.release.wait()

    def take(self, partition: TopicPartition, count: int, key: bytes = b"key") -> None:
        first = self._next[partition]
        self._next[partition] = first + count
        value: Any = b"." * (1_000 - 200 - len(key))
        self.dispatcher.take(
            partition,
            [
                ConsumerRecord(*partition, n, 0, 0, key, value, None, 3, 800, ())
                for n in range(first, first + count)
            ],
        )

    async def parked(self, partition: TopicPartition) -> None:
        await eventually(lambda: self.lanes.parked(partition))


async def test_a_partition_whose_head_waits_for_a_retry_is_read_ahead_a_little() -> None:
    reading = Reading(A, B)
    reading.take(A, 1, b"late")
    await reading.parked(A)

    assert reading.dispatcher.wanted() == [A, B]
    reading.take(A, READ_AHEAD - 1)
    assert reading.dispatcher.wanted() == [B]


async def test_a_partition_with_more_than_its_share_leaves_theirs_to_others() -> None:
    """It had the whole buffer, and the others stood still while it waited."""
    reading = Reading(A, B, C, D)

    while A in reading.dispatcher.wanted():
        reading.take(A, 100)

    assert reading.dispatcher.buffered_bytes <= BUFFER / 2 + 100_000
    for other in (B, C, D):
        while other in reading.dispatcher.wanted():
            reading.take(other, 25)
        assert reading.lanes.size(other) >= BUFFER / 8 / 1_000
    assert reading.dispatcher.wanted() == []
    assert reading.dispatcher.buffered_bytes <= BUFFER * 1.1
    assert await reading.lanes.stop(1) == 0


async def test_who_is_alone_has_the_whole_buffer() -> None:
    reading = Reading(A)

    while reading.dispatcher.wanted():
        reading.take(A, 100)

    assert reading.dispatcher.buffered_bytes == BUFFER
    assert await reading.lanes.stop(1) == 0


async def test_what_is_done_takes_no_room_while_the_next_handler_waits() -> None:
    reading = Reading(A, is_quick=True)
    reading.take(A, 100)
    await eventually(lambda: len(reading.handled) == 11)

    assert reading.dispatcher.buffered_bytes == 90_000
    assert await reading.lanes.stop(1) == 0


async def test_offsets_are_settled_once_however_many_partitions_are_asked_for_room() -> None:
    """A group may have many handlers and partitions, and is polled for each record."""
    reading, settled = Reading(A, B, C, D), list[None]()
    reading.tracker.settlers.append(lambda: settled.append(None))

    assert reading.dispatcher.wanted() == [A, B, C, D]
    assert len(settled) == 1


async def test_others_go_on_when_they_have_room_again() -> None:
    reading = Reading(A, B)
    reading.take(A, 1, b"late")
    reading.take(A, 600)
    await reading.parked(A)
    reading.take(B, 300)
    assert reading.dispatcher.wanted() == []

    reading.release.set()
    await eventually(lambda: len(reading.handled) == 300)

    assert reading.dispatcher.wanted() == [B]


@pytest.mark.parametrize("ordering", ["key", "unordered"])
async def test_one_key_that_waits_holds_up_no_other_key(ordering: Ordering) -> None:
    """What waits behind it does not count among what is read ahead."""
    reading = Reading(A, B, ordering=ordering, limit=50_000)
    reading.dispatcher._max_bytes = 1_000_000_000
    reading.take(A, QUEUE_HIGH + 1, b"late")
    await reading.parked(A)
    await eventually(lambda: reading.lanes.parked(A) == QUEUE_HIGH + 1)

    assert reading.dispatcher.wanted() == [A, B]
    reading.take(A, QUEUE_HIGH)
    assert reading.dispatcher.wanted() == [B]
    reading.release.set()
    await eventually(lambda: len(reading.handled) == QUEUE_HIGH)
    assert reading.dispatcher.wanted() == [A, B]


@pytest.mark.rule_11
async def test_what_waits_behind_a_key_is_bounded_by_max_uncommitted() -> None:
    reading = Reading(A, ordering="key", limit=50)
    reading.take(A, 1, b"late")
    await reading.parked(A)
    reading.release.set()
    reading.take(A, 49)
    await eventually(lambda: len(reading.handled) == 49)

    assert reading.dispatcher.wanted() == []


@pytest.mark.rule_13
@pytest.mark.rule_14
@pytest.mark.rule_15
@pytest.mark.parametrize(("ordering", "at_once"), [("partition", 1), ("key", 2), ("unordered", 4)])
async def test_as_much_runs_at_once_as_the_order_allows(ordering: Ordering, at_once: int) -> None:
    """Two records of each of two keys."""
    reading = Reading(A, ordering=ordering)
    for key in (b"one", b"two"):
        reading.take(A, 2, key)
    await eventually(lambda: reading.lanes.running)

    running = reading.lanes.running
    reading.release.set()
    await eventually(lambda: len(reading.handled) == 4)

    assert running == at_once
