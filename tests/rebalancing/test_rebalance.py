"""Handing partitions over: nothing lost, nothing twice without a kill (rules 8, 18 to 25)."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Application, Subscriber
from kafkaesk_testing import eventually

Handle = Callable[[Application, ConsumerRecord], Any]


class Group:
    """Members of one group, each an application of its own, and what they have handled."""

    def __init__(self, servers: list[str], ordering: str, handle: Handle) -> None:
        self.name = f"group-{uuid.uuid4().hex[:8]}"
        self.prefix = f"rebalance-{uuid.uuid4().hex[:8]}."
        self.handled: Counter[tuple[int, int]] = Counter()
        self.order: dict[tuple[int, bytes | None], list[int]] = {}
        self.running: Counter[tuple[int, bytes | None]] = Counter()
        self.overlaps = 0
        self._servers = servers
        self._ordering: Any = ordering
        self._handle = handle

    def application(self, **tuning: Any) -> Application:
        return Application(
            self._servers,
            self.prefix,
            {"heartbeat_interval_ms": 300, "session_timeout_ms": 6000, "metadata_max_age_ms": 500},
            entry_points=False,
            partitions=4,
            **tuning,
        )

    @asynccontextmanager
    async def member(self, *, by_hand: bool = False, **tuning: Any) -> AsyncIterator[Application]:
        app = self.application(**tuning)
        concurrency = None if self._ordering == "partition" else 8

        async def handle(record: ConsumerRecord, subscriber: Subscriber) -> None:
            lane = (record.partition, record.key if self._ordering == "key" else None)
            is_ordered = self._ordering != "unordered"
            self.running[lane] += 1
            self.overlaps += is_ordered and self.running[lane] > 1
            try:
                await self._handle(app, record)
                if by_hand:
                    await subscriber.consumer.commit()
            finally:
                self.running[lane] -= 1
            self.handled[record.partition, record.offset] += 1
            self.order.setdefault(lane, []).append(record.offset)

        app.subscribe("*", self.name, ordering=self._ordering, concurrency=concurrency)(handle)
        async with app:
            consuming = asyncio.create_task(app.consume_forever())
            try:
                yield app
            finally:
                await app.stop()
                await consuming

    def has_handled(self, count: int) -> bool:
        return len(self.handled) >= count

    @property
    def twice(self) -> int:
        return sum(count > 1 for count in self.handled.values())


async def publish(app: Application, count: int, stream: str = "a") -> None:
    deliveries = [
        await app.raw_publish(stream, b"%d" % n, key=b"%d" % (n % 20)) for n in range(count)
    ]
    await asyncio.gather(*deliveries)


async def quickly(app: Application, record: ConsumerRecord) -> None:
    await asyncio.sleep(0.001)


@pytest.mark.rule_8
@pytest.mark.rule_18
@pytest.mark.rule_23
@pytest.mark.f3
@pytest.mark.parametrize("ordering", ["partition", "key", "unordered"])
async def test_members_that_come_and_go_lose_nothing_and_repeat_nothing(
    kafka: Any, ordering: str
) -> None:
    """F3 without kills."""
    group = Group(kafka.servers, ordering, quickly)
    count = 4000

    async with group.member() as first:
        publishing = asyncio.create_task(publish(first, count))
        await eventually(lambda: len(group.handled) > 200, within=20)
        for _ in range(2):
            async with group.member() as second:
                await eventually(lambda: second.health().is_ready, within=20)
                goal = min(len(group.handled) + 200, count)
                await eventually(partial(group.has_handled, goal), within=20)
        await publishing
        await eventually(lambda: len(group.handled) == count, within=30)

    assert group.twice == 0
    assert group.overlaps == 0
    if ordering != "unordered":
        assert all(offsets == sorted(offsets) for offsets in group.order.values())


@pytest.mark.rule_17
@pytest.mark.rule_18
@pytest.mark.parametrize("auto_commit", [True, False])
async def test_handlers_that_commit_by_hand_finish_in_handovers_and_stops(
    kafka: Any, auto_commit: bool
) -> None:
    """Their commit is part of finishing; it was cancelled, and stopped the service.

    Its records are in the handler's own hands: what it has committed comes to nobody again.
    """
    group = Group(kafka.servers, "partition", quickly)
    count = 3000

    async with group.member(by_hand=True, auto_commit=auto_commit) as first:
        publishing = asyncio.create_task(publish(first, count))
        await eventually(lambda: len(group.handled) > 100, within=20)
        for _ in range(3):
            async with group.member(by_hand=True, auto_commit=auto_commit) as second:
                await eventually(lambda: second.health().is_ready, within=20)
                goal = min(len(group.handled) + 200, count)
                await eventually(partial(group.has_handled, goal), within=20)
        await publishing
        await eventually(lambda: len(group.handled) == count, within=30)

    assert group.twice == 0
    assert group.overlaps == 0


@pytest.mark.rule_25
@pytest.mark.u12
@pytest.mark.d20
async def test_a_new_matching_topic_is_found_at_once_and_read_from_its_beginning(
    kafka: Any,
) -> None:
    """And nothing of the others is handled again."""
    group = Group(kafka.servers, "partition", quickly)

    async with group.member() as app:
        await publish(app, 50)
        await eventually(lambda: len(group.handled) == 50, within=20)
        await publish(app, 1, "another")
        await eventually(lambda: sum(group.handled.values()) == 51, within=10)

    assert group.twice <= 1  # offset 0 of partition n exists in both topics


@pytest.mark.d20
async def test_a_literal_stream_that_does_not_exist_is_waited_for(kafka: Any) -> None:
    """Degraded meanwhile, and never created by a fetch."""
    group = Group(kafka.servers, "partition", quickly)
    app, publisher = group.application(), group.application()
    got: list[bytes] = []

    @app.subscribe_to_topics(["later"], group.name)
    async def handle(data: bytes) -> None:
        got.append(data)

    async with app, publisher:
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: "does not exist" in str(app.health().reasons), within=15)
        assert app.health().is_live
        await publisher.raw_publish("later", b"now")
        await eventually(lambda: got == [b"now"], within=15)
        await app.stop()
        await consuming


@pytest.mark.rule_18
@pytest.mark.rule_21
@pytest.mark.f4
async def test_a_record_that_outlives_the_drain_is_handled_by_the_next_owner(
    kafka: Any,
) -> None:
    """The revocation is bounded, the zombie's completion changes nothing."""
    release = asyncio.Event()
    started: list[tuple[int, int]] = []

    async def stubborn(app: Application, record: ConsumerRecord) -> None:
        started.append((record.partition, record.offset))
        if len(started) == 1:
            while not release.is_set():
                try:
                    await asyncio.shield(asyncio.ensure_future(release.wait()))
                except asyncio.CancelledError:
                    continue

    group = Group(kafka.servers, "partition", stubborn)
    async with group.member(drain_timeout=0.5, cancel_grace=0.2) as first:
        await publish(first, 1)
        await eventually(lambda: started, within=20)
        async with group.member() as second:
            await eventually(lambda: len(started) == 2, within=30)
            await eventually(lambda: second.health().is_ready, within=20)
        release.set()

    assert started[0] == started[1]


