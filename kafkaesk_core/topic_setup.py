"""Bringing one topic into being, or finding out how it is."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import aiokafka.errors as kafka

from .errors import AuthorizationError, BrokerUnreachableError, KafkaeskError, TopicError
from .kafka.admin import ConfigEntry, CreateResult, TopicState
from .kafka.errors import is_retryable, translate

__all__ = ["TopicAdmin", "TopicFacts", "TopicSetup"]

logger = logging.getLogger("kafkaesk.topics")

Result = TypeVar("Result")
_CONFIGS = ("retention.ms", "max.message.bytes", "cleanup.policy")
_CREATED, _UNKNOWN, _AUTHORIZATION, _EXISTS = 0, 3, 29, 36
# The cluster is busy with itself, or the topic with its leaders: ask again (rule 40).
_RETRIED = frozenset({5, 6, 7, 14, 15, 16, 41})
_MOCK_CLUSTER = "mockCluster"
_BROKERS_FOR_REPLICAS = 3
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0


class TopicAdmin(Protocol):
    """What is needed of the admin client; requests raise aiokafka's errors."""

    async def create_topic(
        self,
        name: str,
        partitions: int,
        replication_factor: int,
        configs: Mapping[str, str] | None = None,
        *,
        timeout: float,
    ) -> CreateResult:
        """Create a topic and return Kafka's answer."""

    async def describe_topic(self, topic: str, *, timeout: float) -> TopicState:
        """Return what metadata says, without creating the topic."""

    async def describe_topic_configs(
        self, topic: str, names: Sequence[str], *, timeout: float
    ) -> Mapping[str, ConfigEntry]:
        """Return these settings, as far as they may be seen."""

    async def broker_count(self, *, timeout: float) -> int:
        """Return how many brokers the cluster has now."""

    async def cluster_id(self, *, timeout: float) -> str:
        """Return what the cluster calls itself; "" if it does not say."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What was found out about an existing topic; None where it may not be seen."""

    partitions: int
    was_created: bool = False
    retention_ms: int | None = None
    max_message_bytes: int | None = None
    is_compacted: bool = False


@dataclass(slots=True)
class TopicSetup:
    """One run of making sure that a topic exists, within a deadline of the event loop's clock.

    `replication_factor` None means one replica per broker, three at most.
    """

    admin: TopicAdmin
    topic: str
    deadline: float
    partitions: int
    replication_factor: int | None = None
    retention_ms: int | None = None
    may_create: bool = True

    async def run(self) -> TopicFacts:
        """Return the topic's facts once it exists and its metadata shows all partitions.

        Raises:
            TopicError: it cannot be created, with Kafka's own words, or does not exist and may
                not be created.
            AuthorizationError: we may neither see nor create it.
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
            is_compacted="compact" in configs["cleanup.policy"].value if configs else False,
        )

    async def _create(self) -> bool:
        """Create the topic; return whether it was us and not another."""
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
        configs = {} if self.retention_ms is None else {"retention.ms": str(self.retention_ms)}
        try:
            return await self.admin.create_topic(
                self.topic, self.partitions, factor, configs, timeout=timeout
            )
        except kafka.NodeNotReadyError:
            await self._refuse_mock_cluster(timeout)
            raise

    async def _refuse_mock_cluster(self, timeout: float) -> None:
        """Say at once what asking again would not: librdkafka's mock creates topics on use only."""
        if (await self.admin.cluster_id(timeout=timeout)).startswith(_MOCK_CLUSTER):
            raise TopicError(
                f"topic {self.topic} cannot be created: the broker is the mock cluster of "
                "librdkafka, as EmbeddedBroker and the fixture embedded_kafka start it, where a "
                "topic appears when it is first used; use the fixture embedded_app, or "
                "Application('embedded://')",
                topic=self.topic,
            )

    async def _describe(self, timeout: float) -> TopicState:
        return await self.admin.describe_topic(self.topic, timeout=timeout)

    async def _describe_configs(self, timeout: float) -> Mapping[str, ConfigEntry]:
        try:
            return await self.admin.describe_topic_configs(self.topic, _CONFIGS, timeout=timeout)
        except kafka.IncompatibleBrokerVersion:
            return {}

    async def _until(
        self,
        ask: Callable[[float], Awaitable[Result]],
        is_final: Callable[[Result], bool] = lambda _: True,
    ) -> Result:
        """Ask again, with pauses, until the answer is final."""
        loop, pause, is_told = asyncio.get_running_loop(), _FIRST_PAUSE_SECONDS, False
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
            if loop.time() + pause >= self.deadline:
                raise BrokerUnreachableError(
                    f"topic {self.topic} was not ready in time; the last answer was {state}"
                ) from last
            if pause >= _LONGEST_PAUSE_SECONDS and not is_told:
                is_told = True
                left = self.deadline - loop.time()
                logger.warning(
                    "topic %s is not ready: %s; retrying for another %.0f seconds",
                    self.topic,
                    state,
                    left,
                )
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

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


def _number(entry: ConfigEntry | None) -> int | None:
    return None if entry is None or entry.value is None else int(entry.value)
