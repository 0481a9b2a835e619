"""Records that wait: for their time, for a dependency, for their dead letter to be taken."""

from __future__ import annotations

import logging
import os
import time
from functools import partial
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from kafkaesk_core import ConsumerRecord, IncomingMessage, Subscriber, SubscriptionError
from kafkaesk_retry import retries
from kafkaesk_testing import eventually

from .conftest import Make, Service


def new_group() -> str:
    """Groups have no prefix, and the broker is shared."""
    return f"g{uuid4().hex[:8]}"


async def test_a_record_comes_back_after_its_time_and_dies_with_its_origin(service: Make) -> None:
    one, group = service(attempts=1), new_group()
    calls: list[tuple[float, str, str]] = []

    @one.app.subscribe("in", group, ordering="unordered")
    @retries(later=(1, 2))
    async def handle(data: bytes, subscriber: object) -> None:
        message: IncomingMessage = subscriber.message  # type: ignore[attr-defined]  # a Subscriber
        topic = message.topic.removeprefix(one.prefix)
        calls.append((time.monotonic(), topic, message.stream))
        raise ValueError("always")

    sent = await (await one.app.raw_publish("in", b"x", key=b"k", headers=[("a", b"1")]))
    await one.start()

    await eventually(lambda: one.plugin.counts["dead"] == 1, within=40)
    assert [topic for _, topic, _ in calls] == ["in", f"retry.{group}.1", f"retry.{group}.2"]
    assert {stream for *_, stream in calls} == {"in"}
    assert calls[1][0] - calls[0][0] >= 1
    assert calls[2][0] - calls[1][0] >= 2
    (dead,) = await one.read(f"dlq.{group}.in")
    headers = {name: (value or b"").decode() for name, value in dead.headers}
    assert (dead.value, dead.key, dead.headers[0]) == (b"x", b"k", ("a", b"1"))
    assert headers["__dlq.errors.topic"] == sent.topic
    assert headers["__dlq.errors.offset"] == str(sent.offset)
    assert headers["__dlq.errors.delivery.count"] == "3"
    assert not [name for name in headers if name.startswith("kafkaesk-retry-")]


async def test_later_is_refused_where_an_order_is_promised(service: Make) -> None:
    one = service()

    @one.app.subscribe("in", new_group(), ordering="key")
    @retries(later=(60,))
    async def handle(data: bytes) -> None:
        """Never called."""

    with pytest.raises(SubscriptionError, match="reorder=True"):
        await one.app.initialize()


async def test_while_a_dependency_is_down_few_records_die_and_none_of_the_others(
    service: Make,
) -> None:
    one, group = service(attempts=2, dead_limit=5, probe=0.2), new_group()
    is_down, done = True, set()

    @one.app.subscribe("in", group, ordering="unordered", concurrency=50)
    async def handle(data: bytes) -> None:
        if is_down:
            raise ConnectionError("the database is down")
        done.add(data)

    for number in range(300):
        await one.app.raw_publish("in", b"%d" % number)
    await one.app.flush()
    await one.start()

    await eventually(lambda: any("may be down" in r for r in one.app.health().reasons), within=30)
    assert one.app.health().is_live
    (told,) = (r for r in one.app.status().plugins["retry"].values() if isinstance(r, dict))
    assert told["breaker"] == "open"
    is_down = False

    await eventually(lambda: len(done) == 300 - one.plugin.counts["dead"], within=40)
    assert one.plugin.counts["dead"] <= 5
    assert not any("may be down" in reason for reason in one.app.health().reasons)


