"""Requests about topics through aiokafka's admin client, each with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from typing import Any, NamedTuple, TypeVar

import aiokafka.errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.metadata import MetadataRequest

from kafkaesk_core.tasks import start_detached

from .clients import start_client
from .diagnose import diagnose
from .errors import translate

__all__ = ["Admin", "CreateResult", "TopicState"]

Result = TypeVar("Result")
_ACCEPTED = frozenset(signature(AIOKafkaAdminClient).parameters) - {"loop", "api_version"}
_DEFAULTS: Mapping[str, Any] = {"request_timeout_ms": 30_000}
_CLOSE_SECONDS = 2.0


class CreateResult(NamedTuple):
    """Kafka's answer to a CreateTopics request: the error code (0: created) and the text."""

    code: int
    text: str


class TopicState(NamedTuple):
    """A topic in the cluster's metadata; `code` is 0 if it exists and 3 if it does not.

    `partitions` are all partitions; `led` are those that have a leader.
    """

    code: int
    partitions: Sequence[int]
    led: Sequence[int]


class Admin:
    """One aiokafka admin client; options that it does not know are left out.

    A request raises aiokafka's error if no broker can be reached. A broker's refusal is part of the
    answer. No request creates a topic as a side effect.
    """

    def __init__(self, servers: Sequence[str], options: Mapping[str, Any] | None = None) -> None:
        merged = {**_DEFAULTS, **(options or {})}
        self._servers = list(servers)
        self._options = {name: value for name, value in merged.items() if name in _ACCEPTED}
        self._client = AIOKafkaAdminClient(bootstrap_servers=self._servers, **self._options)

    async def start(self, timeout: float) -> None:
        """Connect. A failed start is cleaned up, and this object must not be used again.

        Raises:
            BrokerUnreachableError: no broker answered within `timeout` seconds.
            AuthenticationError: the brokers refused our credentials, or we refused their
                certificate.
        """
        try:
            await start_client(self._client.start(), self._client._client, timeout)
        except BaseException as error:
            await self.close(_CLOSE_SECONDS)
            if isinstance(error, (kafka.KafkaConnectionError, TimeoutError)):
                raise await diagnose(self._servers, self._options) from error
            if isinstance(error, kafka.KafkaError):
                raise translate(
                    error, "starting the admin client", servers=self._servers
                ) from error
            raise

    async def close(self, timeout: float) -> None:
        """Disconnect, always within `timeout` seconds."""
        for connection in self._client._client._conns.values():
            if connection._writer is not None:
                connection._writer.transport.abort()  # no request waits for an answer
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._client.close()

    async def create_topic(
        self,
        name: str,
        partitions: int,
        replication_factor: int,
        configs: Mapping[str, str] | None = None,
        *,
        timeout: float = 30.0,
    ) -> CreateResult:
        """Create a topic and return Kafka's answer; a refusal is never raised (K1)."""
        if self._client._client.cluster.controller is None:
            await self._ask(self._refresh(), timeout)
        if self._client._client.cluster.controller is None:
            raise kafka.NodeNotReadyError("the cluster has no controller, which creates topics")
        topic = NewTopic(name, partitions, replication_factor, topic_configs=dict(configs or {}))
        request = self._client.create_topics([topic], timeout_ms=max(1, int(timeout * 1000)))
        answer = await self._ask(request, timeout)
        _, code, text = answer.topic_errors[0]
        return CreateResult(code, text or "")

    async def cluster_id(self, *, timeout: float = 30.0) -> str:
        """Return the id of the cluster; "" if the cluster has none."""
        answer = await self._ask(self._client.describe_cluster(), timeout)
        return str(answer.get("cluster_id") or "")

    async def describe_topic_configs(
        self, topic: str, names: Sequence[str], *, timeout: float = 30.0
    ) -> dict[str, str | None]:
        """Return these settings of a topic; empty if it does not exist or may not be described."""
        # The names are passed as a dict: a list of them raises AttributeError (K4).
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(names))
        answers = await self._ask(self._client.describe_configs([resource]), timeout)
        found: dict[str, str | None] = {}
        for code, _, _, _, entries in answers[0].resources:
            found.update({name: value for name, value, *_ in entries if code == 0})
        return found

    async def describe_topic(self, topic: str, *, timeout: float = 30.0) -> TopicState:
        """Return the state of a topic from the cluster's metadata, without creating it."""
        answer = await self._ask(self._metadata([topic]), timeout)
        for code, name, _, partitions in answer.topics:
            if name == topic:
                numbers = sorted(p[1] for p in partitions)
                return TopicState(code, numbers, sorted(p[1] for p in partitions if p[2] != -1))
        return TopicState(kafka.UnknownTopicOrPartitionError.errno, (), ())

    async def broker_count(self, *, timeout: float = 30.0) -> int:
        """Return the number of brokers in the cluster."""
        answer = await self._ask(self._metadata([]), timeout)
        return len(answer.brokers)

    async def _refresh(self) -> None:
        await self._client._client.force_metadata_update()

    async def _metadata(self, topics: list[str] | None) -> Any:
        client = self._client._client
        node = client.get_random_node()
        if node is None:
            raise kafka.NodeNotReadyError("no broker is known")
        return await client.send(node, MetadataRequest(topics, False))

    async def _ask(self, request: Coroutine[Any, Any, Result], timeout: float) -> Result:
        task = start_detached(request)  # a connection that is opened here outlives the caller
        try:
            async with asyncio.timeout(timeout):
                return await task
        except TimeoutError as error:
            raise kafka.RequestTimedOutError(f"no answer in {timeout:g} seconds") from error
