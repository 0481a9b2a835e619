"""Creating the topics that the command writes to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from kafkaesk_core import Cluster, TopicError
from kafkaesk_core.plugin import diagnose, translate_error

__all__ = ["create_topic"]

MOST_REPLICAS = 3


async def create_topic(
    cluster: Cluster, topic: str, partitions: int, configs: Mapping[str, str]
) -> None:
    """Create a topic unless it exists. A broker inside a process creates it on first use.

    Raises:
        TopicError: it cannot be created, with Kafka's reason.
        BrokerError: no broker can be used, or it refused.
    """
    settings, servers = cluster.settings, cluster.servers
    is_inside = any("://" in server for server in settings.kafka_servers)
    if is_inside or await cluster.partitions([topic]):
        return
    options = settings.client.for_admin()
    client = AIOKafkaAdminClient(bootstrap_servers=list(servers), **options)
    try:
        async with asyncio.timeout(settings.start_timeout):
            await client.start()
        replicas = settings.replication_factor
        if replicas is None:
            brokers = (await client.describe_cluster())["brokers"]
            replicas = max(1, min(len(brokers), MOST_REPLICAS))
        wanted = NewTopic(topic, partitions, replicas, topic_configs=dict(configs))
        answer = await client.create_topics([wanted])
    except (KafkaConnectionError, TimeoutError) as error:
        raise await diagnose(servers, dict(options)) from error
    except KafkaError as error:
        raise translate_error(error, f"creating topic {topic}", servers=servers) from error
    finally:
        await client.close()
    _, code, text, *_ = answer.topic_errors[0]
    if code not in (0, TopicAlreadyExistsError.errno):
        reason = text or for_code(code).__name__
        raise TopicError(f"creating topic {topic} failed: {reason}", topic=topic, code=code)
