"""The fast path for usual messages: instances of a model, with the partition by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafkaesk_core.delivery import RecordMark
from kafkaesk_core.kafka.producer import MESSAGE_OVERHEAD_BYTES, header_room
from kafkaesk_core.message import Headers
from kafkaesk_core.schema.encoding import Encoder

from .batch import Batch
from .send_buffer import SendBuffer
from .topic import TopicWriter

__all__ = ["ModelWriter"]

# Any below: data is whatever the caller publishes.


class ModelWriter:
    """Publishes instances of one model to one topic, without checks that already passed.

    An earlier message on the full path has checked the stream, its topic and its schema. The checks
    of each single message are made here. A message that differs in any respect is left to the full
    path, which also raises the errors. `encoders` has the current encoder of each model.
    """

    __slots__ = (
        "_buffer",
        "_encoder",
        "_encoders",
        "_validates",
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
        self._validates = validates
        self.topic, self.schema = writer.topic, encoder.key
        self.batch: Batch
        """The batch of the last message."""

    def offer(
        self,
        data: Any,
        key: bytes | None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMark | None:
        """Put a message into the open batch of its partition; return None if that is not possible.

        The caller makes the delivery from the returned record and `batch`: one object for a single
        message, a range of indexes for many.

        Raises:
            InvalidMessageError: the data does not satisfy the schema.
            TypeError: a header is of a type that cannot be sent.
        """
        encoder, writer, buffer = self._encoder, self._writer, self._buffer
        is_open = writer.is_open and buffer.accepts and not buffer.waiting
        if not is_open or self._encoders.get(type(data)) is not encoder:
            return None
        size = MESSAGE_OVERHEAD_BYTES
        if key is None:
            queue = writer.sticky
        elif type(key) is bytes:
            queue, size = writer.by_key.get(key), size + len(key)
        else:
            return None
        if queue is None or (batch := queue.open) is None:
            return None
        value = encoder.encode(data, writer.topic, self._validates)
        size += len(value)
        if headers:
            size += header_room(headers)
        fits = buffer.used + size <= buffer.limit and batch.bytes + size <= queue.batch_limit
        # A serializer of the model may have published.
        if not fits or size > writer.max_bytes or queue.open is not batch:
            return None
        record = batch.builder.append(timestamp_ms, key, value, headers or [])
        if record is None:  # the batch is full
            return None
        buffer.used += size
        batch.bytes += size
        queue.appended += 1
        self.batch = batch
        return record
