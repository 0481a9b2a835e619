"""The bootstrap scheme ``embedded://``: an application with a broker inside its own process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlsplit

from kafkaesk_core import Bootstrap, ConfigurationError

from .embedded_broker import EmbeddedBroker

_DEFAULT_PARTITIONS = 4
SETTINGS = EmbeddedBroker.consumer_settings


@asynccontextmanager
async def bootstrap(url: str, settings: object) -> AsyncIterator[Bootstrap]:
    """Run an embedded broker while the application runs.

    Options: ``embedded://?brokers=3&topics=orders,audit&partitions=7``. ``brokers`` defaults to 1.
    ``topics`` are created at the start, with ``partitions`` each; other topics appear on first use,
    always with 4 partitions. ``embedded://127.0.0.1:33839`` is the embedded broker of another
    process, from its log; then no broker is started.

    Raises:
        ConfigurationError: the URL has an unknown option or an invalid value.
        KafkaTestingError: librdkafka is missing, or refused to start.
    """
    if address := _address(url):
        yield Bootstrap((address,), can_create_topics=False, kafka_settings=SETTINGS)
        return
    broker = _broker(url)
    await asyncio.to_thread(broker.start)
    try:
        yield Bootstrap(
            servers=tuple(broker.servers),
            can_create_topics=False,
            kafka_settings=SETTINGS,
        )
    finally:
        await asyncio.to_thread(broker.stop)


def _address(url: str) -> str:
    """Return the address of another process's broker; "" for a broker in this process."""
    parts = urlsplit(url)
    if not parts.netloc and not parts.path.strip("/"):
        return ""
    host, colon, port = parts.netloc.rpartition(":")
    if not (host and colon and port.isdecimal()) or parts.path.strip("/") or parts.query:
        raise ConfigurationError(
            f"{url} is neither a broker in this process, embedded://, nor that of another process, "
            "embedded://HOST:PORT"
        )
    return parts.netloc


def _broker(url: str) -> EmbeddedBroker:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - {"brokers", "partitions", "topics"}
    if unknown:
        raise ConfigurationError(
            f"{url} has the unknown option {min(unknown)!r}; known are brokers, partitions, topics"
        )
    topics = [topic for topic in options.get("topics", "").split(",") if topic]
    partitions = _positive(url, "partitions", options.get("partitions", str(_DEFAULT_PARTITIONS)))
    if not topics and partitions != _DEFAULT_PARTITIONS:
        raise ConfigurationError(
            f"{url} sets partitions without topics, but a topic made on first use always gets "
            f"{_DEFAULT_PARTITIONS}; name those that shall have {partitions} in topics=a,b"
        )
    brokers = _positive(url, "brokers", options.get("brokers", "1"))
    return EmbeddedBroker(brokers=brokers, topics=dict.fromkeys(topics, partitions))


def _positive(url: str, option: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(f"{url} sets {option}={text}; it must be a number from 1 up")
    return int(text)
