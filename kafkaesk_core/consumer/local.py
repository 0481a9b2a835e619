"""Handles one record with the layers and the handler of a subscription, without Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_core.handlers import BatchBinding, Binding
from kafkaesk_core.message import Header, IncomingMessage, OutgoingMessage, copy_headers
from kafkaesk_core.offsets import DONE, HandlerResult, OffsetTracker
from kafkaesk_core.plugins.chains import Raiser
from kafkaesk_core.router import Subscription
from kafkaesk_core.schema.codecs import FindCodec
from kafkaesk_core.schema.registry import Schemas

from .error_policy import ErrorPolicy
from .fetched import FetchedBatch, FetchedMessage, Holding
from .handling import BatchHandling, MessageHandling

__all__ = ["LocalMessage", "commit_locally", "encode_locally", "handle_locally", "local_record"]


class LocalMessage(FetchedMessage):
    """A message that was not fetched from a broker."""

    __slots__ = ()


async def commit_locally(messages: Sequence[IncomingMessage]) -> None:
    """Note that a handler committed its messages; there is no group to commit to."""
    for message in messages:
        message.is_closed = True


class _NotingPolicy(ErrorPolicy):
    """Keeps the last decision; a decision to stop does not stop the application."""

    result = DONE

    def report(self, outcome: HandlerResult, messages: Sequence[IncomingMessage]) -> None:
        self.result = outcome
        super().report(outcome, messages)


async def handle_locally(
    subscription: Subscription,
    binding: Binding | BatchBinding,
    record: ConsumerRecord,
    stream: str,
    attempt: int,
    *,
    wrap: Callable[..., Any],
    find_raiser: Callable[[BaseException], Raiser | None],
) -> HandlerResult:
    """Handle one record once, as a consumer does; a batch handler gets a batch of one.

    `wrap` puts the layers of a hook around a call: `wrap("wrap_consume", call)`.
    """
    partition = TopicPartition(record.topic, record.partition)
    offsets: OffsetTracker[TopicPartition] = OffsetTracker()
    offsets.assign([partition])
    epoch = offsets.register(partition, [record.offset], 0.0)
    finish = offsets.finisher(partition)
    batch = FetchedBatch(partition, epoch, stream, finish=finish, holding=Holding(), room=0.0)
    policy = _NotingPolicy(subscription, report_failure=lambda _: None, find_raiser=find_raiser)
    handling: BatchHandling | MessageHandling
    if isinstance(binding, BatchBinding):
        handling = BatchHandling(subscription, binding, offsets, policy, None)
    else:
        handling = MessageHandling(subscription, binding, offsets, policy, None)
    handling.compile(lambda call: wrap(handling.hook, call))
    batch.keep(LocalMessage(record, batch, attempt))
    await handling.run([(record.offset, record, batch)])
    return policy.result


class _DeclaredStreams:
    """The declared schema of each stream."""

    def __init__(self, schemas: Schemas) -> None:
        self._by_stream = {stream: one.id for one in schemas for stream in one.streams}

    def claim(self, topic: str, schema_id: str) -> None:
        """Accept every schema: nothing is written."""

    def schema_of(self, topic: str) -> str | None:
        """Return the id of the stream's declared schema, or None."""
        return self._by_stream.get(topic)


def encode_locally(
    schemas: Schemas, message: OutgoingMessage, codec: FindCodec | None
) -> bytes | None:
    """Encode a message as publishing does; bytes and None stay as they are.

    Raises:
        SchemaError: as with `publish`.
    """
    return schemas.encoding(_DeclaredStreams(schemas), validate=True, codec=codec)(message)


def local_record(
    place: TopicPartition,
    offset: int,
    timestamp_ms: int | None,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[Header] | None,
) -> ConsumerRecord:
    """Return a record as aiokafka would."""
    timestamp = round(time.time() * 1000) if timestamp_ms is None else timestamp_ms
    sizes = (len(key or b""), len(value or b""))
    pairs = tuple(copy_headers(headers))
    return ConsumerRecord(*place, offset, timestamp, 0, key, value, None, *sizes, pairs)
