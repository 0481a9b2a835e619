"""Fakes for tests of plugins: messages, deliveries, an application, and a runner of hooks.

They need no broker. A test with a broker uses `embedded_app` or `kafkaesk_app` instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.structs import ConsumerRecord, RecordMetadata, TopicPartition

from kafkaesk_core import (
    App,
    Application,
    Delivery,
    Header,
    IncomingMessage,
    OutgoingMessage,
    Plugins,
    Status,
    Subscription,
)
from kafkaesk_core.plugin import PendingDelivery, acknowledged_delivery

__all__ = [
    "FakeApplication",
    "HookRunner",
    "PendingDelivery",
    "Published",
    "delivery",
    "incoming_message",
    "outgoing_message",
]

# Any in this file: data, options, and what handlers return are of any type.

Call = Callable[[Any], Awaitable[Any]]
STREAM = "orders"
VALUE = b'{"schema":"Order:1","data":{}}'


def incoming_message(
    value: bytes | None = VALUE,
    *,
    stream: str = STREAM,
    topic: str | None = None,
    partition: int = 0,
    offset: int = 0,
    key: bytes | None = None,
    headers: Sequence[Header] = (),
    timestamp_ms: int = 0,
    attempt: int = 1,
) -> IncomingMessage:
    """Return a consumed record before decoding; the topic defaults to the stream's name."""
    record = ConsumerRecord(
        *(topic or stream, partition, offset, timestamp_ms, 0, key, value, None),
        *(len(key or b""), len(value or b""), tuple(headers)),
    )
    return IncomingMessage(record, stream, attempt=attempt)


def outgoing_message(
    data: Any = VALUE,
    *,
    stream: str = STREAM,
    topic: str | None = None,
    headers: Sequence[Header] = (),
    **fields: Any,
) -> OutgoingMessage:
    """Return a message to publish; `fields` are the other arguments of OutgoingMessage."""
    return OutgoingMessage(stream, topic or stream, data, headers=list(headers), **fields)


def delivery(
    *,
    topic: str = STREAM,
    partition: int = 0,
    offset: int = 0,
    error: BaseException | None = None,
) -> Delivery:
    """Return a delivery that is acknowledged, or has failed with this error.

    `PendingDelivery` makes a delivery that the test settles later.
    """
    place = TopicPartition(topic, partition)
    if error is None:
        return acknowledged_delivery(RecordMetadata(*place, place, offset, 0, 0, 0))
    pending = PendingDelivery(place)
    pending.fail(error)
    return pending.delivery


class Published(NamedTuple):
    """One call of a publishing method of `FakeApplication`; `stream` is `forward`'s topic."""

    stream: str
    data: Any
    options: Mapping[str, Any]


