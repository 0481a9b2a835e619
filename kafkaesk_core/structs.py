"""The structs of aiokafka, with type annotations for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

__all__ = ["ConsumerRecord", "RecordMetadata", "TopicPartition"]

if TYPE_CHECKING:
    from dataclasses import dataclass

    class TopicPartition(NamedTuple):
        """A topic and the number of one of its partitions."""

        topic: str
        partition: int

    class RecordMetadata(NamedTuple):
        """Where a message was written; `timestamp` is in milliseconds since 1970."""

        topic: str
        partition: int
        topic_partition: TopicPartition
        offset: int
        timestamp: int | None
        timestamp_type: int
        log_start_offset: int | None

    @dataclass(frozen=True)
    class ConsumerRecord:
        """A record as aiokafka returns it; `timestamp` is in milliseconds since 1970."""

        topic: str
        partition: int
        offset: int
        timestamp: int
        timestamp_type: int
        key: bytes | None
        value: bytes | None
        checksum: int | None
        serialized_key_size: int
        serialized_value_size: int
        headers: tuple[tuple[str, bytes | None], ...]
else:
    from aiokafka.structs import ConsumerRecord, RecordMetadata, TopicPartition
