"""The number of open dead letters: neither replayed, nor dropped, nor expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from kafkaesk_core import App, Cluster, Settings, TopicPartition

from .dead.ledger import Ledger
from .dead.stored import LogReader
from .places import EMBEDDED, StreamNames

__all__ = ["OpenLetters"]

logger = logging.getLogger("kafkaesk.retry")

FIRST_LOOK = 5.0


class OpenLetters:
    """Counts the open letters of some groups every `interval` seconds.

    A count requests the ends of the dead letters' logs, and reads only the marks written since the
    previous count. `count` is None while the number is unknown: before the first count, while a
    partition has no leader, and after a failed count, which is logged once.
    """

    def __init__(
        self, app: App, names: StreamNames, groups: Callable[[], Iterable[str]], interval: float
    ) -> None:
        self._app = app
        self._names = names
        self._groups = groups
        self._interval = interval
        self._prefix = app.settings.topic_prefix
        self._is_told = False
        self._forget()

    def _forget(self) -> None:
        self.count: int | None = None
        self._ledger = Ledger(self._names, self._prefix)
        self._read: dict[TopicPartition, int] = {}

    async def watch(self) -> None:
        """Count repeatedly until cancelled; without groups the count is 0."""
        await asyncio.sleep(min(self._interval, FIRST_LOOK))
        if not set(self._groups()):
            self.count = 0
            return
        while True:
            try:
                async with Cluster(self._settings()) as cluster:
                    await self._watch(cluster)
            except Exception as error:
                self.count = None
                if not self._is_told:
                    logger.warning("how many dead letters are open is not known: %s", error)
                self._is_told = True
            await asyncio.sleep(self._interval)

    def _settings(self) -> Settings:
        settings = self._app.settings
        if any(server.startswith(EMBEDDED) for server in settings.kafka_servers):
            # The broker runs inside this process; an address that names none starts another one.
            inside = tuple(f"{EMBEDDED}{server}" for server in self._app.servers)
            settings = settings.model_copy(update={"kafka_servers": inside})
        return settings

    async def _watch(self, cluster: Cluster) -> None:
        """Count over one connection, because connecting is slow, especially with TLS."""
        while True:
            self.count = await self._look(cluster)
            await asyncio.sleep(self._interval)

    async def _look(self, cluster: Cluster) -> int | None:
        groups = set(self._groups())
        prefixes = tuple(self._prefix + self._names.dead(group, "") for group in groups)
        topics = {topic.name: topic.partitions for topic in await cluster.topics()}
        dead = [topic for topic in topics if topic.startswith(prefixes)]
        # Marks come first: a letter that is settled in between counts as open.
        states = topics.keys() & set(map(self._ledger.topic, groups))
        marks = await cluster.ends(states)
        await self._read_marks(cluster, marks)
        begins, ends = await cluster.begins(dead), await cluster.ends(dead)
        is_complete = len(marks) >= sum(topics[topic] for topic in states)
        if not is_complete or len(begins.keys() & ends.keys()) < sum(topics[one] for one in dead):
            return None  # a partition has no leader for now
        return sum(
            end - begins[one] - self._ledger.count(one, begins[one], end)
            for one, end in ends.items()
        )

    async def _read_marks(self, cluster: Cluster, ends: Mapping[TopicPartition, int]) -> None:
        if any(end < self._read.get(one, 0) for one, end in ends.items()):
            self._forget()  # of a topic that was deleted
        unread = {one: end for one, end in ends.items() if end > self._read.get(one, 0)}
        if not unread:
            return
        async with LogReader.connect(cluster) as reader:
            async for record in reader.records(unread, self._read):
                self._ledger.take(record)
        self._read.update(unread)
