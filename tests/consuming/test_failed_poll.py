"""A poll that fails loses nothing of what the client had taken out of its buffers by then."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Application, Subscriber
from kafkaesk_core.kafka import records
from kafkaesk_core.kafka.consumer import GroupMember
from kafkaesk_core.message import ParsedRecord
from kafkaesk_testing import EmbeddedBroker, eventually

Place = tuple[int, int]


class Corruption:
    """Lets a checksum be wrong in the second partition that one call of getmany drains."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fell_on: set[TopicPartition] = set()
        self.lost: list[Place] = []
        self._drained: list[Place] = []
        getmany, take = AIOKafkaConsumer.getmany, records.take_records

        async def call(consumer: Any, *partitions: TopicPartition, **options: Any) -> Any:
            self._drained = []
            return await getmany(consumer, *partitions, **options)

        def drain(result: Any, *arguments: Any) -> list[ParsedRecord]:
            if self._drained and not self.fell_on:
                self.fell_on.add(result._topic_partition)
                self.lost = self._drained
                raise CorruptRecordException("a checksum is wrong")
            taken = take(result, *arguments)
            number = result._topic_partition.partition
            self._drained += [(number, record.offset) for record in taken]
            return taken

        monkeypatch.setattr(AIOKafkaConsumer, "getmany", call)
        monkeypatch.setattr(records, "take_records", drain)


async def test_what_a_failed_poll_had_drained_of_others_is_read_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """getmany drains one partition after the other: the positions of the first had moved on."""
    got: list[Place] = []
    with EmbeddedBroker(topics={"content": 2}) as broker:
        app = Application(broker.servers, entry_points=False)

        @app.subscribe("content", "group", ordering="partition")
        async def handle(record: ConsumerRecord) -> None:
            got.append((record.partition, record.offset))

        async with app:
            for number in range(40):
                await app.raw_publish("content", b"value", partition=number % 2)
            await app.flush()
            corruption = Corruption(monkeypatch)
            consuming = asyncio.create_task(app.consume_forever())
            await eventually(lambda: len(set(got)) == 40, within=20)
            await app.stop()
            await consuming

    assert corruption.fell_on, "the poll that was to fail did not"
    assert corruption.lost, "it had drained nothing of the other partition"
    assert sorted(got) == [(partition, offset) for partition in (0, 1) for offset in range(20)]
    (told,) = [text for text in caplog.messages if "a checksum is wrong" in text]
    assert told.startswith("group group: polling failed: ")


@pytest.mark.u9
@pytest.mark.parametrize("at_end", [False, True], ids=["beginning", "end"])
async def test_a_seek_that_the_brokers_answered_in_a_poll_that_failed_is_still_followed(
    monkeypatch: pytest.MonkeyPatch, at_end: bool
) -> None:
    """The group went on where it was before, without a word."""
    got: list[int] = []
    place = TopicPartition("content", 0)
    with EmbeddedBroker(topics={"content": 1}) as broker:
        app = Application(broker.servers, entry_points=False)
        failing = FailingFetch(monkeypatch)

        @app.subscribe("content", "group", ordering="partition")
        async def handle(record: ConsumerRecord, subscriber: Subscriber) -> None:
            got.append(record.offset)
            if len(got) == 5:
                raw = subscriber.consumer.raw
                failing.awaits = raw._subscription.subscription.assignment.state_value(place)
                await (raw.seek_to_end if at_end else raw.seek_to_beginning)(place)
                if at_end:
                    await app.raw_publish("content", b"the next")
                await asyncio.Event().wait()  # the seek ends it

        async with app:
            for _ in range(8):
                await app.raw_publish("content", b"value")
            await app.flush()
            consuming = asyncio.create_task(app.consume_forever())
            wanted = [0, 1, 2, 3, 4, 8] if at_end else [0, 1, 2, 3, 4, *range(8)]
            await eventually(lambda: got == wanted, within=20)
            sought = app.status().groups[0].counts["positions_sought"]
            await app.stop()
            await consuming

    assert failing.lost, "the poll that was to fail did not"
    assert sought == 1


