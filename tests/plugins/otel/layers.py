"""The layers of plugins without a broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Delivery, IncomingMessage, OutgoingMessage, Subscription
from kafkaesk_core.delivery import BatchResult
from kafkaesk_core.plugins.manager import Plugins
from kafkaesk_core.status import Status

# Any in this file: handlers return, and hooks take, what they like.


class Mark(NamedTuple):
    """Where a record is in its batch."""

    offset: int = 0
    timestamp: int = 0


class Bare:
    """As much of an application as hooks may ask for."""

    claimed_headers: frozenset[str] = frozenset()
    servers = ("broker-1:9092",)

    def status(self) -> Status:
        return Status("running")


async def handler(data: bytes) -> None: ...


class Layers:
    """The compiled chains of plugins around functions of the test: no broker."""

    def __init__(self, *plugins: object) -> None:
        self.plugins = Plugins()
        for plugin in plugins:
            self.plugins.register(plugin)
        self.subscription = Subscription("layers", handler, "group", pattern="*")
        self._constants: dict[str, Any] = {"subscription": self.subscription, "app": Bare()}

    async def consume(
        self,
        inner: Callable[[IncomingMessage], Awaitable[Any]],
        *headers: tuple[str, bytes | None],
        attempt: int = 1,
        **record: Any,
    ) -> Any:
        """Let a record pass, with `inner` for decoding and handler."""
        message = incoming(*headers, attempt=attempt, **record)
        return await self.plugins.chain("wrap_consume", inner, **self._constants)(message)

    async def consume_batch(
        self, inner: Callable[..., Awaitable[Any]], *messages: IncomingMessage
    ) -> Any:
        """Let a batch pass."""
        chain = self.plugins.chain("wrap_consume_batch", inner, **self._constants)
        return await chain(list(messages))

    async def publish(
        self, outcome: BatchResult | BaseException, message: OutgoingMessage | None = None
    ) -> OutgoingMessage:
        """Let a message pass, whose delivery has this outcome, or is refused."""
        message = message or OutgoingMessage("out", "out", b"{}")

        async def inner(_: OutgoingMessage) -> Delivery:
            if isinstance(outcome, BaseException):
                raise outcome
            return Delivery(outcome, Mark())

        await self.plugins.chain("wrap_publish", inner, app=Bare())(message)
        return message

    async def commit(
        self, inner: Callable[..., Awaitable[None]], offsets: Any, reason: str
    ) -> None:
        """Let a commit pass."""
        constants = {**self._constants, "reason": reason}
        await self.plugins.chain("wrap_commit", inner, **constants)(offsets)


def incoming(
    *headers: tuple[str, bytes | None],
    attempt: int = 1,
    offset: int = 0,
    key: bytes | None = b"k",
    value: bytes | None = b'{"schema":"Note:1","data":{}}',
) -> IncomingMessage:
    """A consumed record of the topic "in"."""
    record = ConsumerRecord("in", 0, offset, 0, 0, key, value, None, 0, 0, headers)
    return IncomingMessage(record, "in", attempt=attempt)
