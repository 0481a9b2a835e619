"""The tools for plugin authors beside the hooks; all of them are public and stay compatible.

`kafkaesk_core` itself exports the hooks, the messages and the errors. A plugin imports from there
and from here, and from no other module of the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from .app_finder import find_application
from .bootstrap import open_bootstrap
from .delivery import BatchResult, Delivery, delivery_of, metadata_of_batch
from .hooks import ConsumeBatchCall, ConsumeCall, Stage, hookimpl
from .kafka.diagnose import diagnose
from .kafka.errors import translate as translate_error
from .message import IncomingMessage, copy_headers
from .plugins.chains import CountedFailures
from .router import Subscription, set_option
from .schema.codecs import Codec
from .structs import RecordMetadata, TopicPartition

__all__ = [
    "Codec",
    "CountedFailures",
    "HandledMessages",
    "NoteHandledMessages",
    "PendingDelivery",
    "acknowledged_delivery",
    "copy_headers",
    "diagnose",
    "find_application",
    "handled_messages",
    "open_bootstrap",
    "set_option",
    "translate_error",
]


class HandledMessages(NamedTuple):
    """The messages that a handler was called for: one message, or a batch in order."""

    messages: Sequence[IncomingMessage]
    group: str


_HANDLED: ContextVar[HandledMessages | None] = ContextVar("kafkaesk_handled", default=None)


def handled_messages() -> HandledMessages | None:
    """Return the messages being handled in this context; None outside a handler.

    They are noted only while a plugin that derives from `NoteHandledMessages` is active.
    """
    return _HANDLED.get()


class NoteHandledMessages:
    """Layers that note the handled messages for `handled_messages`; a plugin derives from this.

    A plugin with its own layers around handlers overrides these methods and calls them.
    """

    stage: Stage = "observe"

    @hookimpl
    async def wrap_consume(
        self, message: IncomingMessage, call_next: ConsumeCall, subscription: Subscription
    ) -> Any:  # what the handler returns
        """Note the message while it is handled."""
        token = _HANDLED.set(HandledMessages((message,), subscription.group))
        try:
            return await call_next(message)
        finally:
            _HANDLED.reset(token)

    @hookimpl
    async def wrap_consume_batch(
        self,
        messages: Sequence[IncomingMessage],
        call_next: ConsumeBatchCall,
        subscription: Subscription,
    ) -> Any:  # what the handler returns
        """Note the batch while it is handled."""
        token = _HANDLED.set(HandledMessages(messages, subscription.group))
        try:
            return await call_next(messages)
        finally:
            _HANDLED.reset(token)


class _OnlyRecord(NamedTuple):
    """The position of a record that is alone in its batch."""

    offset: int
    timestamp: int


class PendingDelivery:
    """A delivery that its creator settles, for a layer of `wrap_publish` that publishes elsewhere.

    `timestamp_ms` is the record's timestamp, unless the broker reports the append time.
    """

    def __init__(self, topic_partition: TopicPartition, timestamp_ms: int = 0) -> None:
        self._result = BatchResult(topic_partition)
        self.delivery = delivery_of(self._result, _OnlyRecord(0, timestamp_ms))

    def acknowledge(self, metadata: RecordMetadata | None) -> None:
        """Settle the delivery: the record was written; pass None if its offset is unknown."""
        self._result.acknowledge(None if metadata is None else metadata_of_batch(metadata), 1)

    def fail(self, error: BaseException) -> None:
        """Settle the delivery with the reason why the record was, or may be, not written."""
        self._result.fail(error, 1)


def acknowledged_delivery(metadata: RecordMetadata) -> Delivery:
    """Return an acknowledged delivery, for a layer of `wrap_publish` that publishes itself.

    It is also useful in tests of layers.
    """
    return Delivery.settled(metadata)
