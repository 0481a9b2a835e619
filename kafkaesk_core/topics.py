"""Topics: their mapping to streams, their creation, and the one schema of each topic."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import aiokafka.errors as kafka

from .delivery import copy_exception
from .errors import (
    AuthorizationError,
    BrokerUnreachableError,
    KafkaeskError,
    NotRunningError,
    SchemaConflictError,
    TopicError,
)
from .kafka.admin import Admin, CreateResult, TopicState
from .kafka.errors import is_retryable, translate
from .schema.registry import SchemaRegistration
from .tasks import Backoff, start_detached
from .topic_names import TOPIC_NAME_RULE, is_misspelling, is_topic_name

__all__ = ["TopicFacts", "Topics", "check_topic_name"]

logger = logging.getLogger("kafkaesk.topics")

Result = TypeVar("Result")
_INVALID_TOPIC = 17
_CONFIGS = ("retention.ms", "max.message.bytes", "cleanup.policy")
_CREATED, _UNKNOWN, _AUTHORIZATION, _EXISTS = 0, 3, 29, 36
# The cluster is changing, or the topic elects its leaders: ask again (rule 40).
_RETRIED = frozenset({5, 6, 7, 14, 15, 16, 41})
_MOCK_CLUSTER = "mockCluster"
_BROKERS_FOR_REPLICAS = 3
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """The facts about an existing topic; None for facts that this client may not see."""

    partitions: int
    was_created: bool = False
    retention_ms: int | None = None
    max_message_bytes: int | None = None
    is_compacted: bool = False


class Topics:
    """All topics of an application.

    With `create=False` no topic is created, and a missing topic is an error. `create_on_use` is for
    clusters that create topics only on first use: there `ensure` does nothing. `timeout` is the
    time limit of one `ensure`, in seconds.
    """

    def __init__(
        self,
        prefix: str,
        admin: Admin | None,
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
        """The id of the schema that the topic carries."""
        self._declared: dict[str, str] = {}
        self._compared: set[str] = set()

    def topic_of(self, stream: str) -> str:
        """Return the name of a stream's topic."""
        return self.prefix + stream

    def stream_of(self, topic: str) -> str | None:
        """Return the stream of a topic; None if the topic lacks the application's prefix."""
        stream = topic.removeprefix(self.prefix)
        return stream if stream and self.prefix + stream == topic else None

    def declare(self, topic: str, schema_id: str) -> None:
        """Claim a topic for a declared schema, before anything is published.

        Raises:
            SchemaConflictError: the topic already carries another schema.
        """
        self._declared[topic] = schema_id
        self.claim(topic, schema_id)

    def declared_like(self, topic: str, schema_id: str | None = None) -> str | None:
        """Return the declared topic of this schema that a name may misspell."""
        known = (name for name, carried in self._declared.items() if schema_id in (carried, None))
        return next((name for name in known if is_misspelling(topic, name)), None)

    def claim(self, topic: str, schema_id: str) -> None:
        """Note that a topic carries messages of this schema, in any version.

        Raises:
            SchemaConflictError: the topic already carries another schema.
        """
        if topic not in self._schemas and topic not in self._declared:
            self._warn_about_misspelling(topic, schema_id)
        claimed = self._schemas.setdefault(topic, schema_id)
        if claimed != schema_id:
            raise SchemaConflictError(
                f"topic {topic} carries schema {claimed!r}, so it cannot carry {schema_id!r}; "
                "publish to a stream of its own, or register a new version of the first",
                schema=schema_id,
                topic=topic,
            )

    def _warn_about_misspelling(self, topic: str, schema_id: str) -> None:
        if similar := self.declared_like(topic, schema_id):
            logger.warning(
                "schema %s is published to topic %s, which is not one of its streams; did you mean "
                "%s? If not, name both in streams=",
                *(schema_id, topic, similar),
            )

    def facts(self, topic: str) -> TopicFacts | None:
        """Return the facts that the last `ensure` of the topic found."""
        return self._facts.get(topic)

    def invalidate(self, topic: str) -> None:
        """Forget that a topic exists, because the broker no longer knows it."""
        self._facts.pop(topic, None)

    async def ensure(
        self,
        topic: str,
        schema: SchemaRegistration | None = None,
        *,
        partitions: int | None = None,
        configs: Mapping[str, str] | None = None,
    ) -> None:
        """Ensure that a topic exists, with the partitions and retention of its schema.

        `partitions` and Kafka's `configs` are for a topic without a schema.

        The brokers are asked once per topic, however many callers wait, and the answer is kept
        until `invalidate`. An existing topic is never altered; one warning says how it differs.

        Raises:
            TopicError: the name is invalid, the topic cannot be created (with Kafka's reason), or
                it does not exist and may not be created.
            AuthorizationError: this client may neither describe nor create the topic.
            BrokerUnreachableError: no broker gave a final answer within the timeout.
        """
        if topic in self._facts:
            return
        check_topic_name(topic)
        if self._admin is None:
            return
        task = self._running.get(topic)
        if task is None:
            work = self._set_up(self._admin, topic, schema, partitions, configs or {})
            task = start_detached(work)
            self._running[topic] = task
            task.add_done_callback(lambda task: self._forget(topic, task))
        # A cancelled caller does not cancel the request of the others.
        await asyncio.wait([task])
        if task.cancelled():
            raise NotRunningError(f"topic {topic} was not looked up: the application stopped")
        error = task.exception()
        if error is not None:
            raise copy_exception(error)

    async def stop(self) -> None:
        """Cancel the running requests; their callers get an error."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _forget(self, topic: str, task: asyncio.Task[TopicFacts]) -> None:
        self._running.pop(topic, None)
        if not task.cancelled():
            task.exception()  # all callers may have been cancelled

    async def _set_up(
        self,
        admin: Admin,
        topic: str,
        schema: SchemaRegistration | None,
        partitions: int | None,
        configs: Mapping[str, str],
    ) -> TopicFacts:
        retention = None if schema is None or schema.retention is None else schema.retention * 1000
        if retention is not None:
            configs = {**configs, "retention.ms": str(retention)}
        partitions = partitions or self._partitions
        factor = self._replication_factor
        if schema is not None:
            partitions = schema.partitions or partitions
            factor = schema.replication_factor or factor
        deadline = asyncio.get_running_loop().time() + self._timeout
        setup = TopicSetup(admin, topic, deadline, partitions, factor, configs, self._create)
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


@dataclass(slots=True)
class TopicSetup:
    """One attempt to ensure that a topic exists, with a deadline on the event loop's clock.

    `replication_factor` None means one replica per broker, at most three.
    """

    admin: Admin
    topic: str
    deadline: float
    partitions: int
    replication_factor: int | None = None
    configs: Mapping[str, str] = field(default_factory=dict)
    may_create: bool = True

    async def run(self) -> TopicFacts:
        """Return the topic's facts once it exists and its metadata shows all partitions.

        Raises:
            TopicError: the topic cannot be created (with Kafka's reason), or does not exist and may
                not be created.
            AuthorizationError: this client may neither describe nor create the topic.
            BrokerUnreachableError: no broker gave a final answer in time.
        """
        state = await self._until(self._describe, lambda found: found.code not in _RETRIED)
        was_created = False
        if state.code == _UNKNOWN:
            was_created = await self._create()
            state = await self._until(self._describe, _is_complete)
        if state.code:
            raise self._refused(state.code, "", "looking up")
        configs = await self._until(self._describe_configs)
        return TopicFacts(
            partitions=len(state.partitions),
            was_created=was_created,
            retention_ms=_number(configs.get("retention.ms")),
            max_message_bytes=_number(configs.get("max.message.bytes")),
            is_compacted="compact" in (configs.get("cleanup.policy") or ""),
        )

    async def _create(self) -> bool:
        """Create the topic; return False if another process created it."""
        if not self.may_create:
            raise TopicError(
                f"topic {self.topic} does not exist and may not be created by this application; "
                "create it, or allow it with create_topics=True",
                topic=self.topic,
                code=_UNKNOWN,
            )
        result = await self._until(self._ask_to_create, lambda answer: answer.code not in _RETRIED)
        if result.code not in (_CREATED, _EXISTS):
            raise self._refused(result.code, result.text, "creating")
        return result.code == _CREATED

    async def _ask_to_create(self, timeout: float) -> CreateResult:
        factor = self.replication_factor
        if factor is None:
            brokers = await self.admin.broker_count(timeout=timeout)
            factor = max(1, min(brokers, _BROKERS_FOR_REPLICAS))
        try:
            return await self.admin.create_topic(
                self.topic, self.partitions, factor, self.configs, timeout=timeout
            )
        except kafka.NodeNotReadyError:
            await self._refuse_mock_cluster(timeout)
            raise

    async def _refuse_mock_cluster(self, timeout: float) -> None:
        """Refuse librdkafka's mock cluster at once, because it creates topics only on first use."""
        if (await self.admin.cluster_id(timeout=timeout)).startswith(_MOCK_CLUSTER):
            raise TopicError(
                f"topic {self.topic} cannot be created: the broker is the mock cluster of "
                "librdkafka, as EmbeddedBroker and the fixture embedded_kafka start it, where a "
                "topic appears when it is first used; use the fixture embedded_app, "
                "Application('embedded://'), or the address of the broker as embedded://HOST:PORT",
                topic=self.topic,
            )

    async def _describe(self, timeout: float) -> TopicState:
        return await self.admin.describe_topic(self.topic, timeout=timeout)

    async def _describe_configs(self, timeout: float) -> Mapping[str, str | None]:
        try:
            return await self.admin.describe_topic_configs(self.topic, _CONFIGS, timeout=timeout)
        except kafka.IncompatibleBrokerVersion:
            return {}

    async def _until(
        self,
        ask: Callable[[float], Awaitable[Result]],
        is_final: Callable[[Result], bool] = lambda _: True,
    ) -> Result:
        """Repeat a request, with pauses, until the answer is final."""
        loop, is_reported = asyncio.get_running_loop(), False
        backoff = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while True:
            last: Exception | None = None
            try:
                answer = await ask(max(0.1, self.deadline - loop.time()))
                if is_final(answer):
                    return answer
                state = str(answer)
            except (kafka.KafkaError, OSError) as error:
                if not is_retryable(error):
                    raise translate(error, f"asking for {self.topic}", topic=self.topic) from error
                last, state = error, f"{error!r}"
            if loop.time() + backoff.pause >= self.deadline:
                raise BrokerUnreachableError(
                    f"topic {self.topic} was not ready in time; the last answer was {state}"
                ) from last
            if backoff.pause >= _LONGEST_PAUSE_SECONDS and not is_reported:
                is_reported = True
                left = self.deadline - loop.time()
                logger.warning(
                    "topic %s is not ready: %s; retrying for another %.0f seconds",
                    self.topic,
                    state,
                    left,
                )
            await backoff.wait()

    def _refused(self, code: int, text: str, attempted: str) -> KafkaeskError:
        name = kafka.for_code(code).__name__
        message = f"{attempted} topic {self.topic} failed: {text or name} (Kafka's code {code})"
        if code == _AUTHORIZATION:
            return AuthorizationError(
                f"{message}; the application is not authorized to describe or create it"
            )
        return TopicError(message, topic=self.topic, code=code)


def _is_complete(state: TopicState) -> bool:
    if state.code:
        return state.code not in (*_RETRIED, _UNKNOWN)
    return 0 < len(state.partitions) == len(state.led)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


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


def check_topic_name(topic: str) -> None:
    """Refuse a name that Kafka would refuse.

    Raises:
        TopicError: the name is invalid; the error has Kafka's rule.
    """
    if not is_topic_name(topic):
        raise TopicError(
            f"{topic!r} is not a valid topic name; {TOPIC_NAME_RULE}",
            topic=topic,
            code=_INVALID_TOPIC,
        )