class FailingFetch:
    """Lets the first poll fail that takes records after the position that it awaits is known."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.awaits: Any = None
        self.lost: list[ParsedRecord] = []
        take = records.take_records

        def drain(*arguments: Any) -> list[ParsedRecord]:
            taken = take(*arguments)
            if self.awaits is not None and self.awaits.has_valid_position and taken:
                self.awaits, self.lost = None, taken
                raise CorruptRecordException("a checksum is wrong")
            return taken

        monkeypatch.setattr(records, "take_records", drain)


class Rewound:
    """A member whose poll fails; its partition was at `before` when the poll began."""

    def __init__(self, before: int | None) -> None:
        self.partition = TopicPartition("content", 0)
        subscriptions: Any = SubscriptionState()
        subscriptions.assign_from_user({self.partition})
        assignment = subscriptions.subscription.assignment
        self.state = assignment.state_value(self.partition)
        fetcher: Any = SimpleNamespace(
            _records={},
            seek_to=subscriptions.seek,
            request_offset_reset=lambda partitions, strategy: self.state.await_reset(strategy),
        )
        self.client: Any = SimpleNamespace(
            _subscription=subscriptions,
            _fetcher=fetcher,
            assignment=lambda: {self.partition},
            seek=lambda partition, offset: fetcher.seek_to(partition, offset),
        )
        self.member = GroupMember([], "group", {})
        self.member._consumer = self.client
        self.member._note_sought(fetcher)
        self._before: Any = {self.state: before}
        self.state.reset_to(10)

    def seek_to_beginning(self) -> None:
        self.client._fetcher.request_offset_reset([self.partition], -2)

    def rewind(self) -> int | None:
        self.member._rewind([self.partition], self._before)
        position: int | None = self.state._position
        return position


@pytest.mark.u9
@pytest.mark.parametrize("position", [3, 5], ids=["not read yet", "read and lost"])
async def test_what_is_sought_during_a_poll_that_fails_is_still_sought(position: int) -> None:
    """It was undone, without a word."""
    one = Rewound(before=10)
    one.client.seek(one.partition, 3)
    one.state.consumed_to(position)

    assert one.rewind() == 3
    assert one.member.take_sought() == {one.partition: (10, 3)}


@pytest.mark.u9
async def test_the_beginning_that_is_sought_during_a_poll_that_fails_is_still_sought() -> None:
    one = Rewound(before=10)
    one.seek_to_beginning()

    assert one.rewind() is None
    assert one.member.take_sought() == {}, "the brokers have not answered"
    one.state.reset_to(0)
    assert one.member.take_sought() == {one.partition: (10, 0)}


@pytest.mark.u9
@pytest.mark.parametrize("before", [10, None], ids=["sought in the poll", "sought before it"])
@pytest.mark.parametrize("position", [2, 5], ids=["not read yet", "read and lost"])
async def test_the_beginning_that_is_found_during_a_poll_that_fails_is_still_sought(
    before: int | None, position: int
) -> None:
    """The partition went back to where it was, or to the committed offset."""
    one = Rewound(before)
    one.seek_to_beginning()
    one.state.reset_to(2)
    one.state.consumed_to(position)

    assert one.rewind() == 2
    assert one.member.take_sought() == {one.partition: (10, 2)}
    assert one.member.take_sought() == {}


@pytest.mark.u9
async def test_records_that_are_not_taken_do_not_undo_a_seek_that_has_no_answer_yet() -> None:
    one = Rewound(before=10)
    one.seek_to_beginning()

    one.member.reread(one.partition, 7)
    one.state.reset_to(0)

    assert one.member.take_sought() == {one.partition: (10, 0)}


async def test_the_last_of_several_seeks_counts() -> None:
    one = Rewound(before=10)
    one.seek_to_beginning()
    one.state.reset_to(0)
    one.seek_to_beginning()
    one.client.seek(one.partition, 4)

    assert one.member.take_sought() == {one.partition: (10, 4)}


async def test_what_was_sought_with_a_member_that_is_stopped_is_forgotten() -> None:
    """A stop that comes while a lost member is replaced asks for it, and failed."""
    one = Rewound(before=10)
    one.seek_to_beginning()
    one.member._consumer = None

    assert one.member.take_sought() == {}


async def test_where_nothing_was_sought_a_failed_poll_goes_back() -> None:
    one = Rewound(before=10)
    one.state.consumed_to(20)

    assert one.rewind() == 10
