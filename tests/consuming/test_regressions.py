"""Defects of the library that this one continues, by their numbers, where no other test is."""

from __future__ import annotations

import asyncio
import inspect
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from kafkaesk_core import Application, BrokerError, CommitError, HandlerError, Retry, Skip, Stop
from kafkaesk_core.consumer.rebalance import Rebalance
from kafkaesk_core.settings import merge_settings
from kafkaesk_testing import consuming, eventually
from tests.clients import open_consumers

ROOT = Path(__file__).parents[2]


@pytest.mark.u6
def test_producers_are_idempotent_and_wait_for_all_replicas() -> None:
    options = merge_settings({"kafka_servers": "a:1"}).client.for_producer()

    assert options["acks"] == "all"
    assert options["enable_idempotence"] is True


@pytest.mark.u23
@pytest.mark.rule_20
def test_the_callback_of_an_assignment_waits_for_nothing() -> None:
    """No heartbeat is sent before it returns."""
    assert not inspect.iscoroutinefunction(Rebalance.assigned)


@pytest.mark.s17
def test_the_compose_file_starts_one_broker_with_a_health_check() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()

    assert compose.count("image: apache/kafka:") == 1
    for needed in ("9092:9092", "broker,controller", "healthcheck:", "PLAINTEXT://localhost:9092"):
        assert needed in compose


@pytest.mark.f6
@pytest.mark.u1
@pytest.mark.rule_26
async def test_a_client_error_out_of_a_handler_is_the_handlers_failure(
    kafkaesk_app: Application,
) -> None:
    """The record was skipped, and the consumer reconnected."""
    kafkaesk_app.configure(partitions=1)
    handled: list[bytes] = []

    @kafkaesk_app.subscribe("u1", "u1")
    async def handle(data: bytes) -> None:
        if data == b"1":
            raise KafkaConnectionError("of the handler's own client")
        handled.append(data)

    async with kafkaesk_app:
        for number in (b"0", b"1", b"2"):
            await kafkaesk_app.raw_publish("u1", number)
        with pytest.raises(HandlerError) as failed:
            await kafkaesk_app.consume_for(3, seconds=20)

    assert failed.value.offset == 1
    assert handled == [b"0"]


@pytest.mark.u8
async def test_a_topic_has_the_partitions_asked_for_not_the_brokers_default(
    kafkaesk_app: Application,
) -> None:
    seen: set[int] = set()

    @kafkaesk_app.subscribe("u8", "u8")
    async def handle(data: bytes, record: Any) -> None:
        seen.add(record.partition)

    kafkaesk_app.configure(partitions=5)
    async with kafkaesk_app:
        for partition in range(5):
            await kafkaesk_app.raw_publish("u8", b"x", partition=partition)
        await kafkaesk_app.consume_for(5, seconds=20)

    assert seen == set(range(5))


