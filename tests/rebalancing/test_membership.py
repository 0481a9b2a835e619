"""Being a member: settings that reach the group, its place, how it heals (rules 11, 22, 32, 33)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Application, GroupStatus, Retry, SubscriptionError
from kafkaesk_testing import Kafka, consuming, eventually
from tests.clients import open_consumers

FAST = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300, "metadata_max_age_ms": 500}


def is_ready(app: Application) -> bool:
    return app.is_consuming and app.health().is_ready


def group(app: Application) -> GroupStatus:
    (status,) = app.status().groups
    return status


def another(app: Application, **kafka_settings: Any) -> Application:
    """A second process of the same service."""
    settings = app.settings
    return Application(
        list(settings.kafka_servers),
        settings.topic_prefix,
        {**FAST, **kafka_settings},
        entry_points=False,
        partitions=settings.partitions,
    )


async def test_the_lag_of_an_idle_partition_is_known(kafkaesk_app: Application) -> None:
    """A member that has taken no record yet stands where the group has committed."""
    kafkaesk_app.configure(partitions=1)
    async with kafkaesk_app:
        for n in range(5):
            await kafkaesk_app.raw_publish("idle", b"%d" % n)
        await kafkaesk_app.flush()
    first, second = another(kafkaesk_app), another(kafkaesk_app)

    @first.subscribe("idle", "idle")
    async def handle(data: bytes) -> None: ...

    async with first:
        assert await first.consume_for(3, seconds=20) >= 3

    blocked = asyncio.Event()

    @second.subscribe("idle", "idle", max_uncommitted=1)
    async def wait(data: bytes) -> None:
        await blocked.wait()

    async with consuming(second):
        await eventually(lambda: group(second).partitions[0].end == 5, within=10)
        (status,) = group(second).partitions
        blocked.set()

    assert status.committed is not None
    assert status.committed >= 3
    assert status.lag == 5 - status.committed


@pytest.mark.f43
async def test_a_static_member_that_restarts_moves_no_partition(
    kafkaesk_app: Application,
) -> None:
    """Within the session its partitions wait for it, and no other member is disturbed."""
    kafkaesk_app.configure(partitions=2)
    async with kafkaesk_app:
        await kafkaesk_app.raw_publish("static", b"first")
        await kafkaesk_app.flush()
    got: list[tuple[str, bytes]] = []

    def member(name: str) -> Application:
        app = another(kafkaesk_app, group_instance_id=name, session_timeout_ms=20_000)

        @app.subscribe("static", "static")
        async def handle(data: bytes) -> None:
            got.append((name, data))

        return app

    stays, restarts = member("stays"), member("restarts")
    async with consuming(stays):
        async with consuming(restarts):
            await eventually(lambda: len(group(stays).partitions) == 1, within=30)
            before = dict(group(stays).counts)
            generation = group(restarts).generation
            assert generation
        again = member("restarts")
        async with consuming(again):
            assert group(again).generation == generation, "the group did not rebalance"
            for partition in (0, 1):
                await stays.raw_publish("static", b"later", partition=partition)
            await eventually(lambda: sum(data == b"later" for _, data in got) == 2, within=20)
            after = group(stays).counts

    assert after["assigned"] == before["assigned"], "the other member saw no rebalance"
    assert {name for name, data in got if data == b"later"} == {"stays", "restarts"}


@pytest.mark.f38
@pytest.mark.rule_1
async def test_aborted_messages_are_not_delivered_with_read_committed(
    kafkaesk_app: Application, kafka: Kafka
) -> None:
    """Transaction markers are gaps: the commit passes them (rule 1)."""
    app = kafkaesk_app
    app.configure(partitions=1, kafka_settings={**FAST, "isolation_level": "read_committed"})
    got: list[bytes] = []

    @app.subscribe("transactions", "transactions")
    async def handle(data: bytes) -> None:
        got.append(data)

    async with app:
        await app.raw_publish("transactions", b"plain")
        await app.flush()
    topic = app.settings.topic_prefix + "transactions"
    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers, transactional_id=topic)
    await producer.start()
    try:
        for commits in (False, True):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"committed" if commits else b"aborted")
            await (producer.commit_transaction() if commits else producer.abort_transaction())
    finally:
        await producer.stop()

    async with consuming(app):
        await app.raw_publish("transactions", b"last")
        await eventually(lambda: b"last" in got, within=20)
    async with consuming(app):
        await eventually(lambda: group(app).partitions[0].lag == 0, within=10)

    assert got == [b"plain", b"committed", b"last"]


async def test_the_rack_reaches_the_client(kafkaesk_app: Application) -> None:
    kafkaesk_app.configure(kafka_settings={**FAST, "client_rack": "rack-a"})

    @kafkaesk_app.subscribe("rack", "rack")
    async def handle(data: bytes) -> None: ...

    async with consuming(kafkaesk_app):
        assert open_consumers()["rack"]._fetcher._client_rack == "rack-a"


@pytest.mark.rule_33
@pytest.mark.parametrize(
    "dies", ["Fetcher._fetch_requests_routine", "GroupCoordinator._coordination_routine"]
)
async def test_a_member_whose_client_died_is_replaced(kafkaesk_app: Application, dies: str) -> None:
    """Nothing in the client looks after these tasks (A8, A20): polls return nothing for ever."""
    kafkaesk_app.configure(kafka_settings=FAST, partitions=2)
    got: list[bytes] = []

    @kafkaesk_app.subscribe("dying", "dying")
    async def handle(record: ConsumerRecord) -> None:
        got.append(record.value)

    async with kafkaesk_app:
        await kafkaesk_app.raw_publish("dying", b"before")
        await kafkaesk_app.flush()
    async with consuming(kafkaesk_app):
        await eventually(lambda: got == [b"before"], within=20)
        (task,) = [task for task in asyncio.all_tasks() if dies in repr(task.get_coro())]
        task.cancel()
        await kafkaesk_app.raw_publish("dying", b"after")

        await eventually(lambda: b"after" in got, within=30)
        assert group(kafkaesk_app).counts["revoked"] == 1

    assert got == [b"before", b"after"], "the group still took the commit of what was done"


@pytest.mark.rule_11
async def test_a_record_older_than_its_subscription_allows_is_unhealthy(
    kafkaesk_app: Application,
) -> None:
    release = asyncio.Event()

    @kafkaesk_app.subscribe("old", "old", max_record_age=0.3)
    async def handle(data: bytes) -> None:
        await release.wait()

    async with consuming(kafkaesk_app):
        await kafkaesk_app.raw_publish("old", b"value")
        await eventually(lambda: not kafkaesk_app.health().is_live, within=20)
        health = kafkaesk_app.health()
        release.set()
        await eventually(lambda: kafkaesk_app.health().is_live, within=5)

    assert health.is_degraded
    assert "longer than max_record_age 0.3 s" in health.reasons[0]


async def test_a_record_that_waits_for_its_retry_delays_nobody_else_and_is_alive(
    kafkaesk_app: Application,
) -> None:
    """Of 1,800 records of the other partitions 624 were handled meanwhile; it was restarted."""
    app = kafkaesk_app
    app.configure(partitions=4, fetch_buffer_bytes=4 << 20, kafka_settings=FAST)
    handled: Counter[int] = Counter()
    is_parked = asyncio.Event()

    @app.subscribe("waits", "waits", max_record_age=0.2)
    async def handle(record: ConsumerRecord) -> None:
        if record.partition == 0 and record.offset == 5:
            is_parked.set()
            raise Retry(delay=60)
        handled[record.partition] += 1

    async with consuming(app):
        value = b"." * 20_000
        for n in range(600):
            for partition in range(4):
                await app.raw_publish("waits", value, partition=partition)
            if n == 100:
                await asyncio.wait_for(is_parked.wait(), 20)
        await app.flush()
        await eventually(lambda: all(handled[number] == 600 for number in (1, 2, 3)), within=30)
        (waiting,) = [p for p in group(app).partitions if p.partition == 0]
        health = app.health()

    assert handled[0] == 5
    assert health.is_live, health.reasons
    assert 0 < waiting.parked <= 600
    assert waiting.next_due is not None
    assert 0 < waiting.next_due <= 60
    assert waiting.oldest_open_age is None, "its time counts from its turn"


@pytest.mark.rule_10
@pytest.mark.rule_31
async def test_attempts_go_on_in_the_next_process(kafkaesk_app: Application) -> None:
    """The last commit of the first process stores them beside its offset."""
    kafkaesk_app.configure(partitions=1)
    async with kafkaesk_app:
        await (await kafkaesk_app.raw_publish("counted", b"value"))
    attempts: list[int] = []

    def process(delays: list[float]) -> Application:
        app = another(kafkaesk_app)

        @app.hook
        async def wrap_consume(message: Any, call_next: Any) -> Any:
            attempts.append(message.attempt)
            return await call_next(message)

        @app.subscribe("counted", "counted")
        async def handle(data: bytes) -> None:
            if delays:
                raise Retry(delay=delays.pop())

        return app

    first = process([1, 0, 0])
    async with consuming(first):
        await eventually(lambda: any(p.parked for g in first.status().groups for p in g.partitions))
        await eventually(lambda: attempts == [1, 2, 3] and first.status().groups[0].running == 0)
    async with process([0]) as second:
        await second.consume_for(1, seconds=20)

    assert attempts == [1, 2, 3, 4, 5]


async def test_settings_of_a_subscription_must_fit_the_others(kafkaesk_app: Application) -> None:
    @kafkaesk_app.subscribe("slow", "slow", drain_timeout=60)
    async def handle(data: bytes) -> None: ...

    with pytest.raises(SubscriptionError, match=r"handle: .*does not fit into rebalance_timeout"):
        await kafkaesk_app.initialize()


async def until_members(app: Application, name: str, count: int, within: float) -> None:
    """Wait until the coordinator counts so many members."""
    admin = AIOKafkaAdminClient(bootstrap_servers=list(app.settings.kafka_servers))
    await admin.start()
    found = None
    try:
        async with asyncio.timeout(within):
            while found is None or len(found) != count:
                (answer,) = await admin.describe_consumer_groups([name])
                ((_, _, _, _, _, found, *_),) = answer.groups
    finally:
        await admin.close()


async def test_a_member_that_is_stopped_while_it_joins_leaves_at_once(
    kafkaesk_app: Application,
) -> None:
    """The others waited until its session was over: 20 seconds here, 45 by default."""
    first, name = kafkaesk_app, f"{kafkaesk_app.settings.topic_prefix}leaving"
    sessions = {**FAST, "session_timeout_ms": 20_000, "rebalance_timeout_ms": 30_000}
    first.configure(partitions=2, kafka_settings=sessions, drain_timeout=15.0)
    second = another(first, session_timeout_ms=20_000)
    is_handling, may_finish = asyncio.Event(), asyncio.Event()
    handled: list[bytes] = []

    @first.subscribe("slow", name)
    async def handle(data: bytes) -> None:
        is_handling.set()
        await may_finish.wait()
        handled.append(data)

    @second.subscribe("slow", name)
    async def handle_too(data: bytes) -> None: ...

    async with consuming(first):
        await (await first.raw_publish("slow", b"one"))
        await asyncio.wait_for(is_handling.wait(), 20)
        async with second:
            joining = asyncio.create_task(second.consume_forever())
            await until_members(first, name, 2, within=10)

            await second.stop()
            await joining

        await until_members(first, name, 1, within=2)
        may_finish.set()
        await eventually(lambda: handled == [b"one"], within=5)
        await eventually(lambda: is_ready(first), within=5)
        await (await first.raw_publish("slow", b"two"))
        await eventually(lambda: handled == [b"one", b"two"], within=5)


async def test_what_was_never_committed_is_not_known(kafkaesk_app: Application) -> None:
    """The lag counts from where the group began, as long as there is no commit."""
    app = kafkaesk_app
    app.configure(partitions=1)
    let_go = asyncio.Event()

    @app.subscribe("unseen", "unseen")
    async def wait(data: bytes) -> None:
        await let_go.wait()

    async with consuming(app):
        for n in range(5):
            await app.raw_publish("unseen", b"%d" % n)
        await eventually(lambda: [p.end for p in group(app).partitions] == [5], within=20)
        before = group(app).partitions[0]
        let_go.set()
        await eventually(lambda: group(app).partitions[0].committed == 5, within=20)
        after = group(app).partitions[0]

    assert (before.committed, before.lag) == (None, 5)
    assert after.lag == 0
