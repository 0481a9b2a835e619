"""The cluster's topics: which there are, how many partitions they have, and making them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from kafkaesk_core.plugin import diagnose, translate_error

__all__ = ["Cluster"]

REPLICAS = 3


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
        return set(await self._client.list_topics())

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the numbers of partitions of those topics that exist."""
        wanted = sorted(set(topics) & await self.topics())
        if not wanted:
            return {}
        found = await self._client.describe_topics(wanted)
        return {one["topic"]: len(one["partitions"]) for one in found if not one["error_code"]}

    async def create(
        self,
        topics: Mapping[str, int],
        configs: Mapping[str, str],
        replication_factor: int | None,
    ) -> dict[str, str]:
        """Create topics with so many partitions; return why some of them could not be made."""
        if not topics:
            return {}
        factor = replication_factor
        if factor is None:
            brokers = (await self._client.describe_cluster())["brokers"]
            factor = max(1, min(len(brokers), REPLICAS))
        wanted = [
            NewTopic(name, partitions, factor, topic_configs=dict(configs))
            for name, partitions in topics.items()
        ]
        answer = await self._client.create_topics(wanted)
        exists = TopicAlreadyExistsError.errno
        return {
            name: text or for_code(code).__name__
            for name, code, text, *_ in answer.topic_errors
            if code not in (0, exists)
        }
