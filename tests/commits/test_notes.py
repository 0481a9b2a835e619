"""What commits remember beside their offsets, and what a restart makes of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from kafkaesk_core import Application, ConsumerRecord, IncomingMessage, Retry, Subscriber
from kafkaesk_core.consumer.attempts import Attempt
from kafkaesk_core.consumer.notes import LONGEST, decode, encode
from kafkaesk_testing import Kafka, eventually

# --- the text


def ranges(offsets: Iterable[int]) -> list[range]:
    return [range(offset, offset + 1) for offset in sorted(offsets)]


@given(
    base=st.integers(0, 2**40),
    attempts=st.dictionaries(
        st.integers(0, 20_000),
        st.one_of(
            st.tuples(st.integers(2, 10**6), st.just(0), st.just(0), st.integers(0, 9)),
            st.tuples(*[st.integers(1, 10**6), st.integers(1, 2**42)] * 2),
        ),
        max_size=20,
    ),
    done=st.sets(st.integers(0, 20_000), max_size=50),
)
def test_a_note_reads_as_it_was_written(
    base: int, attempts: dict[int, tuple[int, int, int, int]], done: set[int]
) -> None:
    text = encode(
        base, {base + k: Attempt(*v) for k, v in attempts.items()}, ranges(base + k for k in done)
    )

    note = decode(base, text)

    assert len(text.encode()) <= LONGEST
    if note is None:
        assert not attempts
        assert not done
        return
    assert note.attempts == {base + k: v for k, v in attempts.items()}
    assert {offset - base for part in note.done for offset in part} == done


def test_a_note_that_would_be_too_long_leaves_out_what_lies_highest() -> None:
    attempts = {offset: Attempt(3, 1_764_230_400_000, 5000, 1) for offset in range(0, 4000, 2)}
    done = set(range(1, 40_000, 2))

    text = encode(0, attempts, ranges(done))

    note = decode(0, text)
    assert note is not None
    assert LONGEST - 100 < len(text) <= LONGEST
    assert list(note.attempts) == sorted(attempts)[: len(note.attempts)]
    assert [part.start for part in note.done] == sorted(done)[: len(note.done)]


def test_what_says_nothing_is_empty() -> None:
    assert encode(5, {}, ()) == ""
    assert encode(5, {4: Attempt(2), 6: Attempt(1)}, ranges({3})) == ""
    assert decode(5, "") is None


@pytest.mark.parametrize(
    "text",
    ["x", "kafkaesk1", "kafkaesk1 1", "kafkaesk2 0 a=1:2", "kafkaesk1 0 a=1", "kafkaesk1 0 a=-1:2",
     "kafkaesk1 0 d=1-", "kafkaesk1 0 d=5,3", "kafkaesk1 0 d=1-5,5", "kafkaesk1 0 c=1:1 a=1:2",
     "kafkaesk1 0 a=1:2:5",
     "kafkaesk1  0 a=1:2", "kafkaesk1 0 d=0-99999999", "kafkaesk1 1002 d=1-5",
     "kafkaesk1 0 d=0-99999999999999999999", "kafkaesk1 0 a=0:2:" + "9" * 400,
     "kafkaesk1 0 a=" + "1:2," * 2000 + "1:2"],
)  # fmt: skip
def test_a_foreign_or_broken_note_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|stands beside"):
        decode(0, text)


# --- on Kafka


def new_app(kafka: Kafka, prefix: str, **settings: Any) -> Application:
    return Application(
        kafka.servers,
        prefix,
        {"heartbeat_interval_ms": 300, "metadata_max_age_ms": 1000},
        entry_points=False,
        partitions=1,
        auto_commit_interval_ms=100,
        **settings,
    )


@pytest.fixture
def prefix() -> str:
    return f"notes-{uuid.uuid4().hex[:10]}."


async def committed(kafka: Kafka, group: str, topic: str) -> OffsetAndMetadata | None:
    """The committed offset and what stands beside it."""
    async with AIOKafkaConsumer(bootstrap_servers=kafka.servers, group_id=group) as consumer:
        partition = TopicPartition(topic, 0)
        found = await consumer._coordinator.fetch_committed_offsets([partition])
        return found.get(partition)


async def publish(kafka: Kafka, topic: str, *keys: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.servers) as producer:
        for key in keys:
            await producer.send_and_wait(topic, b"x", key=key)


async def consume(app: Application, until: Any) -> None:
    async with app:
        running = asyncio.create_task(app.consume_forever())
        await eventually(until, within=20)
        await app.stop()
        await running


def seen_by(app: Application, prefix: str, *, delays: list[float]) -> list[int]:
    """The attempts that a handler sees, which retries after these delays."""
    seen: list[int] = []

    @app.subscribe("s", prefix + "g")
    async def handle(data: bytes, subscriber: Subscriber) -> None:
        seen.append(subscriber.message.attempt)
        raise Retry(delay=delays[min(len(seen), len(delays)) - 1])

    return seen


@pytest.mark.rule_31
async def test_attempts_and_due_times_survive_a_restart(kafka: Kafka, prefix: str) -> None:
    first, second = new_app(kafka, prefix), new_app(kafka, prefix)
    before = seen_by(first, prefix, delays=[0.01, 0.01, 60.0])
    after = seen_by(second, prefix, delays=[60.0])
    async with first:
        await (await first.raw_publish("s", b"x"))

    await consume(first, lambda: _is_parked(first))
    stored = await committed(kafka, prefix + "g", prefix + "s")
    await consume(second, lambda: _is_parked(second))

    assert before == [1, 2, 3]
    assert stored is not None
    assert stored.offset == 0
    assert stored.metadata.startswith("kafkaesk1 0 a=0:4:")
    assert after == []  # it is due in a minute, in this process too


async def test_a_record_that_is_due_is_handled_in_its_next_attempt(
    kafka: Kafka, prefix: str
) -> None:
    first, second = new_app(kafka, prefix), new_app(kafka, prefix)
    seen_by(first, prefix, delays=[0.01, 2.0])
    after = seen_by(second, prefix, delays=[60.0])
    async with first:
        await (await first.raw_publish("s", b"x"))

    await consume(first, lambda: _retries(first) == 2)
    await consume(second, lambda: after)

    assert after == [3]


async def test_without_the_setting_nothing_is_stored_and_attempts_begin_anew(
    kafka: Kafka, prefix: str
) -> None:
    first, second = (new_app(kafka, prefix, commit_notes=False) for _ in range(2))
    before = seen_by(first, prefix, delays=[0.01, 0.01, 60.0])
    after = seen_by(second, prefix, delays=[60.0])
    async with first:
        await (await first.raw_publish("s", b"x"))

    await consume(first, lambda: _is_parked(first))
    stored = await committed(kafka, prefix + "g", prefix + "s")
    await consume(second, lambda: after)

    assert (before, after) == ([1, 2, 3], [1])
    assert stored is None or stored.metadata == ""


def _retries(app: Application) -> int:
    groups = app.status().groups
    return groups[0].counts.get("retry", 0) if groups else 0


def _is_parked(app: Application) -> bool:
    groups = app.status().groups
    partitions = groups[0].partitions if groups else ()
    return any(p.parked == 1 and 40 < (p.next_due or 0) <= 60 for p in partitions)


CRASHING = """
import asyncio, os, sys
from kafkaesk_core import Application, Retry, Subscriber

