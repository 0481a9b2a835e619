"""Topics: the mapping from streams, their creation, and the one schema that each carries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context

from .batch_outcome import fresh
from .errors import NotRunningError, SchemaConflictError, TopicError
from .schema.registry import SchemaRegistration
from .topic_names import TOPIC_NAME_RULE, is_topic_name
from .topic_setup import TopicAdmin, TopicFacts, TopicSetup

__all__ = ["TopicAdmin", "Topics", "check_topic_name"]

logger = logging.getLogger("kafkaesk.topics")

_INVALID_TOPIC = 17


def check_topic_name(topic: str) -> None:
    """Refuse what Kafka would refuse.

    Raises:
        TopicError: with Kafka's rule.
    """
    if not is_topic_name(topic):
        raise TopicError(
            f"{topic!r} is not a valid topic name; {TOPIC_NAME_RULE}",
            topic=topic,
            code=_INVALID_TOPIC,
        )


class Topics:
    """All topics of an application.

    With `create=False` nothing is created and a missing topic is an error. `create_on_use` is
    for clusters that make topics by themselves when they are first used and cannot be asked to:
    there `ensure` does nothing. `timeout` bounds one `ensure`, in seconds.
    """

    def __init__(
        self,
        prefix: str,
        admin: TopicAdmin | None,
        *,
        create: bool = True,
        create_on_use: bool = False,
        partitions: int = 7,
        replication_factor: int | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.prefix = prefix
        self.on_created: list[Callable[[str], None]] = []
        """Called with the name of each topic that this process created."""
        self._admin = None if create_on_use else admin
        self._create = create
        self._partitions = partitions
        self._replication_factor = replication_factor
        self._timeout = timeout
        self._facts: dict[str, TopicFacts] = {}
        self._running: dict[str, asyncio.Task[TopicFacts]] = {}
        self._schemas: dict[str, str] = {}
        self.schema_of: Callable[[str], str | None] = self._schemas.get
        """The id of the schema that was claimed for a topic."""
        self._compared: set[str] = set()

    def topic_of(self, stream: str) -> str:
        """Return the broker's name of a stream."""
        return self.prefix + stream

    def stream_of(self, topic: str) -> str | None:
        """Return the stream that a topic carries, or None if the topic is not one of ours."""
        stream = topic.removeprefix(self.prefix)
        return stream if stream and self.prefix + stream == topic else None

    def claim(self, topic: str, schema_id: str) -> None:
        """Note that a topic carries messages of this schema, in any version.

        Raises:
            SchemaConflictError: it carries another one already.
        """
        claimed = self._schemas.setdefault(topic, schema_id)
        if claimed != schema_id:
            raise SchemaConflictError(
                f"topic {topic} carries schema {claimed!r}, so it cannot carry {schema_id!r}; "
                "publish to a stream of its own, or register a new version of the first",
                schema=schema_id,
                topic=topic,
            )

    def facts(self, topic: str) -> TopicFacts | None:
        """Return what was found out when the topic was last ensured."""
        return self._facts.get(topic)

    def invalidate(self, topic: str) -> None:
        """Forget that a topic exists: the broker no longer knows it."""
        self._facts.pop(topic, None)

    async def ensure(self, topic: str, schema: SchemaRegistration | None = None) -> None:
        """Make sure that a topic exists, with the partitions and retention that the schema asks.

        Asked for once per topic, whoever waits; remembered until `invalidate`. An existing topic
        is never altered; if it differs from the schema one warning says how.

        Raises:
            TopicError: its name is invalid; it cannot be created, with Kafka's own words; or it
                is missing and may not be created.
            AuthorizationError: we may neither see nor create it.
            BrokerUnreachableError: no broker gave a final answer within the timeout.
        """
        if topic in self._facts:
            return
        check_topic_name(topic)
        if self._admin is None:
            return
        task = self._running.get(topic)
        if task is None:
            work = self._set_up(self._admin, topic, schema)
            task = asyncio.get_running_loop().create_task(work, context=Context())
            self._running[topic] = task
            task.add_done_callback(lambda task: self._forget(topic, task))
        # A waiter that is cancelled leaves the others their answer.
        await asyncio.wait([task])
        if task.cancelled():
            raise NotRunningError(f"topic {topic} was not looked up: the application stopped")
        error = task.exception()
        if error is not None:
            raise fresh(error)

    async def close(self) -> None:
        """End what is still being asked; those who wait for it are told."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _forget(self, topic: str, task: asyncio.Task[TopicFacts]) -> None:
        self._running.pop(topic, None)
        if not task.cancelled():
            task.exception()  # all who waited may have been cancelled

    async def _set_up(
        self, admin: TopicAdmin, topic: str, schema: SchemaRegistration | None
    ) -> TopicFacts:
        retention = None if schema is None or schema.retention is None else schema.retention * 1000
        partitions = self._partitions
        factor = self._replication_factor
        if schema is not None:
            partitions = schema.partitions or partitions
            factor = schema.replication_factor or factor
        deadline = asyncio.get_running_loop().time() + self._timeout
        setup = TopicSetup(admin, topic, deadline, partitions, factor, retention, self._create)
        facts = await setup.run()
        self._facts[topic] = facts
        if facts.was_created:
            self._tell_created(topic)
        elif schema is not None and topic not in self._compared:
            self._compared.add(topic)
            _warn_if_different(topic, facts, partitions, retention)
        return facts

    def _tell_created(self, topic: str) -> None:
        logger.info("created topic %s", topic)
        for callback in self.on_created:
            try:
                callback(topic)
            except Exception:
                logger.exception("a callback on the creation of topic %s failed", topic)


def _warn_if_different(
    topic: str, facts: TopicFacts, partitions: int, retention_ms: int | None
) -> None:
    differences = []
    if facts.partitions != partitions:
        differences.append(f"{facts.partitions} partitions instead of {partitions}")
    if None not in (retention_ms, facts.retention_ms) and retention_ms != facts.retention_ms:
        differences.append(f"retention.ms {facts.retention_ms} instead of {retention_ms}")
    if differences:
        logger.warning(
            "topic %s exists with %s; it is left unchanged", topic, " and ".join(differences)
        )
