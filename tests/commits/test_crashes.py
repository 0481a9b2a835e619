"""Records that end their process: each end is an attempt of the record that caused it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from kafkaesk_core import Application, Subscriber, hookimpl
from kafkaesk_testing import Kafka, eventually

SERVICE = """
import asyncio, os, sys
from kafkaesk_core import Application, Skip, Subscriber, hookimpl
from kafkaesk_retry import RetryPlugin, RetrySettings

servers, prefix, with_retry = sys.argv[1:]

class GiveUp:
    @hookimpl
    async def wrap_consume(self, message, call_next):
        if message.attempt > 3:
            print("dead", message.offset, flush=True)
            raise Skip("it has ended its process three times")
        return await call_next(message)

plugin = RetryPlugin(RetrySettings(attempts=3)) if with_retry == "True" else GiveUp()
app = Application([servers], prefix,
                  {"heartbeat_interval_ms": 300, "session_timeout_ms": 3000,
                   "auto_offset_reset": "earliest",
                   # No commit but those around records: what they say must be right by itself.
                   "auto_commit_interval_ms": 60_000},
                  entry_points=False, partitions=2, count_crashes=True, plugins=[plugin])
is_over = asyncio.Event()

@app.subscribe("s", prefix + "g", ordering="unordered")
async def handle(data: bytes, subscriber: Subscriber) -> None:
    message = subscriber.message
    if data == b"poison":
        print("begun", message.attempt, flush=True)
        os._exit(9)
    await asyncio.sleep(0.001)
    print("handled", message.partition, message.offset, flush=True)
    if data == b"last":
        print("attempt", message.attempt, flush=True)
        is_over.set()

@app.subscribe("other", prefix + "other")
async def handle_other(data: bytes, subscriber: Subscriber) -> None:
    await asyncio.sleep(0.05)
    print("other", subscriber.message.attempt, flush=True)

async def main():
    async with app:
        MAIN

asyncio.run(main())
"""


CREATE_TOPICS = """
        await app.ensure_topic(prefix + "s")
        await app.ensure_topic(prefix + "other")
"""

CONSUME = """
        running = asyncio.create_task(app.consume_forever())
        await asyncio.wait([running, asyncio.ensure_future(is_over.wait())],
                           return_when=asyncio.FIRST_COMPLETED)
        await app.stop()
        await running
"""


@pytest.mark.slow
async def test_a_record_that_ends_its_process_is_given_up_and_no_other_is(kafka: Kafka) -> None:
    # Each restart waits until the broker has noticed the end of the process before: both at once.
    await asyncio.gather(*(_restart_until_done(kafka, retry) for retry in (False, True)))


async def _restart_until_done(kafka: Kafka, with_retry: bool) -> None:
    prefix = f"crashes-{uuid.uuid4().hex[:10]}."
    await _run(kafka, prefix, with_retry, CREATE_TOPICS)
    async with AIOKafkaProducer(bootstrap_servers=kafka.servers) as producer:
        for number in range(20):
            value = b"poison" if number == 7 else b"last" if number == 19 else b"x"
            await producer.send_and_wait(prefix + "s", value, partition=0)
        for _ in range(3):
            await producer.send_and_wait(prefix + "other", b"x", partition=0)

    runs = []
    for _ in range(6):
        runs.append(await _run(kafka, prefix, with_retry, CONSUME))
        if runs[-1].returncode == 0:
            break

    lines = [line for run in runs for line in run.stdout.splitlines()]
    assert [run.returncode for run in runs] == [9, 9, 9, 0], runs[-1].stderr
    assert [line for line in lines if line.startswith("begun")] == [f"begun {n}" for n in (1, 2, 3)]
    assert {line for line in lines if line.startswith("handled")} == {
        f"handled 0 {number}" for number in range(20) if number != 7
    }
    assert "other 4" not in lines
    if not with_retry:
        assert [line for line in lines if line.startswith("dead")] == ["dead 7"]
    else:
        assert "is the dead letter" in runs[-1].stderr
        assert "AttemptsExhaustedError" in runs[-1].stderr


async def _run(
    kafka: Kafka, prefix: str, with_retry: bool, main: str
) -> subprocess.CompletedProcess[str]:
    source = SERVICE.replace("        MAIN\n", main)
    command = [sys.executable, "-c", source, kafka.servers[0], prefix, str(with_retry)]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=80, check=False
    )


async def test_at_most_one_record_of_all_groups_is_said_to_have_begun(kafka: Kafka) -> None:
    prefix = f"begun-{uuid.uuid4().hex[:10]}."
    app = Application(
        kafka.servers, prefix, {"heartbeat_interval_ms": 300},
        entry_points=False, partitions=1, count_crashes=True, auto_commit_interval_ms=60_000,
    )  # fmt: skip
    groups = (prefix + "one", prefix + "two")
    topics = [TopicPartition(prefix + "s", 0)]
    notes: list[list[str]] = []

    async def handle(data: bytes) -> None:
        stored = [await admin.list_consumer_group_offsets(group) for group in groups]
        known = [offsets.get(topics[0]) for offsets in stored]
        notes.append([one.metadata for one in known if one is not None and one.metadata])

    for group in groups:
        app.subscribe("s", group)(handle)

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
    await admin.start()
    try:
        async with app:
            await app.raw_publish("s", b"x")
            await app.raw_publish("s", b"x")
            await app.consume_for(4, seconds=30)
    finally:
        await admin.close()

    assert [len(said) for said in notes] == [1] * 4, notes


class Hanging:
    """A layer that holds up the commits of one topic until it is over."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    @hookimpl
    async def wrap_commit(self, offsets: Any, call_next: Any) -> None:
        if any(partition.topic == "hung" for partition in offsets):
            await self.over.wait()
        await call_next(offsets)


async def test_a_layer_that_holds_up_commits_holds_up_no_record_of_others_for_long() -> None:
    """Each record waited for commit_timeout, in every subscription."""
    layer = Hanging()
    app = Application(
        "embedded://?topics=hung,fine&partitions=1", entry_points=False, plugins=[layer],
        count_crashes=True, commit_timeout=20, drain_timeout=0.5,
    )  # fmt: skip
    handled: list[str] = []

    async def handle(data: bytes, subscriber: Subscriber) -> None:
        handled.append(subscriber.message.topic)

    for topic in ("hung", "fine"):
        app.subscribe_to_topics([topic], "g")(handle)

    async with app:
        for number in range(10):
            await app.raw_publish("hung" if number < 5 else "fine", b"x")
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: len(handled) == 10, within=15)
        layer.over.set()
        await app.stop()
        await consuming

    assert sorted(handled) == ["fine"] * 5 + ["hung"] * 5