servers, prefix, mode = sys.argv[1:]
app = Application([servers], prefix, {"heartbeat_interval_ms": 300, "session_timeout_ms": 6000},
                  entry_points=False, partitions=1, auto_commit_interval_ms=100)

@app.subscribe("s", prefix + "g", ordering="key")
async def handle(data: bytes, subscriber: Subscriber) -> None:
    message = subscriber.message
    print(message.offset, message.attempt, flush=True)
    if message.offset == 0 and message.attempt < 3:
        raise Retry(delay=0.01 if mode == "crash" else 0.0)
    if message.offset == 0 and mode == "crash":
        raise Retry(delay=3600)

async def main():
    async with app:
        running = asyncio.create_task(app.consume_forever())
        while mode == "crash" and not is_noted():
            await asyncio.sleep(0.01)
        if mode == "crash":
            os._exit(9)
        await asyncio.sleep(4)
        await app.stop()
        await running

def is_noted():
    groups = app.status().groups
    counts = groups[0].counts if groups else {}
    return counts.get("done") == 9 and counts.get("retry") == 3 and counts.get("commits", 0) >= 1 \\
        and all(p.open == 1 for p in groups[0].partitions) and settled()

seen = []
def settled():
    seen.append(app.status().groups[0].counts["commits"])
    return len(seen) > 60

