"""The fast path for usual messages: instances of a model, with the partition by key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kafkaesk_core.delivery import PendingDeliveries, RecordMark
from kafkaesk_core.errors import DeliveryFailedError
from kafkaesk_core.kafka.producer import MESSAGE_OVERHEAD_BYTES, header_room
from kafkaesk_core.message import Header, Headers
from kafkaesk_core.schema.encoding import Encoder

from .batch import Batch
from .partition import PartitionQueue
from .send_buffer import SendBuffer
from .topic import TopicWriter

__all__ = ["ModelWriter"]

# Any below: data is whatever the caller publishes.


_NO_HEADERS: list[Header] = []
FindKey = Callable[[Any], bytes | None]


class ModelWriter:
    """Publishes instances of one model to one topic, without checks that already passed.

    An earlier message on the full path has checked the stream, its topic and its schema. The checks
    of each single message are made here. A message that differs in any respect is left to the full
    path, which also raises the errors. `encoders` has the current encoder of each model.
    """

    __slots__ = (
        "_buffer",
        "_encode",
        "_encoder",
        "_encoders",
        "_writer",
        "batch",
        "schema",
        "topic",
    )

    def __init__(
        self,
        writer: TopicWriter,
        buffer: SendBuffer,
        encoder: Encoder,
        encoders: Mapping[type[Any], Encoder],
        *,
        validates: bool,
    ) -> None:
        self._writer = writer
        self._buffer = buffer
        self._encoder = encoder
        self._encoders = encoders
        self._encode = encoder.for_topic(writer.topic, validates)
        self.topic, self.schema = writer.topic, encoder.key
        self.batch: Batch
        """The batch of the last message."""

    def close(self) -> None:
        """Leave all further messages to the full path."""
        self._encoders = {}

    def offer(
        self,
        data: Any,
        key: bytes | None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMark | None:
        """Put a message into a batch of its partition; return None if that is not possible.

        The caller makes the delivery from the returned record and `batch`.

        Raises:
            TypeError: a header is of a type that cannot be sent.
        """
        writer, buffer = self._writer, self._buffer
        is_open = writer.is_open and buffer.is_free
        if not is_open or self._encoders.get(type(data)) is not self._encoder:
            return None
        size = MESSAGE_OVERHEAD_BYTES
        if key is None:
            queue = writer.sticky
        elif type(key) is bytes:
            queue, size = writer.by_key.get(key), size + len(key)
        else:
            return None
        batch = None if queue is None else queue.open
        try:
            value = self._encode(data)
        except Exception:  # the full path raises the error that says why
            return None
        size += len(value) + (header_room(headers) if headers else 0)
        used = buffer.used + size
        if used > buffer.limit or size > writer.max_bytes:
            return None
        headers = headers or _NO_HEADERS
        if batch is None or queue is None or queue.open is not batch:
            # None was open, or a serializer of the model has published.
            return self._begin(timestamp_ms, key, value, headers, size)
        record = batch.builder.append(timestamp_ms, key, value, headers, size)
        if record is not None:
            buffer.used = used
            self.batch = batch
        return record

    def _begin(
        self, timestamp_ms: int | None, key: bytes | None, value: bytes, headers: Headers, size: int
    ) -> RecordMark | None:
        """Open a batch with this message; return None if the full path must find the partition."""
        writer, producer = self._writer, self._writer.producer
        if not producer.is_sticky:
            return None  # so that the user's partitioner is asked once
        try:
            queue = writer.queue_for(key, None, producer)
        except DeliveryFailedError:
            return None  # as above
        if queue.open is not None:
            return None
        self.batch, record = queue.begin(timestamp_ms, key, value, headers, size, producer)
        self._buffer.used += size
        return record

    def offer_many(
        self, data: Iterator[Any], key: FindKey | None, deliveries: PendingDeliveries
    ) -> tuple[Any, bytes | None] | None:
        """Put messages into open batches until one is not possible; return that one and its key.

        `deliveries` gets those before it. Returns None if all were possible.
        """
        if key is not None:
            return self._offer_keyed(data, key, deliveries)
        queue = self._writer.sticky
        if queue is not None and queue.open is not None and self._writer.is_open:
            return self._fill(queue, queue.open, data, deliveries)
        return next(((one, None) for one in data), None)

    def _fill(
        self,
        queue: PartitionQueue,
        batch: Batch,
        data: Iterator[Any],
        deliveries: PendingDeliveries,
    ) -> tuple[Any, None] | None:
        """Do what `offer` does, for many messages without keys and one batch."""
        writer, buffer, encode = self._writer, self._buffer, self._encode
        append = batch.builder.append
        first = after = batch.count
        left = None
        for one in data:
            # `data` is the user's code, and so are the serializers of a model: they may publish.
            left = one, None
            if not buffer.is_free or self._encoders.get(type(one)) is not self._encoder:
                break
            try:
                value = encode(one)
            except Exception:  # as in `offer`
                break
            size = MESSAGE_OVERHEAD_BYTES + len(value)
            used = buffer.used + size
            if used > buffer.limit or size > writer.max_bytes or queue.open is not batch:
                break
            if (record := append(None, None, value, _NO_HEADERS, size)) is None:
                break
            buffer.used = used
            if record.offset != after:
                deliveries.add(batch.result, first, after)
                first = record.offset
            after, left = record.offset + 1, None
        deliveries.add(batch.result, first, after)
        return left

    def _offer_keyed(
        self, data: Iterator[Any], key: FindKey, deliveries: PendingDeliveries
    ) -> tuple[Any, bytes | None] | None:
        for one in data:
            one_key = key(one)
            record = self.offer(one, one_key)
            if record is None:
                return one, one_key
            deliveries.add(self.batch.result, record.offset, record.offset + 1)
        return None
