"""A snapshot of a cluster's dead letters; letters that arrive later are not part of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka.structs import TopicPartition

from kafkaesk_core import Cluster, Settings
from kafkaesk_retry.places import StreamNames

from .ledger import Ledger
from .stored import LogReader, Selection, StoredLetter, read_letter

__all__ = ["Session"]


class Session:
    """The dead letters of a selection, up to the ends of the logs when it was opened."""

    def __init__(
        self,
        names: StreamNames,
        selection: Selection,
        cluster: Cluster,
        reader: LogReader,
    ) -> None:
        self.settings = cluster.settings
        self.names = names
        self.cluster = cluster
        self.reader = reader
        self.ledger = Ledger(names, cluster.settings.topic_prefix)
        self.foreign: Counter[str] = Counter()
        """The number of records that are not dead letters, by topic."""
        self._selection = selection
        self._ends: Mapping[TopicPartition, int] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, names: StreamNames, selection: Selection
    ) -> AsyncIterator[Session]:
        """Connect, and read the marks of settled letters.

        Raises:
            ConfigurationError: the settings are invalid, or name a broker inside a process.
            BrokerError: no broker can be reached, or the broker refused a request.
        """
        async with Cluster(settings) as cluster, LogReader.connect(cluster) as reader:
            session = cls(names, selection, cluster, reader)
            await session._begin()
            yield session

    async def _begin(self) -> None:
        topics = [topic.name for topic in await self.cluster.topics()]
        prefix = self.settings.topic_prefix + self.names.dead_prefix
        dead = await self.cluster.partitions(t for t in topics if t.startswith(prefix))
        self._ends = await self.reader.ends(dead)
        marks = await self.cluster.partitions(t for t in topics if self.ledger.is_topic(t))
        async for record in self.reader.records(await self.reader.ends(marks)):
            self.ledger.take(record)

    async def letters(self, *, with_settled: bool = False) -> AsyncIterator[StoredLetter]:
        """Yield the selected letters; each call yields the same ones."""
        self.foreign.clear()
        async for record in self.reader.records(self._ends):
            letter = read_letter(record)
            if letter is None:
                self.foreign[record.topic] += 1
            elif self._selection.takes(letter) and (
                with_settled or not self.ledger.is_settled(letter.place)
            ):
                yield letter
