"""What a handler receives as `subscriber`: to publish on behalf of its messages, and to commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer

from .delivery import Delivery
from .message import Data, Header, IncomingMessage

__all__ = ["ConsumerFacade", "Publish", "Subscriber"]

Messages = Sequence[IncomingMessage]


class Publish(Protocol):
    """`Application.publish`, which notes the messages that caused it."""

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
        origins: Messages = (),
        meta: Mapping[str, Any] | None = None,  # values of any type: the plugins' own
    ) -> Awaitable[Delivery]:
        """Publish one message."""


class ConsumerFacade:
    """The part of a consumer that a handler may use: `commit` its own progress."""

    __slots__ = ("_commit", "_messages", "raw")

    def __init__(
        self,
        messages: Messages,
        commit: Callable[[Messages], Awaitable[None]],
        raw: AIOKafkaConsumer,
    ) -> None:
        self._messages = messages
        self._commit = commit
        self.raw = raw
        """aiokafka's consumer. Committing, seeking or polling with it can lose records.

        What it hands out is as its parser made it: topic and partition are not in the record.
        """

    async def commit(self) -> None:
        """Mark what the handler was given as done, and commit up to the first that is not done.

        Raises:
            CommitError: the broker refused, did not answer, or the partition is no longer ours.
        """
        await self._commit(self._messages)


class Subscriber:
    """A handler's way to publish further messages and to commit.

    `messages` is what the handler was called for: one message, or a batch. What is published here
    has them as its `origins`, so that plugins can carry headers on.
    """

    __slots__ = ("_publish", "consumer", "group", "messages")

    def __init__(
        self, messages: Messages, group: str, publish: Publish, consumer: ConsumerFacade
    ) -> None:
        self.messages = messages
        self.group = group
        self.consumer = consumer
        self._publish = publish

    @property
    def message(self) -> IncomingMessage:
        """The message that the handler was called for; the first one of a batch."""
        return self.messages[0]

    async def publish(
        self,
        stream_id: str,
        data: Data,
        key: bytes | None = None,
        headers: Iterable[Header] | None = None,
        *,
        schema: str | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        meta: Mapping[str, Any] | None = None,  # values of any type: the plugins' own
    ) -> Delivery:
        """Publish as `Application.publish` does, on behalf of these messages."""
        return await self._publish(
            stream_id,
            data,
            key,
            headers,
            schema=schema,
            partition=partition,
            timestamp_ms=timestamp_ms,
            origins=self.messages,
            meta=meta,
        )
