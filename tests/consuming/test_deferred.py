"""What a handler defers: it waits in its lane, and is no failure (rules 1, 14, 16, 27)."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import (
    Application,
    BatchFailure,
    Defer,
    GroupStatus,
    IncomingMessage,
    PartitionStatus,
)
from kafkaesk_testing import consuming, eventually


def group(app: Application) -> GroupStatus:
    (only,) = app.status().groups
    return only


def partition_of(app: Application, number: int) -> PartitionStatus:
    (found,) = [one for one in group(app).partitions if one.partition == number]
    return found


@pytest.mark.rule_14
async def test_a_deferred_record_waits_for_its_time_and_its_attempt_does_not_count(
    embedded_app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    due = datetime.now(UTC)
    handled: list[bytes] = []
    attempts: list[int] = []

    @embedded_app.subscribe("deferred", "deferred", ordering="key")
    async def handle(data: bytes, record: ConsumerRecord) -> None:
        if record.key == b"late" and datetime.now(UTC) < due:
            raise Defer(due, "not due yet")
        handled.append(data)

    @embedded_app.hook
    async def wrap_consume(message: IncomingMessage, call_next: object) -> object:
        attempts.append(message.attempt)
        return await call_next(message)  # type: ignore[operator]  # a hook's chain

    async def publish() -> None:
        nonlocal due
        due = datetime.now(UTC) + timedelta(seconds=2)
        await embedded_app.raw_publish("deferred", b"first", b"late", partition=0)
        await embedded_app.raw_publish("deferred", b"behind", b"late", partition=0)
        await embedded_app.raw_publish("deferred", b"other", b"soon", partition=0)

    embedded_app.on("initialize", publish)
    with caplog.at_level(logging.INFO):
        async with consuming(embedded_app):
            await eventually(lambda: handled == [b"other"])
            waiting = partition_of(embedded_app, 0)
            health = embedded_app.health()
            await eventually(lambda: len(handled) == 3)
            counts = group(embedded_app).counts

    assert handled == [b"other", b"first", b"behind"]
    assert set(attempts) == {1}
    assert (waiting.parked, waiting.open) == (2, 2)
    assert waiting.next_due is not None
    assert 0 < waiting.next_due <= 2
    assert health.is_live
    assert counts["deferred"] >= 1
    assert "retry" not in counts
    assert [r for r in caplog.records if "@" in r.getMessage()] == [], "nothing is logged of it"


@pytest.mark.rule_1
@pytest.mark.rule_8
async def test_a_stop_does_not_wait_for_deferred_records_which_go_on_waiting_afterwards(
    kafkaesk_app: Application,
) -> None:
    app = kafkaesk_app
    app.configure(partitions=1)
    handled: list[bytes] = []

    @app.subscribe("deferred", "deferred", ordering="key")
    async def handle(data: bytes, record: ConsumerRecord) -> None:
        handled.append(data)
        if data == b"late":
            raise Defer(3600)

    async with app:
        for data in (b"done", b"late", b"above"):
            await app.raw_publish("deferred", data, data)
        running = asyncio.create_task(app.consume_forever())
        await eventually(lambda: len(handled) == 3 and partition_of(app, 0).parked == 1, within=20)
        async with asyncio.timeout(5):
            await app.stop()
            await running
        running = asyncio.create_task(app.consume_forever())
        await eventually(
            lambda: [p.parked for g in app.status().groups for p in g.partitions] == [1], within=20
        )
        found = partition_of(app, 0)
        await app.stop()
        await running

    assert (found.committed, found.next_due is not None and found.next_due > 3000) == (1, True)
    assert sorted(handled) == [b"above", b"done", b"late"], "the commit says what is done"


@pytest.mark.s9
async def test_of_a_batch_the_deferred_messages_come_again_at_the_same_attempt(
    embedded_app: Application,
) -> None:
    batches: list[list[tuple[bytes, int]]] = []

    @embedded_app.subscribe("deferred", "deferred", batch_size=3, batch_timeout=5)
    async def handle(batch: list[bytes]) -> None:
        if len(batches) == 1:
            raise BatchFailure({1: Defer(0.01)})

    @embedded_app.hook
    async def wrap_consume_batch(messages: list[IncomingMessage], call_next: object) -> object:
        batches.append([(message.value or b"", message.attempt) for message in messages])
        return await call_next(messages)  # type: ignore[operator]  # a hook's chain

    async with embedded_app:
        for data in (b"a", b"b", b"c"):
            await embedded_app.raw_publish("deferred", data, partition=0)
        await embedded_app.consume_for(3, seconds=20)

    assert batches == [[(b"a", 1), (b"b", 1), (b"c", 1)], [(b"b", 1)]]


async def test_on_error_may_defer(embedded_app: Application) -> None:
    attempts: list[int] = []

    def wait(error: BaseException, message: IncomingMessage) -> Defer:
        attempts.append(message.attempt)
        return Defer(0.01, "the shop is closed")

    @embedded_app.subscribe("deferred", "deferred", on_error=wait)
    async def handle(data: bytes) -> None:
        if len(attempts) < 2:
            raise ConnectionError("closed")

    async with embedded_app:
        await embedded_app.raw_publish("deferred", b"data")
        assert await embedded_app.consume_for(1, seconds=20) == 1

    assert attempts == [1, 1]


def test_the_delay_until_a_time_that_has_passed_is_zero() -> None:
    assert Defer(datetime.now(UTC) - timedelta(days=1)).delay == 0
    assert Defer(2.5).delay == 2.5
