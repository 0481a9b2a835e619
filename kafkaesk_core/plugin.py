"""What authors of plugins need beside the hooks: all of it is public, and stays compatible.

The hooks, the messages and the errors are exported by `kafkaesk_core` itself. A plugin imports from
there and from here, and from no other module of the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from .app_finder import find_application
from .bootstrap import open_bootstrap
from .delivery import BatchResult, Delivery, metadata_of_batch
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
    """What a handler was called for: one message, or those of a batch in their order."""

    messages: Sequence[IncomingMessage]
    group: str


_HANDLED: ContextVar[HandledMessages | None] = ContextVar("kafkaesk_handled", default=None)


def handled_messages() -> HandledMessages | None:
    """Return the messages that are being handled here; None outside a handler.

    It is noted only while a plugin that derives from `NoteHandledMessages` is active.
    """
    return _HANDLED.get()


class NoteHandledMessages:
    """Layers that note the handled messages, for `handled_messages`; a plugin derives from it.

    A plugin with layers of its own around handlers overrides these and calls them.
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
    """Where a record is that is alone in its batch."""

    offset: int
    timestamp: int


class PendingDelivery:
    """A delivery that its maker settles, for a layer of `wrap_publish` that publishes elsewhere.

    `timestamp_ms` is the record's, unless the broker reports the time of its append.
    """

    def __init__(self, topic_partition: TopicPartition, timestamp_ms: int = 0) -> None:
        self._result = BatchResult(topic_partition)
        self.delivery = Delivery(self._result, _OnlyRecord(0, timestamp_ms))

    def acknowledge(self, metadata: RecordMetadata | None) -> None:
        """Settle the delivery: the record was written; None if its offset is not known."""
        self._result.acknowledge(None if metadata is None else metadata_of_batch(metadata), 1)

    def fail(self, error: BaseException) -> None:
        """Settle the delivery: the record was not written, or may have been, for this reason."""
        self._result.fail(error, 1)


def acknowledged_delivery(metadata: RecordMetadata) -> Delivery:
    """Return a delivery that is acknowledged, for a layer of `wrap_publish` that publishes itself.

    Also for tests of layers.
    """
    return Delivery.settled(metadata)
