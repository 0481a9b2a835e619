"""Read access to a cluster, for commands and tools: topics, offsets, groups, configurations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from .bootstrap import open_bootstrap
from .errors import ConfigurationError, NotRunningError, TopicError
from .kafka.queries import BEGIN, END, Queries
from .kafka.reader import RecordReader
from .settings import Settings
from .structs import TopicPartition

__all__ = [
    "Cluster",
    "ClusterGroup",
    "ClusterTopic",
    "CommittedOffset",
    "GroupMember",
    "PartitionLag",
    "RecordReader",
    "refuse_own_broker",
]


@dataclass(frozen=True, slots=True)
class ClusterTopic:
    """A topic, with its number of partitions and the number of replicas of each."""

    name: str
    partitions: int
    replication_factor: int
    is_internal: bool = False


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A member of a group; `partitions` is empty if none are assigned or they are unknown."""

    member_id: str
    client_id: str
    host: str
    partitions: tuple[TopicPartition, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterGroup:
    """A consumer group. `state` is Kafka's: "Stable", "Empty", ...; "Dead" if the group is unknown.

    `members` has one entry per consumer, so usually one per process.
    """

    name: str
    state: str
    members: tuple[GroupMember, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether the coordinator knows the group; it forgets an empty group without commits."""
        return self.state != "Dead"


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    """A group's committed offset (the next one to read), and the metadata stored with it."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """The progress of a group in one partition; None stands for an unknown value.

    `committed` is None before the first commit, `end` while the partition has no leader. `lag`
    counts offsets, as Kafka's own tools do: markers and compacted records too.
    """

    topic: str
    partition: int
    committed: int | None
    end: int | None
    member: GroupMember | None = None

    @property
    def lag(self) -> int | None:
        """The number of offsets from the committed one to the end."""
        if self.committed is None or self.end is None:
            return None
        return max(0, self.end - self.committed)


class Cluster:
    """Reads from a cluster and changes nothing: creates no topic, joins no group, commits nothing.

    Use it with `async with Cluster(app.settings) as cluster`. Each request may take `timeout`
    seconds, `start_timeout` by default; temporary failures are retried until then. Every method
    raises a BrokerError if no broker can be reached or if the broker refuses the request.
    """

    def __init__(self, settings: Settings, *, timeout: float | None = None) -> None:
        self._settings = settings
        self._timeout = settings.start_timeout if timeout is None else timeout
        self._stack = AsyncExitStack()
        self._opened: Queries | None = None
        self.servers: tuple[str, ...] = ()
        """The bootstrap servers, as "host:port"."""
        self.settings = settings
        """The settings, with the defaults of this cluster once it is open."""

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ConfigurationError: the settings are invalid, or name a broker inside a process.
            BrokerError: no broker can be reached.
        """
        settings = self._settings
        settings.check()
        refuse_own_broker(settings)
        async with AsyncExitStack() as stack:
            bootstrap = await stack.enter_async_context(open_bootstrap(settings))
            self.servers = bootstrap.servers
            self.settings = settings.over(bootstrap.kafka_settings)
            queries = Queries(bootstrap.servers, self.settings.client.for_admin())
            await queries.start(self._timeout)
            stack.push_async_callback(queries.close, self._timeout)
            self._opened = queries
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Disconnect."""
        self._opened = None
        await self._stack.aclose()

    @property
    def _queries(self) -> Queries:
        if self._opened is None:
            raise NotRunningError("the cluster is not open; use it in 'async with Cluster(...)'")
        return self._opened

    # --- topics

    async def topics(self) -> tuple[ClusterTopic, ...]:
        """Return all topics that this client may describe, sorted by name."""
        found = await self._queries.topics(None, self._timeout)
        return tuple(
            ClusterTopic(
                one.name,
                len(one.partitions),
                max((len(each.replicas) for each in one.partitions), default=0),
                one.is_internal,
            )
            for one in sorted(found)
            if one.code == 0
        )

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the number of partitions of each of these topics that exists."""
        wanted = set(topics)
        if not wanted:
            return {}
        found = await self._queries.topics(wanted, self._timeout)
        return {one.name: len(one.partitions) for one in found if one.code == 0}

    async def begins(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        """Return the first offset of each partition of `topics`, which are full names.

        Partitions without a leader are left out.
        """
        return await self._queries.offsets(topics, BEGIN, self._timeout)

    async def ends(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        """Return the offset after the last record, including records of open transactions.

        `topics` are full names. Partitions without a leader are left out.
        """
        return await self._queries.offsets(topics, END, self._timeout)

    async def offsets_at(
        self, topics: Iterable[str], timestamp_ms: int
    ) -> dict[TopicPartition, int]:
        """Return the first offset at or after a time; the end offset if there is no such record.

        `topics` are full names; `timestamp_ms` is in milliseconds since 1970.

        Raises:
            ConfigurationError: the time is before 1970.
        """
        if timestamp_ms < 0:
            raise ConfigurationError(f"offsets_at({timestamp_ms}): give milliseconds since 1970")
        names = tuple(topics)
        ends = await self.ends(names)
        found = await self._queries.offsets(names, timestamp_ms, self._timeout)
        return {one: end if found.get(one, -1) < 0 else found[one] for one, end in ends.items()}

    async def configs(self, topic: str) -> dict[str, str | None]:
        """Return a topic's settings in Kafka; None for settings that Kafka hides.

        Raises:
            TopicError: the topic does not exist.
        """
        found = await self._queries.configs(topic, self._timeout)
        if not found:
            raise TopicError(
                f"topic {topic} does not exist, or this user is not authorized to see its settings",
                topic=topic,
            )
        return found

    # --- records

    @asynccontextmanager
    async def reader(self, **options: Any) -> AsyncIterator[RecordReader]:  # aiokafka's
        """Open a reader of records, and close it at the end; it joins no group.

        `options` are options of aiokafka's consumer; they override the settings.

        Raises:
            BrokerError: no broker can be reached, or the broker refused the connection.
        """
        _ = self._queries  # raises if the cluster is not open
        above = {**self.settings.client.for_consumer(), **options}
        reader = RecordReader(self.servers, above, timeout=self._timeout)
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()

    # --- groups

    async def groups(self) -> tuple[str, ...]:
        """Return the names of all groups that this client may describe."""
        return tuple(await self._queries.group_names(self._timeout))

    async def group(self, name: str) -> ClusterGroup:
        """Return a group's state and members."""
        found = await self._queries.group(name, self._timeout)
        return ClusterGroup(name, found.state, tuple(GroupMember(*one) for one in found.members))

    async def committed(self, group: str) -> dict[TopicPartition, CommittedOffset]:
        """Return the offsets that a group has committed."""
        found = await self._queries.committed(group, self._timeout)
        return {partition: CommittedOffset(*each) for partition, each in found.items()}

    async def lag(self, group: str) -> tuple[PartitionLag, ...]:
        """Return a group's progress in each partition that is committed or assigned.

        The committed offsets are read before the end offsets, so the lag is never too small.
        """
        members = {
            partition: member
            for member in (await self.group(group)).members
            for partition in member.partitions
        }
        committed = await self.committed(group)
        partitions = sorted({*members, *committed})
        ends = await self.ends({partition.topic for partition in partitions})
        return tuple(
            PartitionLag(
                one.topic,
                one.partition,
                committed[one].offset if one in committed else None,
                ends.get(one),
                members.get(one),
            )
            for one in partitions
        )


def refuse_own_broker(settings: Settings) -> None:
    """Refuse settings that would start a new, empty broker in this process.

    Raises:
        ConfigurationError: the settings name `embedded://` without the address of a running broker.
    """
    server = settings.kafka_servers[0] if settings.kafka_servers else ""
    if server.startswith("embedded://") and not urlsplit(server).netloc:
        raise ConfigurationError(
            "embedded:// is a broker inside the process of a service, and would be an empty one "
            "here; write addresses as host:port, as in localhost:9092, or embedded://HOST:PORT for "
            "the broker inside a running service"
        )
