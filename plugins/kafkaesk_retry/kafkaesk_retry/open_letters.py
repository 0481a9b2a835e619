"""How many dead letters are open, that is neither replayed, nor dropped, nor expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from kafkaesk_core import App, Cluster, TopicPartition

from .dead.ledger import Ledger
from .dead.stored import LogReader
from .places import StreamNames

__all__ = ["OpenLetters"]

logger = logging.getLogger("kafkaesk.retry")

FIRST_LOOK = 5.0


class OpenLetters:
    """Counts the open letters of some groups, again every `interval` seconds.

    A look asks for the ends of the logs of dead letters, and reads only the marks that are new
    since the look before. `count` is None while it is not known: before the first look, and after
    one that failed, which is logged once.
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
        """Count, and count again, until this is cancelled."""
        pause = min(self._interval, FIRST_LOOK)
        while True:
            await asyncio.sleep(pause)
            pause = self._interval
            try:
                self.count = await self._look()
            except Exception as error:
                self.count = None
                if not self._is_told:
                    logger.warning("how many dead letters are open is not known: %s", error)
                self._is_told = True

    async def _look(self) -> int:
        settings = self._app.settings
        if any("://" in server for server in settings.kafka_servers):
            # The broker runs inside this process; an address that names none starts another one.
            inside = tuple(f"embedded://{server}" for server in self._app.servers)
            settings = settings.model_copy(update={"kafka_servers": inside})
        groups = set(self._groups())
        prefixes = tuple(self._prefix + self._names.dead(group, "") for group in groups)
        async with Cluster(settings) as cluster:
            topics = {topic.name for topic in await cluster.topics()}
            dead = [topic for topic in topics if topic.startswith(prefixes)]
            # Marks come first: a letter that is settled in between counts as open.
            await self._read_marks(cluster, topics.intersection(map(self._ledger.topic, groups)))
            begins, ends = await cluster.begins(dead), await cluster.ends(dead)
        return sum(
            end - begins[one] - self._ledger.count(one, begins[one], end)
            for one, end in ends.items()
            if one in begins
        )

    async def _read_marks(self, cluster: Cluster, states: Iterable[str]) -> None:
        ends = await cluster.ends(states)
        if any(ends.get(one, 0) < read for one, read in self._read.items()):
            self._forget()  # of a topic that was deleted
        unread = {one: end for one, end in ends.items() if end > self._read.get(one, 0)}
        if not unread:
            return
        options = cluster.settings.client.for_consumer()
        async with LogReader.connect(cluster.servers, options) as reader:
            async for record in reader.records(unread, self._read):
                self._ledger.take(record)
        self._read.update(unread)
