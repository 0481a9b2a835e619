"""Records as the client's parser makes them; aiokafka's ConsumerRecord of one when it is asked for.

Making a ConsumerRecord, a frozen dataclass of eleven fields, takes about as long as parsing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aiokafka.structs import ConsumerRecord, TopicPartition

__all__ = ["ParsedRecord", "PartlyUnreadable", "Unreadable", "consumer_record"]


class ParsedRecord(Protocol):
    """What all of them have: the parser's of each message format, and ConsumerRecord."""

    @property
    def offset(self) -> int:
        """The offset in the partition, which is not in the record."""

    @property
    def timestamp(self) -> int | None:
        """Milliseconds since 1970; None in the oldest format."""

    @property
    def timestamp_type(self) -> int | None:
        """0: when it was made, 1: when it was appended."""

    @property
    def key(self) -> bytes | None:
        """The key."""

    @property
    def value(self) -> bytes | None:
        """The value."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """The headers, in their order."""

    @property
    def checksum(self) -> int | None:
        """Of the two older formats alone."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What is there in place of a record that cannot be read; the rest is what could be.

    `error` is what its handling fails of. It may stand for a whole batch.
    """

    topic: str
    partition: int
    offset: int
    error: BaseException
    timestamp: int | None = None
    timestamp_type: int | None = None
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    checksum: int | None = None


class PartlyUnreadable(list[ParsedRecord]):
    """Records among which are unreadable ones: nothing else has to look for them."""


def consumer_record(partition: TopicPartition, parsed: ParsedRecord) -> ConsumerRecord:
    """Return what aiokafka makes of a record of this partition."""
    if isinstance(parsed, ConsumerRecord):
        return parsed
    key, value = parsed.key, parsed.value
    return ConsumerRecord(
        partition.topic,
        partition.partition,
        parsed.offset,
        parsed.timestamp,
        parsed.timestamp_type,
        key,
        value,
        parsed.checksum,
        -1 if key is None else len(key),
        -1 if value is None else len(value),
        tuple(parsed.headers),
    )
