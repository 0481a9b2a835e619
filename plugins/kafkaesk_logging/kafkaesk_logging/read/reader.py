"""Reads a stream from its beginning, in the order of timestamps, without a consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing

from kafkaesk_core import Cluster, ConsumerRecord, Settings, TopicError, TopicPartition

__all__ = ["StreamReader"]

Records = list[ConsumerRecord]
Offsets = Mapping[TopicPartition, int]
_PAUSE_SECONDS = 0.5


class StreamReader:
    """Reads with a consumer that joins no group and commits nothing.

    `report` is called with the reason why a follower waits. After `patience` seconds without a
    record, the reader checks whether the brokers answer.
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
        self._report = report
        self._patience = patience

    async def records(self, *, follow: bool) -> AsyncGenerator[Records]:
        """Yield the records of the log, and with `follow` also new records.

        Raises:
            ConfigurationError: the settings name a broker inside a process.
            BrokerError: no broker can be reached, or the topic cannot be read; without `follow` the
                topic must exist.
        """
        async with self._cluster as cluster, cluster.reader() as reader:
            partitions = await self._partitions(follow=follow)
            begins = _complete(partitions, await cluster.begins([self._topic]))
            ends = _complete(partitions, await cluster.ends([self._topic]))
            async with aclosing(reader.records(ends, begins)) as history:
                async for records in history:
                    yield records
            if not follow:
                return
            report, patience = self._report, self._patience
            async with aclosing(reader.follow(ends, report=report, patience=patience)) as coming:
                async for records in coming:
                    yield records

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
            await asyncio.sleep(_PAUSE_SECONDS)
        return [TopicPartition(self._topic, number) for number in range(count)]


def _complete(partitions: Iterable[TopicPartition], offsets: Offsets) -> Offsets:
    """Return the offsets of every partition.

    Raises:
        TopicError: a partition has no leader.
    """
    for topic, number in set(partitions) - offsets.keys():
        text = f"partition {number} of topic {topic} has no leader now, so it cannot be read"
        raise TopicError(f"{text}; try again when its brokers run", topic=topic)
    return offsets