class FakeApplication(Application):
    """An application for tests of hooks; it does not run, and notes the published messages.

    `answers` are used in order: a delivery is returned, an exception is raised, and None stands for
    an acknowledged delivery. After the last answer, every delivery is acknowledged.
    """

    def __init__(
        self,
        *,
        servers: Sequence[str] = ("localhost:9092",),
        claimed_headers: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(list(servers), entry_points=False)
        self._claimed_headers = claimed_headers
        self.published: list[Published] = []
        self.paused: dict[str | None, str] = {}
        """The reason of each pause, by the group; None for all groups."""
        self.answers: deque[Delivery | BaseException | None] = deque()

    @property
    def servers(self) -> Sequence[str]:
        """The brokers; nothing connects to them."""
        return self.settings.kafka_servers

    @property
    def claimed_headers(self) -> frozenset[str]:
        """Header names that plugins own."""
        return self._claimed_headers

    def status(self) -> Status:
        """Return a status without groups."""
        return Status("running")

    async def publish(self, stream_id: str, data: Any, *arguments: Any, **options: Any) -> Delivery:
        """Note the message."""
        return self._answer(stream_id, data, options)

    async def publish_and_wait(
        self, stream_id: str, data: Any, *arguments: Any, **options: Any
    ) -> RecordMetadata:
        """Note the message, and wait for its answer."""
        return await self._answer(stream_id, data, options)

    async def publish_many(
        self, stream_id: str, data: Iterable[Any] | AsyncIterable[Any], *args: Any, **options: Any
    ) -> int:
        """Note the messages, and wait for their answers."""
        several = [one async for one in data] if isinstance(data, AsyncIterable) else list(data)
        for one in several:
            await self._answer(stream_id, one, options)
        return len(several)

    async def raw_publish(
        self, stream_id: str, data: Any, *arguments: Any, **options: Any
    ) -> Delivery:
        """Note the message."""
        return self._answer(stream_id, data, options)

    async def publish_internal(self, stream_id: str, data: Any, **options: Any) -> Delivery:
        """Note the message."""
        return self._answer(stream_id, data, options)

    async def forward(
        self, topic: str, value: bytes | None, *arguments: Any, **options: Any
    ) -> Delivery:
        """Note the record."""
        return self._answer(topic, value, options)

    def _answer(self, stream_id: str, data: Any, options: Mapping[str, Any]) -> Delivery:
        answer = self.answers.popleft() if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        self.published.append(Published(stream_id, data, options))
        return delivery(topic=stream_id) if answer is None else answer

    async def ensure_topic(self, topic: str, **options: Any) -> int | None:
        """Create nothing; the topic has one partition."""
        return 1

    async def pause(self, group: str | None = None, streams: Any = None, reason: str = "") -> None:
        """Note the pause."""
        self.paused[group] = reason

    async def resume(self, group: str | None = None, streams: Any = None) -> None:
        """Note the end of a pause, or of every pause."""
        self.paused = {key: why for key, why in self.paused.items() if group not in (None, key)}

    async def flush(self) -> None:
        """Return at once: nothing is buffered."""


async def _handler(data: bytes) -> None: ...


class HookRunner:
    """Runs the hooks of plugins around a test's functions, composed as in an application.

    `subscription` is passed to the hooks of consuming and committing.
    """

    def __init__(
        self,
        *plugins: object,
        app: App | None = None,
        subscription: Subscription | None = None,
    ) -> None:
        self.app: App = FakeApplication() if app is None else app
        self.subscription = subscription or Subscription(STREAM, _handler, "group", pattern="*")
        self.plugins = Plugins()
        for plugin in plugins:
            self.plugins.register(plugin)

    def chain(self, hook: str, terminal: Call, *, reason: str = "interval") -> Call:
        """Return the layers of a `wrap_*` hook around a function, the innermost call."""
        constants: dict[str, Any] = {"app": self.app}
        if hook in ("wrap_consume", "wrap_consume_batch", "wrap_commit"):
            constants["subscription"] = self.subscription
        if hook == "wrap_commit":
            constants["reason"] = reason
        return self.plugins.chain(hook, terminal, **constants)

    async def consume(
        self, handler: Call, message: IncomingMessage | None = None, **fields: Any
    ) -> Any:
        """Handle a message; return the chain's result. `fields` are those of `incoming_message`."""
        return await self.chain("wrap_consume", handler)(message or incoming_message(**fields))

    async def consume_batch(self, handler: Call, *messages: IncomingMessage) -> Any:
        """Handle a batch; return the chain's result."""
        return await self.chain("wrap_consume_batch", handler)(list(messages))

    async def publish(
        self,
        result: Delivery | BaseException,
        message: OutgoingMessage | None = None,
        **fields: Any,
    ) -> Delivery:
        """Publish a message that gets this delivery or is refused with this error.

        `fields` are those of `outgoing_message`.
        """

        async def publish(_: OutgoingMessage) -> Delivery:
            if isinstance(result, BaseException):
                raise result
            return result

        chain = self.chain("wrap_publish", publish)
        returned: Delivery = await chain(message or outgoing_message(**fields))
        return returned

    async def commit(
        self,
        commit: Call,
        offsets: Mapping[TopicPartition, int],
        *,
        reason: str = "interval",
    ) -> None:
        """Commit offsets."""
        await self.chain("wrap_commit", commit, reason=reason)(offsets)
