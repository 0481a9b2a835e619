"""Seeks past, and back to, records whose dead letter cannot be written yet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from kafkaesk_core import Application, Subscriber
from kafkaesk_retry import RetryPlugin, RetrySettings
from kafkaesk_retry.letter import Origin, Postponed
from kafkaesk_retry.places import Place
from kafkaesk_testing import eventually

GROUP, STREAM = "g" * 150, "s" * 100
"""No topic can have the name of their dead letters: they cannot be written."""


class Service:
    """An application whose records fail if they are bad; `raw` is the client of the group."""

    def __init__(self) -> None:
        self.plugin = RetryPlugin(RetrySettings(attempts=1, dead_limit=0, count_interval=0))
        self.app = Application("embedded://", plugins=[self.plugin], entry_points=False)
        self.app.configure(auto_commit_interval_ms=50)
        self.calls: list[bytes] = []
        self.raw: Any = None

        @self.app.subscribe("s*", GROUP)  # by pattern: no topic is made at the start
        async def handle(data: bytes, subscriber: Subscriber) -> None:
            self.calls.append(data)
            self.raw = subscriber.consumer.raw or self.raw  # None: it waited in a topic
            if data.startswith(b"bad"):
                raise ValueError(data)

    @property
    def is_troubled(self) -> bool:
        return any("cannot be written" in reason for reason in self.app.health().reasons)

    async def consume(self) -> asyncio.Task[None]:
        running = asyncio.create_task(self.app.consume_forever())
        await eventually(lambda: self.is_troubled, within=20)
        return running


async def test_a_letter_that_a_seek_has_passed_over_is_no_trouble_any_more() -> None:
    """Health told of it for as long as the process lived, though nothing waited for it."""
    one = Service()
    async with one.app:
        for value in (b"bad", b"bad too", b"good"):
            await one.app.raw_publish(STREAM, value, partition=0)
        running = await one.consume()

        one.raw.seek(TopicPartition(STREAM, 0), 2)

        await eventually(lambda: one.calls[-1] == b"good", within=20)
        await eventually(lambda: not one.is_troubled, within=20)
        assert one.calls == [b"bad", b"good"]
        await one.app.stop()
        await running


async def test_a_letter_that_still_waits_stays_a_trouble() -> None:
    one = Service()
    async with one.app:
        await one.app.raw_publish(STREAM, b"good", partition=0)
        await one.app.raw_publish(STREAM, b"bad", partition=0)
        running = await one.consume()
        await eventually(lambda: committed(one.app, STREAM) == 1, within=20)

        assert one.is_troubled
        await one.app.stop()
        await running


def committed(app: Application, topic: str) -> int | None:
    partitions = [p for group in app.status().groups for p in group.partitions]
    return next((p.committed for p in partitions if (p.topic, p.partition) == (topic, 0)), None)


async def test_a_seek_back_to_a_record_that_waited_handles_it_again() -> None:
    """With several handlers in the group, its old letter was written instead."""
    one = Service()

    @one.app.subscribe("others", GROUP)
    async def handle_others(data: bytes, subscriber: Subscriber) -> None:
        one.raw = subscriber.consumer.raw

    waiting = Postponed(Origin(Place(STREAM, 0, 5), replays=1), GROUP, None, b"bad", [], None)
    stream = f"retry.{GROUP}.0"
    async with one.app:
        await one.app.raw_publish("others", b"1")
        await one.app.forward(stream, b"bad", headers=waiting.all_headers("kafka"), partition=0)
        running = await one.consume()
        await eventually(lambda: one.raw, within=20)
        assert one.calls == [b"bad"]

        one.raw.seek(TopicPartition(stream, 0), 0)

        await eventually(lambda: len(one.calls) == 2, within=20)
        await one.app.stop()
        await running


async def test_a_waiting_record_that_no_handler_can_get_is_skipped_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With several handlers, it was handed round in circles."""
    app = Application("embedded://", plugins=[RetryPlugin()], entry_points=False)
    done: list[bytes] = []
    for stream in ("one", "two"):

        @app.subscribe(stream, "group")
        async def handle(data: bytes) -> None:
            done.append(data)

    async with app:
        await app.raw_publish("retry.group.0", b"foreign", partition=0)
        await app.raw_publish("one", b"1")
        assert await app.consume_for(2, seconds=20) == 2

    assert done == [b"1"]
    assert "retry.group.0[0]@0" in caplog.text
    assert "does not say which record it was" in caplog.text
