"""One record and what becomes of it: every failure is decided, no offset is closed for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiokafka.errors as kafka
import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.binding import Binding
from kafkaesk_core.consumer.failures import Failures
from kafkaesk_core.consumer.handling import MessageHandling
from kafkaesk_core.consumer.job import Buffered, Job, Portion
from kafkaesk_core.ledger import Ledger
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.outcome import Outcome
from kafkaesk_core.subscription import Subscription

PARTITION = TopicPartition("topic", 0)


class One:
    """One record at offset 5, its handling and its ledger."""

    def __init__(self, call: Callable[[IncomingMessage], Awaitable[Any]], on_error: Any) -> None:
        async def handler(data: bytes) -> None: ...

        subscription = Subscription("id", handler, "group", pattern="*", on_error=on_error)
        self.ledger: Ledger[TopicPartition] = Ledger()
        self.ledger.assign([PARTITION])
        epoch = self.ledger.register(PARTITION, [5], 0.0)
        self.stopped: list[Exception] = []
        failures = Failures(subscription, stopped=self.stopped.append, blame=lambda _: None)
        self.handling = MessageHandling(subscription, Binding(call), self.ledger, failures, None)
        record = ConsumerRecord(*PARTITION, 5, 0, 0, None, b"value", None, -1, 5, ())
        self.buffered = Buffered()
        self.buffered.size = 205.0
        finish = self.ledger.finisher(PARTITION)
        portion = Portion(
            PARTITION, epoch, "stream", finish=finish, buffered=self.buffered, room=205.0
        )
        self.job = Job(record, portion)

    async def run(self) -> Outcome:
        return await self.handling.run([self.job])


@pytest.mark.parametrize("error", [kafka.IllegalStateError, kafka.CommitFailedError, KeyError])
async def test_f6_where_nothing_else_is_said_a_failure_stops_and_closes_no_offset(
    error: type[Exception],
) -> None:
    async def call(message: IncomingMessage) -> None:
        raise error("of the handler")

    one = One(call, "stop")

    outcome = await one.run()

    assert outcome.kind == "stop"
    assert one.ledger.watermark(PARTITION) == 5
    assert len(one.stopped) == 1


async def test_an_error_whose_text_cannot_be_shown_is_a_failure_like_others() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise AttributeError("no text")

    async def call(message: IncomingMessage) -> None:
        raise Broken

    one = One(call, "stop")

    assert (await one.run()).kind == "stop"
    assert "Broken, whose text cannot be shown" in str(one.stopped[0])


async def test_a_cancelled_handler_leaves_its_record_open() -> None:
    """Rule 21."""
    started = asyncio.Event()

    async def call(message: IncomingMessage) -> None:
        started.set()
        await asyncio.Event().wait()

    one = One(call, "skip")
    running = asyncio.create_task(one.run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert one.ledger.watermark(PARTITION) == 5
    assert one.handling.counts == {}
