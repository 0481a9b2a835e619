"""Reads a topic with a consumer that joins no group and commits nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from difflib import get_close_matches

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, KafkaError

from kafkaesk_core import Cluster, ConsumerRecord, KafkaeskError, TopicError, TopicPartition
from kafkaesk_core.plugin import diagnose, translate_error

__all__ = ["Offsets", "RecordReader", "find_topic"]

Offsets = Mapping[TopicPartition, int]
Records = list[ConsumerRecord]
_POLL_MS = 500
_STOP_SECONDS = 5.0
_PATIENCE_SECONDS = 5.0


async def find_topic(
    cluster: Cluster, topic: str, tell: Callable[[str], None], *, waits: bool
) -> int:
    """Return how many partitions a topic has; with `waits`, wait until it exists.

    Raises:
        TopicError: it does not exist.
    """
    is_told = False
    while not (count := (await cluster.partitions([topic])).get(topic, 0)):
        if not waits:
            known = [each.name for each in await cluster.topics() if not each.is_internal]
            close = get_close_matches(topic, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TopicError(
                f"topic {topic} does not exist at {', '.join(cluster.servers)}, or this user is "
                f"not authorized to see it{hint}",
                topic=topic,
            )
        if not is_told:
            tell(f"topic {topic} does not exist yet; waiting for it")
            is_told = True
        await asyncio.sleep(_POLL_MS / 1000)
    return count


class RecordReader:
    """Reads partitions from given offsets; open it with `RecordReader.connect`."""

    def __init__(
        self, consumer: AIOKafkaConsumer, cluster: Cluster, tell: Callable[[str], None]
    ) -> None:
        self._consumer = consumer
        self._cluster = cluster
        self._tell = tell

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, cluster: Cluster, topic: str, tell: Callable[[str], None]
    ) -> AsyncIterator[RecordReader]:
        """Connect, and disconnect in the end; `tell` is called with what a follower waits for.

        Raises:
            BrokerError: no broker can be used, or it refused.
        """
        options = cluster.settings.client.for_consumer()
        consumer = AIOKafkaConsumer(
            **{
                **options,
                "bootstrap_servers": list(cluster.servers),
                "group_id": None,
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
            }
        )
        try:
            async with asyncio.timeout(cluster.settings.start_timeout):
                await consumer.start()
            yield cls(consumer, cluster, tell)
        except (KafkaConnectionError, TimeoutError) as error:
            raise await diagnose(cluster.servers, options) from error
        except KafkaError as error:
            raise translate_error(
                error, f"reading topic {topic}", servers=cluster.servers
            ) from error
        finally:
            # In a task: stop() may raise the CancelledError of one of its own tasks.
            await asyncio.wait([asyncio.create_task(consumer.stop())], timeout=_STOP_SECONDS)

    async def records(self, begins: Offsets, ends: Offsets) -> AsyncGenerator[Records]:
        """Yield the records from `begins` to before `ends`, those of all partitions by their time.

        Only partitions without a held record are read, so that memory has a limit.
        """
        held = {partition: deque[ConsumerRecord]() for partition in begins}
        unread = {one for one in begins if begins[one] < ends[one]}
        self._assign(begins)
        while unread or any(held.values()):
            wanted = [one for one in unread if not held[one]]
            if wanted:
                await self._read(wanted, held, ends, unread)
            yield list(_merged(held, unread))

    async def follow(self, begins: Offsets) -> AsyncGenerator[Records]:
        """Yield what is there and what comes, without an end."""
        self._assign(begins)
        silence, is_told = 0.0, False
        while True:
            fetched = await self._consumer.getmany(timeout_ms=_POLL_MS)
            if fetched:
                silence, is_told = 0.0, False
                records = [record for each in fetched.values() for record in each]
                yield sorted(records, key=lambda record: record.timestamp)
                continue
            silence += _POLL_MS / 1000
            if silence >= _PATIENCE_SECONDS and not is_told:
                silence, is_told = 0.0, not await self._is_answered()

    def _assign(self, begins: Offsets) -> None:
        self._consumer.assign(list(begins))
        for partition, offset in begins.items():
            self._consumer.seek(partition, offset)

    async def _read(
        self,
        wanted: list[TopicPartition],
        held: Mapping[TopicPartition, deque[ConsumerRecord]],
        ends: Offsets,
        unread: set[TopicPartition],
    ) -> None:
        fetched = await self._consumer.getmany(*wanted, timeout_ms=_POLL_MS)
        for partition, records in fetched.items():
            held[partition].extend(one for one in records if one.offset < ends[partition])
        for partition in wanted:  # transactions and compaction leave gaps
            if await self._consumer.position(partition) >= ends[partition]:
                unread.discard(partition)

    async def _is_answered(self) -> bool:
        try:
            await self._cluster.ends({one.topic for one in self._consumer.assignment()})
        except KafkaeskError as error:
            self._tell(f"{error}: still trying")
            return False
        return True


def _merged(
    held: Mapping[TopicPartition, deque[ConsumerRecord]], unread: set[TopicPartition]
) -> Iterator[ConsumerRecord]:
    """Take the oldest held record, until a partition must be read to know which one that is."""
    while any(held.values()) and all(held[partition] for partition in unread):
        oldest = min((each for each in held.values() if each), key=lambda each: each[0].timestamp)
        yield oldest.popleft()
