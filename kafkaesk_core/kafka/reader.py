"""Reads records with a consumer that joins no group and commits nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, KafkaError

from kafkaesk_core.errors import KafkaeskError
from kafkaesk_core.structs import ConsumerRecord, TopicPartition
from kafkaesk_core.tasks import finish

from .clients import force_close, start_client
from .diagnose import diagnose
from .errors import translate

__all__ = ["RecordReader"]

Offsets = Mapping[TopicPartition, int]
Records = list[ConsumerRecord]

_POLL_MS = 500
_STOP_SECONDS = 5.0
_METADATA_MS = 1000
"""Milliseconds until a follower notices a new partition."""

# Any below: options of aiokafka's consumer.


class RecordReader:
    """Reads partitions from given offsets, without a group; `Cluster.reader()` opens one.

    There is one reading at a time: the next call of `records` or `follow` starts again.
    """

    def __init__(
        self, servers: Sequence[str], options: Mapping[str, Any], *, timeout: float
    ) -> None:
        self._servers = tuple(servers)
        self._options = {"metadata_max_age_ms": _METADATA_MS, **options}
        self._timeout = timeout
        self._consumer = AIOKafkaConsumer(
            **{
                **self._options,
                "bootstrap_servers": list(servers),
                "group_id": None,
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
            }
        )

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerError: no broker can be reached, or the broker refused the connection.
        """
        consumer = self._consumer
        try:
            await start_client(consumer.start(), consumer._client, self._timeout)
        except BaseException as error:
            await finish(force_close(consumer))
            if isinstance(error, (KafkaError, TimeoutError)):
                raise await self._explained(error, "starting a consumer") from error
            raise

    async def stop(self) -> None:
        """Disconnect."""
        # In a task: stop() may raise the CancelledError of one of its own tasks.
        stopping = asyncio.create_task(self._consumer.stop())
        try:
            await asyncio.wait([stopping], timeout=_STOP_SECONDS)
        finally:
            await finish(force_close(self._consumer))

    async def records(
        self, ends: Offsets, begins: Offsets | None = None
    ) -> AsyncGenerator[Records]:
        """Yield the records before `ends`, from all partitions in the order of their timestamps.

        The records of a partition stay in the order of their offsets, even if a timestamp is lower
        than the one before it.

        Get the ends first with `await cluster.ends([topic])`: later records are not read, so the
        reading ends however fast others publish. `begins` has the first offset of each partition; a
        missing partition is read from its beginning. Transaction markers, aborted records and
        compacted records are skipped. A partition is read on only when none of its records is
        buffered, so memory is bounded.

        Raises:
            BrokerError: a broker refused, or none answered for `timeout` seconds.
        """
        starts = begins or {}
        held = {partition: deque[ConsumerRecord]() for partition in ends}
        unread = {one for one, end in ends.items() if starts.get(one, 0) < end}
        self._assign(ends, starts)
        while unread or any(held.values()):
            wanted = [one for one in unread if not held[one]]
            if wanted:
                await self._read(wanted, held, ends, unread)
            yield list(_merged(held, unread))

    async def follow(
        self,
        begins: Offsets,
        *,
        grows: bool = True,
        report: Callable[[str], None] | None = None,
        patience: float = 5.0,
    ) -> AsyncGenerator[Records]:
        """Yield the records from `begins` on, and then new records, without an end.

        The records of a partition are in the order of their offsets. Those that were fetched
        together are merged by their timestamps; a later fetch may have earlier timestamps.

        With `grows`, partitions that are added to a topic meanwhile are read from their beginning.
        After `patience` seconds without a record, the brokers are asked for an answer; if there is
        none, `report` is called with the reason, once for each outage.

        Raises:
            BrokerError: a broker refused.
        """
        self._assign(begins, begins)
        silence, is_reported = 0.0, False
        while True:
            if grows:
                self._add_partitions()
            fetched = await self._fetch([])
            if fetched:
                silence, is_reported = 0.0, False
                held = {partition: deque(records) for partition, records in fetched.items()}
                yield list(_merged(held, ()))
                continue
            silence += _POLL_MS / 1000
            if silence >= patience and not is_reported:
                silence, reason = 0.0, await self._silence(patience)
                is_reported = reason is not None
                if reason is not None and report is not None:
                    report(f"{reason}: still trying")

    def _assign(self, partitions: Collection[TopicPartition], begins: Offsets) -> None:
        """Read from these offsets, or from the beginning if an offset is missing or expired."""
        self._consumer.assign(list(partitions))
        for partition in partitions:
            self._consumer.seek(partition, begins.get(partition, 0))

    def _add_partitions(self) -> None:
        """Read new partitions from their beginning; continue the others where they are."""
        consumer, known = self._consumer, self._consumer.assignment()
        new = {
            TopicPartition(topic, number)
            for topic in {partition.topic for partition in known}
            for number in consumer.partitions_for_topic(topic) or ()
        } - known
        if new:
            # Not by position(), which waits for the brokers. An offset that they are asked for has
            # expired: that partition is read from its beginning, with or without their answer.
            states = consumer._subscription.subscription.assignment
            positions = {one: states.state_value(one)._position for one in known}
            self._assign([*known, *new], {one: at for one, at in positions.items() if at})

    async def _read(
        self,
        wanted: Collection[TopicPartition],
        held: Mapping[TopicPartition, deque[ConsumerRecord]],
        ends: Offsets,
        unread: set[TopicPartition],
    ) -> None:
        """Buffer more records of `wanted`; remove partitions at their ends from `unread`."""
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                while True:
                    fetched = await self._fetch(wanted)
                    for partition, records in fetched.items():
                        held[partition].extend(
                            one for one in records if one.offset < ends[partition]
                        )
                    # By its position: transactions and compaction leave gaps.
                    read = [
                        one for one in wanted if await self._consumer.position(one) >= ends[one]
                    ]
                    unread.difference_update(read)
                    if fetched or read:
                        return
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise await self._explained(error, self._attempted()) from error

    async def _fetch(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Records]:
        try:
            found: dict[TopicPartition, Records] = await self._consumer.getmany(
                *partitions, timeout_ms=_POLL_MS
            )
        except KafkaError as error:
            raise await self._explained(error, self._attempted()) from error
        return found

    async def _silence(self, patience: float) -> KafkaeskError | None:
        """Return why the brokers do not answer; None if they do."""
        try:
            async with asyncio.timeout(patience):
                await self._consumer.end_offsets(self._consumer.assignment())
        except (KafkaError, TimeoutError):
            return await diagnose(self._servers, self._options)
        return None

    def _attempted(self) -> str:
        topics = sorted({partition.topic for partition in self._consumer.assignment()})
        return f"reading topic {', '.join(topics)}"

    async def _explained(self, error: BaseException, attempted: str) -> KafkaeskError:
        if isinstance(error, KafkaError) and not isinstance(error, KafkaConnectionError):
            return translate(error, attempted, servers=self._servers)
        return await diagnose(self._servers, self._options)


def _merged(
    held: Mapping[TopicPartition, deque[ConsumerRecord]], unread: Collection[TopicPartition]
) -> Iterator[ConsumerRecord]:
    """Yield the oldest buffered record, until a partition must be read to find it."""
    if not all(held[partition] for partition in unread):
        return
    oldest = [(records[0].timestamp, one) for one, records in held.items() if records]
    heapify(oldest)
    while oldest:
        _, partition = oldest[0]
        records = held[partition]
        yield records.popleft()
        if records:
            heapreplace(oldest, (records[0].timestamp, partition))
        else:
            heappop(oldest)
            if partition in unread:
                return