@pytest.mark.rule_34
async def test_a_stop_during_a_rebalance_ends_and_loses_nothing(kafka: Any) -> None:
    group = Group(kafka.servers, "partition", quickly)

    async with group.member() as first:
        await publish(first, 2000)
        await eventually(lambda: len(group.handled) > 100, within=20)
        async with group.member():
            await first.stop()
            await eventually(lambda: len(group.handled) == 2000, within=40)

    assert group.twice == 0


@pytest.mark.rule_35
async def test_a_stopped_application_leaves_no_task(kafka: Any) -> None:
    before = asyncio.all_tasks()
    group = Group(kafka.servers, "partition", quickly)

    async with group.member() as app:
        await publish(app, 10)
        await eventually(lambda: len(group.handled) == 10, within=20)

    await eventually(lambda: asyncio.all_tasks() == before)


@pytest.mark.f36
async def test_offsets_out_of_range_are_reset_by_policy_and_told(
    kafka: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A22: never silent."""
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
    from aiokafka.structs import TopicPartition

    group = Group(kafka.servers, "partition", quickly)
    async with group.member() as app:
        deliveries = [await app.raw_publish("a", b"x", partition=0) for _ in range(10)]
        await asyncio.gather(*deliveries)
        await eventually(lambda: len(group.handled) == 10, within=20)
    async with group.application() as publisher:
        late = [await publisher.raw_publish("a", b"x", partition=0) for _ in range(10)]
        await asyncio.gather(*late)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
    await admin.start()
    partition = TopicPartition(group.prefix + "a", 0)
    await admin.delete_records({partition: RecordsToDelete(before_offset=15)})
    await admin.close()

    async with group.member():
        await eventually(lambda: (0, 19) in group.handled, within=20)

    assert (0, 12) not in group.handled
    assert "offset 10 is no longer in the log" in caplog.text
