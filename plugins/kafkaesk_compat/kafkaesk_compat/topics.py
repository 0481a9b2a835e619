"""`app.topic_mng` of kafkaesk 0.8: topics and committed offsets, with its own client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from kafkaesk_core import NotConfiguredError, Settings

__all__ = ["KafkaTopicManager"]


class KafkaTopicManager:
    """Looks up and creates topics; connects on the first call, and disconnects in `finalize`.

    Raises:
        NotConfiguredError: no servers are configured.
        aiokafka.errors.KafkaConnectionError: no broker answered.
    """

    def __init__(
        self,
        bootstrap_servers: Sequence[str],
        prefix: str = "",
        replication_factor: int | None = None,
        kafka_api_version: str = "auto",
        **client: Any,  # options of the admin client: security
    ) -> None:
        if not bootstrap_servers:
            raise NotConfiguredError("there are no Kafka servers; give kafka_servers")
        self.prefix = prefix
        self._servers = tuple(bootstrap_servers)
        self._replication = replication_factor or min(3, len(self._servers))
        self._options = {name: value for name, value in client.items() if value}
        self._admin: AIOKafkaAdminClient | None = None
        self._known: set[str] = set()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return a manager for the brokers of an application."""
        options = settings.client.for_admin()
        names = (
            *("security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username"),
            *("sasl_plain_password", "sasl_oauth_token_provider"),
        )
        security = {name: options[name] for name in names if name in options}
        servers, prefix = settings.kafka_servers, settings.topic_prefix
        return cls(servers, prefix, settings.replication_factor, **security)

    def get_topic_id(self, topic: str) -> str:
        """Return the topic of a stream."""
        return f"{self.prefix}{topic}"

    async def topic_exists(self, topic: str) -> bool:
        """Return whether the cluster has this topic; the name includes the prefix."""
        if topic not in self._known:
            self._known |= set(await (await self._client()).list_topics())
        return topic in self._known

    async def create_topic(
        self,
        topic: str,
        *,
        partitions: int = 7,
        replication_factor: int | None = None,
        retention_ms: int | None = None,
    ) -> None:
        """Create a topic; the name includes the prefix. An existing topic is not changed."""
        configs = {} if retention_ms is None else {"retention.ms": str(retention_ms)}
        replicas = replication_factor or self._replication
        new = NewTopic(topic, partitions, replicas, topic_configs=configs)
        answer = await (await self._client()).create_topics([new])
        for _, code, *_ in answer.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise for_code(code)(topic)
        self._known.add(topic)

    async def list_consumer_group_offsets(
        self, group_id: str, partitions: Sequence[TopicPartition] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Return the committed offsets of a group."""
        found: dict[TopicPartition, OffsetAndMetadata] = await (
            await self._client()
        ).list_consumer_group_offsets(group_id, partitions=partitions)
        return found

    async def finalize(self) -> None:
        """Disconnect."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()

    async def _client(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            admin = AIOKafkaAdminClient(bootstrap_servers=list(self._servers), **self._options)
            try:
                await admin.start()
            except BaseException:
                await admin.close()
                raise
            self._admin = admin
        return self._admin
