"""The cluster's topics: which there are, how many partitions they have, and making them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    TopicAlreadyExistsError,
    for_code,
)

from kafkaesk_core import TopicError
from kafkaesk_core.plugin import diagnose, translate_error

__all__ = ["Cluster"]

PAUSES = (0.1, 0.2, 0.5, 1.0)


class Cluster:
    """Requests of one admin client; open it with `Cluster.connect`."""

    def __init__(self, client: AIOKafkaAdminClient, servers: Sequence[str]) -> None:
        self._client = client
        self._servers = servers

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        servers: Sequence[str],
        options: Mapping[str, Any],  # aiokafka's
        timeout: float,
    ) -> AsyncIterator[Cluster]:
        """Connect, and disconnect in the end.

        Raises:
            BrokerError: no broker can be used, or it refused.
        """
        client = AIOKafkaAdminClient(bootstrap_servers=list(servers), **options)
        try:
            async with asyncio.timeout(timeout):
                await client.start()
            yield cls(client, servers)
        except (KafkaConnectionError, TimeoutError) as error:
            raise await diagnose(tuple(servers), dict(options)) from error
        except KafkaError as error:
            raise translate_error(error, "asking for topics", servers=servers) from error
        finally:
            await client.close()

    async def topics(self) -> set[str]:
        """Return the names of all topics that we may see."""
        for pause in PAUSES:
            try:
                return set(await self._client.list_topics())
            except NodeNotReadyError:  # its connection is being opened
                await asyncio.sleep(pause)
        return set(await self._client.list_topics())

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the numbers of partitions of those topics that exist."""
        wanted = sorted(set(topics) & await self.topics())
        if not wanted:
            return {}
        found = await self._client.describe_topics(wanted)
        return {one["topic"]: len(one["partitions"]) for one in found if not one["error_code"]}

    async def create(
        self, topic: str, partitions: int, configs: Mapping[str, str], replicas: int | None
    ) -> None:
        """Create a topic unless it exists; `replicas` None means one per broker, three at most.

        Raises:
            TopicError: it cannot be created, with Kafka's reason.
        """
        if topic in await self.topics():
            return
        if replicas is None:
            brokers = (await self._client.describe_cluster())["brokers"]
            replicas = max(1, min(len(brokers), 3))
        wanted = NewTopic(topic, partitions, replicas, topic_configs=dict(configs))
        answer = await self._client.create_topics([wanted])
        _, code, text, *_ = answer.topic_errors[0]
        if code not in (0, TopicAlreadyExistsError.errno):
            reason = text or for_code(code).__name__
            raise TopicError(f"creating topic {topic} failed: {reason}", topic=topic, code=code)