asyncio.run(main())
"""


async def test_a_crash_redelivers_neither_what_is_done_nor_from_the_first_attempt(
    kafka: Kafka, prefix: str
) -> None:
    async with new_app(kafka, prefix) as app:
        for number in range(10):
            await (await app.raw_publish("s", b"x", key=str(number).encode()))

    crashed = await _run(kafka, prefix, "crash")
    stored = await committed(kafka, prefix + "g", prefix + "s")
    again = await _run(kafka, prefix, "again")

    assert crashed.returncode == 9, crashed.stderr
    assert stored is not None
    assert stored.offset == 0
    assert stored.metadata.startswith("kafkaesk1 0 a=0:4:")
    assert stored.metadata.endswith(" d=1-9")
    assert again.returncode == 0, again.stderr
    assert again.stdout == ""  # nine are done, and one waits for an hour


async def _run(kafka: Kafka, prefix: str, mode: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CRASHING, kafka.servers[0], prefix, mode]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False,
        env=dict(os.environ),
    )  # fmt: skip


async def test_notes_of_others_are_ignored_and_counted(kafka: Kafka, prefix: str) -> None:
    got: list[ConsumerRecord] = []
    app = new_app(kafka, prefix)

    @app.subscribe("s", prefix + "g")
    async def handle(data: bytes, record: ConsumerRecord) -> None:
        got.append(record)

    async with app:
        for _ in range(3):
            await (await app.raw_publish("s", b"x"))
    topic = TopicPartition(prefix + "s", 0)
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka.servers, group_id=prefix + "g", enable_auto_commit=False
    ) as other:
        other.assign([topic])
        await other.commit({topic: OffsetAndMetadata(1, "written by another client")})

    ignored: list[int] = []

    def are_read() -> bool:
        groups = app.status().groups
        ignored[:] = [group.counts.get("notes_ignored", 0) for group in groups]
        return len(got) == 2

    await consume(app, are_read)

    assert [record.offset for record in got] == [1, 2]
    assert ignored == [1]


async def test_a_retry_of_a_message_keeps_its_number_and_shows_it(
    kafka: Kafka, prefix: str
) -> None:
    """Without any restart nothing changes: attempts count from 1, and commits move on."""
    seen: list[int] = []
    app = new_app(kafka, prefix)

    def on_error(error: BaseException, message: IncomingMessage) -> Retry:
        return Retry(delay=0.01)

    @app.subscribe("s", prefix + "g", on_error=on_error)
    async def handle(data: bytes, subscriber: Subscriber) -> None:
        seen.append(subscriber.message.attempt)
        if len(seen) < 4:
            raise ValueError("not yet")

    async with app:
        await (await app.raw_publish("s", b"x"))
    await consume(app, lambda: len(seen) == 4)

    stored = await committed(kafka, prefix + "g", prefix + "s")
    assert seen == [1, 2, 3, 4]
    assert stored is not None
    assert (stored.offset, stored.metadata) == (1, "")