@pytest.mark.u15
@pytest.mark.rule_14
async def test_concurrent_handlers_keep_the_order_of_each_key(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.configure(partitions=1)
    running: set[bytes] = set()
    order: dict[bytes, list[int]] = {}

    @kafkaesk_app.subscribe("u15", "u15", concurrency=8, ordering="key")
    async def handle(data: bytes, record: Any) -> None:
        assert record.key not in running
        running.add(record.key)
        await asyncio.sleep(0.001)
        order.setdefault(record.key, []).append(int(data))
        running.remove(record.key)

    async with kafkaesk_app:
        for number in range(300):
            await kafkaesk_app.raw_publish("u15", b"%d" % number, key=b"%d" % (number % 10))
        assert await kafkaesk_app.consume_for(300, seconds=30) == 300

    assert all(numbers == sorted(numbers) for numbers in order.values())


@pytest.mark.u16
async def test_fetching_does_not_depend_on_concurrency(kafkaesk_app: Application) -> None:
    kafkaesk_app.configure(partitions=1)

    @kafkaesk_app.subscribe("u16", "u16", concurrency=1)
    async def handle(data: bytes) -> None:
        await block.wait()

    block = asyncio.Event()
    async with kafkaesk_app:
        for _ in range(100):
            await kafkaesk_app.raw_publish("u16", b"x")
        await kafkaesk_app.flush()
        running = asyncio.create_task(kafkaesk_app.consume_forever())

        def open_records() -> int:
            return sum(p.open for g in kafkaesk_app.status().groups for p in g.partitions)

        await eventually(lambda: open_records() == 100, within=15)
        assert kafkaesk_app.status().groups[0].running == 1
        block.set()
        await eventually(lambda: open_records() == 0)
        await kafkaesk_app.stop()
        await running


@pytest.mark.u17
async def test_a_failure_leaves_no_handler_running(kafkaesk_app: Application) -> None:
    kafkaesk_app.configure(partitions=1)
    finished: list[bytes] = []

    @kafkaesk_app.subscribe("u17", "u17", concurrency=3, ordering="unordered")
    async def handle(data: bytes) -> None:
        if data == b"bad":
            raise ValueError("no")
        await asyncio.sleep(0.2)
        finished.append(data)

    before = asyncio.all_tasks()
    async with kafkaesk_app:
        for data in (b"1", b"2", b"bad"):
            await kafkaesk_app.raw_publish("u17", data)
        with pytest.raises(HandlerError):
            await kafkaesk_app.consume_for(3, seconds=20)

    assert sorted(finished) == [b"1", b"2"]
    await eventually(lambda: asyncio.all_tasks() == before)


@pytest.mark.u27
async def test_the_first_message_is_handled_at_once(kafkaesk_app: Application) -> None:
    got = asyncio.Event()

    @kafkaesk_app.subscribe("u27", "u27")
    async def handle(data: bytes) -> None:
        got.set()

    async with kafkaesk_app:
        await (await kafkaesk_app.raw_publish("u27", b"first"))
        running = asyncio.create_task(kafkaesk_app.consume_forever())
        started = time.monotonic()
        await asyncio.wait_for(got.wait(), 5)
        await kafkaesk_app.stop()
        await running

    assert time.monotonic() - started < 3


@pytest.mark.u28
@pytest.mark.rule_27
async def test_only_what_is_finished_with_is_counted(kafkaesk_app: Application) -> None:
    """Done and skipped count, a retry does not, a stop ends."""
    kafkaesk_app.configure(partitions=1)
    attempts: list[bytes] = []

    @kafkaesk_app.subscribe("u28", "u28")
    async def handle(data: bytes) -> None:
        attempts.append(data)
        if data == b"retry" and attempts.count(data) < 3:
            raise Retry(delay=0)
        if data == b"skip":
            raise Skip("not ours")

    async with kafkaesk_app:
        for data in (b"done", b"retry", b"skip", b"done"):
            await kafkaesk_app.raw_publish("u28", data)
        assert await kafkaesk_app.consume_for(4, seconds=20) == 4

    assert attempts == [b"done", b"retry", b"retry", b"retry", b"skip", b"done"]


@pytest.mark.d2
async def test_a_disposition_passes_through_except_exception(
    kafkaesk_app: Application,
) -> None:
    @kafkaesk_app.hook
    async def wrap_consume(message: Any, call_next: Any) -> Any:
        try:
            return await call_next(message)
        except Exception:
            return None

    @kafkaesk_app.subscribe("d2", "d2", on_error="skip")
    async def handle(data: bytes) -> None:
        raise Stop("the licence has expired")

    async with kafkaesk_app:
        await kafkaesk_app.raw_publish("d2", b"x")
        with pytest.raises(HandlerError, match="the licence has expired"):
            await kafkaesk_app.consume_for(1, seconds=20)


@pytest.mark.u32
async def test_health_can_be_asked_at_any_time(kafkaesk_app: Application) -> None:
    assert not kafkaesk_app.health().is_ready
    await kafkaesk_app.health_check()
    assert kafkaesk_app.status().as_dict()["state"] == "stopped"

    async with kafkaesk_app:
        await kafkaesk_app.health_check()
        assert kafkaesk_app.status().as_dict() == {
            "state": "running",
            "groups": (),
            "published": {},
            "plugins": {},
        }


@pytest.mark.u42
async def test_new_topics_are_looked_for_within_seconds_where_there_are_patterns(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.configure(kafka_settings={"heartbeat_interval_ms": 300})

    async def handle(data: bytes) -> None: ...

    kafkaesk_app.subscribe("u42.*", "patterns")(handle)
    kafkaesk_app.subscribe_to_topics(["u42"], "names")(handle)
    async with consuming(kafkaesk_app):
        await eventually(lambda: [g.is_joined for g in kafkaesk_app.status().groups] == [True] * 2)
        consumers = open_consumers()
        ages = [consumers[name]._client._metadata_max_age_ms for name in ("patterns", "names")]

    assert ages == [5_000, 60_000]


@pytest.mark.rule_17
async def test_a_manual_commit_stores_no_other_handlers_record(
    kafkaesk_app: Application,
) -> None:
    """What finished above a record that still runs is not committed."""
    kafkaesk_app.configure(partitions=1, auto_commit=False)
    release = asyncio.Event()
    stored: list[Any] = []

    @kafkaesk_app.hook
    async def wrap_commit(offsets: Any, call_next: Any) -> None:
        await call_next(offsets)
        stored.extend(offsets.values())

    @kafkaesk_app.subscribe("r17", "r17", concurrency=4, ordering="unordered")
    async def handle(data: bytes, subscriber: Any) -> None:
        if data == b"0":
            await release.wait()
        await subscriber.consumer.commit()

    async with kafkaesk_app:
        for number in range(3):
            await kafkaesk_app.raw_publish("r17", b"%d" % number)
        running = asyncio.create_task(kafkaesk_app.consume_forever())
        await eventually(
            lambda: (
                kafkaesk_app.status().groups
                and kafkaesk_app.status().groups[0].counts.get("done") == 2
            ),
            within=15,
        )
        assert stored == []
        release.set()
        await eventually(lambda: stored == [3])
        await kafkaesk_app.stop()
        await running


@pytest.mark.rule_17
async def test_a_commit_that_is_not_stored_is_told_to_the_handler(
    kafkaesk_app: Application,
) -> None:
    kafkaesk_app.configure(auto_commit=False)
    told: list[Exception] = []

    @kafkaesk_app.hook
    async def wrap_commit(offsets: Any, call_next: Any) -> None:
        raise CommitError("refused by a layer")

    @kafkaesk_app.subscribe("r17", "r17")
    async def handle(data: bytes, subscriber: Any) -> None:
        try:
            await subscriber.consumer.commit()
        except CommitError as error:
            told.append(error)

    async with kafkaesk_app:
        await kafkaesk_app.raw_publish("r17", b"x")
        await kafkaesk_app.consume_for(1, seconds=20)

    assert "refused by a layer" in str(told[0])


@pytest.mark.f45
@pytest.mark.rule_19
async def test_an_observer_that_fails_does_not_harm_the_rebalance(
    kafkaesk_app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []

    @kafkaesk_app.hook
    def partitions_assigned(event: Any) -> None:
        raise ValueError("of an observer")

    @kafkaesk_app.subscribe("r19", "r19")
    async def handle(data: bytes) -> None:
        got.append(data)

    async with kafkaesk_app:
        await kafkaesk_app.raw_publish("r19", b"x")
        await kafkaesk_app.consume_for(1, seconds=20)

    assert got == [b"x"]
    assert "of an observer" in caplog.text


@pytest.mark.rule_9
async def test_a_group_that_starts_at_the_end_skips_nothing_over_a_restart(
    kafkaesk_app: Application,
) -> None:
    """Without a commit of its first position a restart would start at the new end."""
    settings = {"heartbeat_interval_ms": 300, "auto_offset_reset": "latest"}
    kafkaesk_app.configure(kafka_settings=settings, partitions=1)
    got: list[bytes] = []

    @kafkaesk_app.subscribe("r9", "r9")
    async def handle(data: bytes) -> None:
        got.append(data)

    async with kafkaesk_app:
        await (await kafkaesk_app.raw_publish("r9", b"before the group"))
        running = asyncio.create_task(kafkaesk_app.consume_forever())

        def has_position() -> bool:
            groups = kafkaesk_app.status().groups
            return any(p.position == 1 for g in groups for p in g.partitions)

        await eventually(has_position, within=15)
        await kafkaesk_app.stop()
        await running
        await (await kafkaesk_app.raw_publish("r9", b"while it was away"))
        await kafkaesk_app.consume_for(1, seconds=20)

    assert got == [b"while it was away"]


async def test_auto_offset_reset_none_stops_with_the_remedy(kafkaesk_app: Application) -> None:
    settings = {"heartbeat_interval_ms": 300, "auto_offset_reset": "none"}
    kafkaesk_app.configure(kafka_settings=settings, partitions=1)

    @kafkaesk_app.subscribe("none", "none")
    async def handle(data: bytes) -> None: ...

    async with kafkaesk_app:
        await (await kafkaesk_app.raw_publish("none", b"x"))
        with pytest.raises(BrokerError, match=r"no valid committed offset.*'earliest'"):
            await kafkaesk_app.consume_for(1, seconds=20)