async def test_a_dead_letter_that_is_refused_is_written_when_it_can_be(
    service: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one, group = service(attempts=1), new_group()
    calls: list[bytes] = []

    @one.app.subscribe("in", group)
    async def handle(data: bytes) -> None:
        calls.append(data)
        raise ValueError("always")

    await one.app.initialize()
    topic = f"{one.prefix}dlq.{group}.in"
    await alter(one.servers, topic, "200")
    await one.app.raw_publish("in", b"x" * 1000)
    with caplog.at_level(logging.INFO, "kafkaesk.retry"):
        await one.start()
        await eventually(lambda: topic_trouble(one.app.health().reasons), within=30)
        assert one.plugin.counts["dead"] == 0
        await alter(one.servers, topic, "1000000")
        await eventually(lambda: one.plugin.counts["dead"] == 1, within=40)

    assert calls == [b"x" * 1000], "only its dead letter is tried again"
    assert not topic_trouble(one.app.health().reasons)
    told = [r for r in caplog.records if "cannot be written" in r.getMessage()]
    assert len(told) == 1
    (dead,) = await one.read(f"dlq.{group}.in")
    assert dead.value == b"x" * 1000


async def test_a_dead_letter_whose_topic_is_missing_is_written_when_it_is_there(
    service: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """With LARGE=1 also one whose topic is deleted, which the broker tells after 30 seconds."""
    one, group = service(attempts=1), new_group()
    one.app.configure(create_topics=False)
    topic, rounds = f"{one.prefix}dlq.{group}.in", 2 if os.environ.get("LARGE") else 1

    @one.app.subscribe("in", group)
    async def handle(data: bytes) -> None:
        raise ValueError("always")

    admin = AIOKafkaAdminClient(bootstrap_servers=one.servers)
    await admin.start()
    try:
        names = (f"{one.prefix}in", f"{one.prefix}retry.{group}.0")
        await admin.create_topics([NewTopic(name, 1, 1) for name in names])
        await one.start()
        for count in range(rounds):
            if count:
                await admin.delete_topics([topic])
            await one.app.raw_publish("in", b"%d" % count)
            await eventually(lambda: topic_trouble(one.app.health().reasons), within=20)
            await eventually(partial(is_told, caplog, count + 1), within=60)
            assert one.plugin.counts["dead"] == count
            await admin.create_topics([NewTopic(topic, 1, 1)])
            await eventually(partial(has_died, one, count + 1), within=30)
            assert not topic_trouble(one.app.health().reasons)
    finally:
        await admin.close()

    assert is_told(caplog, rounds), "once for each time"
    assert [dead.value for dead in await one.read(f"dlq.{group}.in")] == [b"%d" % (rounds - 1)]


def is_told(caplog: pytest.LogCaptureFixture, times: int) -> bool:
    return caplog.text.count("which failed in group") == times


def has_died(one: Service, count: int) -> bool:
    return one.plugin.counts["dead"] == count


async def test_a_value_that_is_too_large_is_cut_and_says_so(service: Make) -> None:
    one, group = service(attempts=1), new_group()

    @one.app.subscribe("in", group)
    async def handle(data: bytes) -> None:
        raise ValueError("always")

    await one.app.initialize()
    await alter(one.servers, f"{one.prefix}dlq.{group}.in", "6000")
    await one.app.raw_publish("in", b"x" * 20_000)
    await one.start()

    await eventually(lambda: one.plugin.counts["dead"] == 1, within=40)
    (dead,) = await one.read(f"dlq.{group}.in")
    headers = dict(dead.headers)
    assert headers["kafkaesk-dlq-truncated"] == b"true"
    assert headers["kafkaesk-dlq-value-size"] == b"20000"
    assert 0 < len(dead.value) < 6000


def topic_trouble(reasons: tuple[str, ...]) -> bool:
    return any("cannot be written" in reason for reason in reasons)


async def alter(servers: object, topic: str, size: str) -> None:
    """Let a topic take records of this size."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        config = {"max.message.bytes": size}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
    finally:
        await admin.close()


async def test_only_the_lane_of_a_failing_record_waits_however_long(service: Make) -> None:
    """Of whole partitions and of keys; for longer than a record may run, nothing restarts.

    The records are many times what the fetch buffer holds.
    """
    one, group = service(attempts=10_000, first=0.05, most=0.05, dead_limit=0), new_group()
    one.app.configure(fetch_buffer_bytes=2**20)
    is_mended = False
    done: dict[str, list[tuple[int, bytes | None, int]]] = {"whole": [], "keyed": []}
    lives: list[bool] = []

    async def handle(record: ConsumerRecord, subscriber: Subscriber) -> None:
        if (record.value or b"").startswith(b"poison") and not is_mended:
            lives.append(one.app.health().is_live)
            raise ConnectionError("of this customer's bank")
        done[subscriber.message.stream].append((record.partition, record.key, record.offset))

    one.app.subscribe("whole", f"{group}-w", max_record_age=0.5)(handle)
    one.app.subscribe("keyed", f"{group}-k", ordering="key", max_record_age=0.5)(handle)
    for number in range(80):
        value = b"poison" if number == 0 else b"." * 65_536
        await one.app.raw_publish("whole", value, partition=number % 4)
    for number in range(300):
        value = b"poison" if number == 0 else b"fine"
        await one.app.raw_publish("keyed", value, key=b"%d" % (number % 100))
    await one.app.flush()
    await one.start()

    await eventually(lambda: (len(done["whole"]), len(done["keyed"])) == (60, 297), within=60)
    waits = one.plugin.counts["retried"] + 100  # of 25 ms each, on average, in two lanes
    await eventually(lambda: one.plugin.counts["retried"] > waits, within=60)
    assert {partition for partition, *_ in done["whole"]} == {1, 2, 3}
    assert b"0" not in {key for _, key, _ in done["keyed"]}
    is_mended = True
    await eventually(lambda: (len(done["whole"]), len(done["keyed"])) == (80, 300), within=60)

    late = [offset for partition, _, offset in done["whole"] if partition == 0]
    assert late == list(range(20))
    late = [offset for _, key, offset in done["keyed"] if key == b"0"]
    assert late == sorted(late)
    assert set(lives) == {True}
    assert {group.counts["assigned"] for group in one.app.status().groups[:2]} == {1}
