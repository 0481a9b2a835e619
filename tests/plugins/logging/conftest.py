"""An application that ships logs to the embedded broker, and what arrives there."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core import Application
from kafkaesk_logging import LoggingPlugin, LoggingSettings
from kafkaesk_testing import EmbeddedBroker

Fields = dict[str, Any]


@pytest.fixture
def make_app(embedded_kafka: EmbeddedBroker) -> Callable[..., Application]:
    """Make an application with the plugin; arguments are the plugin's settings."""
    embedded_kafka.create_topic("logs", partitions=1)

    def make(plugins: tuple[object, ...] = (), **settings: Any) -> Application:
        return Application(
            embedded_kafka.servers,
            kafka_settings=dict(EmbeddedBroker.consumer_settings),
            create_topics=False,
            entry_points=False,
            plugins=[LoggingPlugin(LoggingSettings(**settings)), *plugins],
        )

    return make


@pytest.fixture
def app(make_app: Callable[..., Application]) -> Application:
    return make_app()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger that lets everything through; no other handler takes it, not pytest's either."""
    logger = logging.Logger("shop.orders", logging.DEBUG)
    yield logger
    for handler in logger.handlers:
        handler.close()


@pytest.fixture
def no_other_handlers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Take away the handlers of the root logger, pytest's, until the test has ended."""
    return lambda: monkeypatch.setattr(logging.getLogger(), "handlers", [])


Records = Callable[..., Awaitable[list[ConsumerRecord]]]


@pytest.fixture
def records(embedded_kafka: EmbeddedBroker) -> Records:
    """Read a stream from its beginning to its end, once that has so many records."""

    async def read(count: int = 0, stream: str = "logs") -> list[ConsumerRecord]:
        consumer = AIOKafkaConsumer(bootstrap_servers=embedded_kafka.servers, fetch_max_wait_ms=20)
        partition = TopicPartition(stream, 0)
        got: list[ConsumerRecord] = []
        async with consumer:
            consumer.assign([partition])
            await consumer.seek_to_beginning()

            for _ in range(400):
                end = (await consumer.end_offsets([partition]))[partition]
                if len(got) >= max(end, count):
                    return got
                batches = await consumer.getmany(timeout_ms=50)
                got.extend(batches.get(partition, ()))
        raise AssertionError(f"{len(got)} of {count} records")

    return read


@pytest.fixture
def lines(records: Records) -> Callable[..., Awaitable[list[Fields]]]:
    """The fields of the lines of a stream, once there are so many."""

    async def read(count: int = 0, stream: str = "logs") -> list[Fields]:
        found = [json.loads(record.value or b"") for record in await records(count, stream)]
        assert {message["schema"] for message in found} <= {"PydanticLogModel:1"}
        return [message["data"] for message in found]

    return read
