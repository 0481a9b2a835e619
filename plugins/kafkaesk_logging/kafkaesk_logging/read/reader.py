"""Reads a stream from its beginning, in the order of time, without a consumer group."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Cluster, Settings, TopicError
from kafkaesk_core.plugin import diagnose, translate_error

__all__ = ["StreamReader"]

Records = list[ConsumerRecord]
Offsets = Mapping[TopicPartition, int]
_POLL_MS = 500
_STOP_TIMEOUT = 5.0


class StreamReader:
    """Reads with a consumer that joins no group and commits nothing.

    `report` is called with the reason why a follower waits. Without a record for `patience` seconds
    it checks whether the brokers answer.
    """

    def __init__(
        self,
        settings: Settings,
        stream: str,
        report: Callable[[str], None],
        *,
        patience: float = 5.0,
    ) -> None:
        self._cluster = Cluster(settings)
        self._topic = settings.topic_prefix + stream
        self._timeout = settings.start_timeout
        self._report = report
        self._patience = patience

    async def records(self, *, follow: bool) -> AsyncGenerator[Records]:
        """Yield the records of the log, and with `follow` new ones too.

        Raises:
            ConfigurationError: the settings name a broker inside a process.
            BrokerError: no broker can be used, or the topic cannot be read; without `follow` it
                must exist.
        """
        async with self._cluster, self._started() as consumer:
            partitions = await self._partitions(follow=follow)
            begins = _complete(partitions, await self._cluster.begins([self._topic]))
            ends = _complete(partitions, await self._cluster.ends([self._topic]))
            consumer.assign(partitions)
            for partition, offset in begins.items():
                consumer.seek(partition, offset)
            async for records in self._history(consumer, begins, ends):
                yield records
            while follow:
                yield await self._next(consumer)

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[AIOKafkaConsumer]:
        servers = list(self._cluster.servers)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=servers, group_id=None, enable_auto_commit=False, **self._options
        )
        try:
            async with asyncio.timeout(self._timeout):
                await consumer.start()
            yield consumer
        except (KafkaConnectionError, TimeoutError) as error:
            raise await diagnose(servers, self._options) from error
        except KafkaError as error:
            doing = f"reading topic {self._topic}"
            raise translate_error(error, doing, servers=servers) from error
        finally:
            # In a task: stop() may raise the CancelledError of one of its own tasks.
            await asyncio.wait([asyncio.create_task(consumer.stop())], timeout=_STOP_TIMEOUT)

    # Any: options of aiokafka's consumer.
    @property
    def _options(self) -> dict[str, Any]:
        options = self._cluster.settings.client.for_consumer()
        return {"metadata_max_age_ms": 1000, **options, "auto_offset_reset": "earliest"}

    async def _partitions(self, *, follow: bool) -> list[TopicPartition]:
        """Find the partitions; with `follow`, wait for a topic that does not exist yet."""
        is_reported = False
        while not (count := (await self._cluster.partitions([self._topic])).get(self._topic, 0)):
            if not follow:
                servers = ", ".join(self._cluster.servers)
                text = (
                    f"topic {self._topic} does not exist at {servers}, or this user is not "
                    "authorized to see it"
                )
                raise TopicError(text, topic=self._topic)
            if not is_reported:
                self._report(f"topic {self._topic} does not exist yet; waiting for it")
                is_reported = True
            await asyncio.sleep(_POLL_MS / 1000)
        return [TopicPartition(self._topic, number) for number in range(count)]

    async def _history(
        self, consumer: AIOKafkaConsumer, begins: Offsets, ends: Offsets
    ) -> AsyncIterator[Records]:
        """Yield the records that the log has now, all partitions merged by time.

        Only partitions without a held record are read, so that memory is bounded.
        """
        held = {partition: deque[ConsumerRecord]() for partition in begins}
        unread = {partition for partition in begins if begins[partition] < ends[partition]}
        while unread or any(held.values()):
            wanted = [partition for partition in unread if not held[partition]]
            if wanted:
                async with asyncio.timeout(self._timeout):
                    await self._read(consumer, wanted, held)
                    for partition in wanted:
                        if await consumer.position(partition) >= ends[partition]:
                            unread.discard(partition)
            yield list(_merged(held, unread))

    async def _read(
        self,
        consumer: AIOKafkaConsumer,
        wanted: list[TopicPartition],
        held: Mapping[TopicPartition, deque[ConsumerRecord]],
    ) -> None:
        """Wait for records, or for a position that moves over a transaction marker."""
        before = [await consumer.position(partition) for partition in wanted]
        while before == [await consumer.position(partition) for partition in wanted]:
            fetched = await consumer.getmany(*wanted, timeout_ms=_POLL_MS)
            for partition, records in fetched.items():
                held[partition].extend(records)

    async def _next(self, consumer: AIOKafkaConsumer) -> Records:
        """Wait for new records, also of new partitions."""
        silence = 0.0
        is_reported = False
        while True:
            await self._add_partitions(consumer)
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            if fetched:
                return sorted(_chained(fetched.values()), key=lambda record: record.timestamp)
            silence += _POLL_MS / 1000
            if silence >= self._patience and not is_reported:
                silence = 0.0
                is_reported = not await self._is_answered(consumer)

    async def _is_answered(self, consumer: AIOKafkaConsumer) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                await consumer.end_offsets(consumer.assignment())
        except (KafkaError, TimeoutError):
            self._report(f"{await diagnose(self._cluster.servers, self._options)}: still trying")
            return False
        return True

    async def _add_partitions(self, consumer: AIOKafkaConsumer) -> None:
        """Read new partitions of the topic from their beginning; keep the others' positions."""
        numbers = consumer.partitions_for_topic(self._topic) or frozenset()
        known = consumer.assignment()
        new = {TopicPartition(self._topic, number) for number in numbers} - known
        if not new:
            return
        positions = {partition: await consumer.position(partition) for partition in known}
        consumer.assign([*known, *new])
        for partition in new:
            positions[partition] = 0
        for partition, offset in positions.items():
            consumer.seek(partition, offset)


def _complete(partitions: Iterable[TopicPartition], offsets: Offsets) -> Offsets:
    """Return the offsets, of every partition.

    Raises:
        TopicError: a partition has no leader.
    """
    for topic, number in set(partitions) - offsets.keys():
        text = f"partition {number} of topic {topic} has no leader now, so it cannot be read"
        raise TopicError(f"{text}; try again when its brokers run", topic=topic)
    return offsets


def _merged(
    held: Mapping[TopicPartition, deque[ConsumerRecord]], unread: set[TopicPartition]
) -> Iterable[ConsumerRecord]:
    """Take the oldest held record, until a partition has to be read to know which one that is."""
    while any(held.values()) and all(held[partition] for partition in unread):
        oldest = min(
            (records for records in held.values() if records),
            key=lambda records: records[0].timestamp,
        )
        yield oldest.popleft()


def _chained(batches: Iterable[Records]) -> Iterable[ConsumerRecord]:
    return (record for records in batches for record in records)
