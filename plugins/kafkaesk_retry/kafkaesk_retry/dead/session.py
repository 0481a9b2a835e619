"""One look at a cluster's dead letters: what is read stands still, while new ones arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka.structs import TopicPartition

from kafkaesk_core import ConfigurationError, Settings
from kafkaesk_core.plugin import open_bootstrap
from kafkaesk_retry.cluster import Cluster
from kafkaesk_retry.places import StreamNames

from .ledger import Ledger
from .stored import LogReader, Selection, StoredLetter, read_letter

__all__ = ["Session"]


class Session:
    """The dead letters of a selection, up to the ends that the logs had when it was opened."""

    def __init__(
        self,
        settings: Settings,
        names: StreamNames,
        selection: Selection,
        servers: tuple[str, ...],
        cluster: Cluster,
        reader: LogReader,
    ) -> None:
        self.settings = settings
        self.names = names
        self.servers = servers
        self.cluster = cluster
        self.reader = reader
        self.ledger = Ledger(names, settings.topic_prefix)
        self.foreign: Counter[str] = Counter()
        """By topic: records that are no dead letters."""
        self._selection = selection
        self._ends: Mapping[TopicPartition, int] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, names: StreamNames, selection: Selection
    ) -> AsyncIterator[Session]:
        """Connect, and read the marks of what is settled.

        Raises:
            ConfigurationError: the settings name no cluster that is outside of a process.
            BrokerError: no broker can be used, or it refused.
        """
        settings.check()
        if settings.kafka_servers[0].startswith("embedded://"):
            raise ConfigurationError(
                "embedded:// is a broker inside the process of a service, and would be an empty "
                "one here; write addresses as host:port, as in localhost:9092"
            )
        async with open_bootstrap(settings) as bootstrap:
            client, servers = settings.over(bootstrap.kafka_settings).client, bootstrap.servers
            async with (
                Cluster.connect(servers, client.for_admin(), settings.start_timeout) as cluster,
                LogReader.connect(servers, client.for_consumer()) as reader,
            ):
                session = cls(settings, names, selection, servers, cluster, reader)
                await session._begin()
                yield session

    async def _begin(self) -> None:
        topics = await self.cluster.topics()
        prefix = self.settings.topic_prefix + self.names.dead_prefix
        dead = await self.cluster.partitions(t for t in topics if t.startswith(prefix))
        self._ends = await self.reader.ends(dead)
        marks = await self.cluster.partitions(t for t in topics if self.ledger.is_topic(t))
        async for record in self.reader.records(await self.reader.ends(marks)):
            self.ledger.take(record)

    async def letters(self, *, with_settled: bool = False) -> AsyncIterator[StoredLetter]:
        """Yield the letters that are meant; each call yields the same ones."""
        self.foreign.clear()
        async for record in self.reader.records(self._ends):
            letter = read_letter(record)
            if letter is None:
                self.foreign[record.topic] += 1
            elif self._selection.takes(letter) and (
                with_settled or not self.ledger.is_settled(letter.place)
            ):
                yield letter
