"""What a handler receives as `subscriber`: to publish on behalf of its message, and to commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer

from .delivery import Delivery
from .message import Data, Header, IncomingMessage

__all__ = ["ConsumerFacade", "Publish", "Subscriber"]


class Publish(Protocol):
    """`Application.publish`, which notes the message that caused it."""

    def __call__(
        self,
        stream_id: str,
        data: Data,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        *,
        schema: str | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        origin: IncomingMessage | None = None,
    ) -> Awaitable[Delivery]:
        """Publish one message."""


class ConsumerFacade:
    """The part of a consumer that a handler may use: `commit` its own progress."""

    __slots__ = ("_commit", "_message", "raw")

    def __init__(
        self,
        message: IncomingMessage,
        commit: Callable[[IncomingMessage], Awaitable[None]],
        raw: AIOKafkaConsumer,
    ) -> None:
        self._message = message
        self._commit = commit
        self.raw = raw
        """aiokafka's consumer. Committing or seeking with it can lose records."""

    async def commit(self) -> None:
        """Mark this handler's message as done, and commit what is done up to the first that is not.

        Raises:
            CommitError: the broker refused, did not answer, or the partition is no longer ours.
        """
        await self._commit(self._message)


class Subscriber:
    """One message's way to publish further messages and to commit.

    What is published here has this message as its `origin`, so that plugins can carry headers on.
    """

    __slots__ = ("_publish", "consumer", "group", "message")

    def __init__(
        self, message: IncomingMessage, group: str, publish: Publish, consumer: ConsumerFacade
    ) -> None:
        self.message = message
        self.group = group
        self.consumer = consumer
        self._publish = publish

    async def publish(
        self,
        stream_id: str,
        data: Data,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        **options: Any,  # those of Application.publish
    ) -> Delivery:
        """Publish as `Application.publish` does, on behalf of this message."""
        return await self._publish(stream_id, data, key, headers, **options, origin=self.message)
