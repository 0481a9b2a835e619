"""The places of records, and the names of the plugin's streams."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from kafkaesk_core import IncomingMessage

__all__ = [
    "EMBEDDED",
    "MOST_INT32",
    "MOST_INT64",
    "Place",
    "StreamNames",
    "fetched_at",
    "handed_on",
    "number",
    "place_of",
]

MOST_INT32, MOST_INT64 = 2**31 - 1, 2**63 - 1
"""The largest partition and offset of Kafka."""
DIGITS = 20
EMBEDDED = "embedded://"
"""Begins the address of a broker inside a process."""
_NOT_IN_TOPICS = re.compile(r"[^a-zA-Z0-9._-]")


class Place(NamedTuple):
    """A record's topic, partition and offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Parse "topic/partition/offset".

        Raises:
            ValueError: the text has another format.
        """
        topic, _, numbers = text.partition("/")
        partition, _, offset = numbers.partition("/")
        try:
            place = cls(topic, number(partition, MOST_INT32), number(offset, MOST_INT64))
        except ValueError:
            topic = ""
        if not topic:
            raise ValueError(f"{text!r} is not topic/partition/offset")
        return place


def number(text: str, most: int) -> int:
    """Parse a number in a header, which any program may have written.

    Raises:
        ValueError: the value is no number from 0 to `most`.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS and int(text) <= most):
        raise ValueError(f"{text[:DIGITS]!r} is no number from 0 to {most}")
    return int(text)


def place_of(message: IncomingMessage) -> Place:
    """Return the place where this message was read."""
    return Place(message.topic, message.partition, message.offset)


_HANDED = ContextVar[tuple[Place, int] | None]("kafkaesk_retry_handed", default=None)


@contextmanager
def handed_on(message: IncomingMessage) -> Iterator[None]:
    """Say that what is handled in this block came with a waiting record, from its topic."""
    token = _HANDED.set((place_of(message), message.epoch))
    try:
        yield
    finally:
        _HANDED.reset(token)


def fetched_at(message: IncomingMessage) -> tuple[Place, int]:
    """Return the place that the group reads this message from, and the epoch."""
    return _HANDED.get() or (place_of(message), message.epoch)


class StreamNames:
    """The names of the streams of dead letters, and of waiting records.

    If a group's name has characters that topics may not have, they become "_", followed by a
    checksum of the name, so that no two groups share a stream.
    """

    RETRY = "retry."
    STATE = "dlq-state."

    def __init__(self, prefix: str = "dlq.") -> None:
        self.dead_prefix = prefix

    @property
    def claimed(self) -> frozenset[str]:
        """The patterns of all these streams; no subscription by pattern takes them."""
        return frozenset({f"{self.dead_prefix}*", f"{self.RETRY}*", f"{self.STATE}*"})

    def dead(self, group: str, stream: str) -> str:
        """Return the stream for a group's dead letters of a stream."""
        return f"{self.dead_prefix}{_in_topic(group)}.{stream}"

    def later(self, group: str, seconds: float = 0) -> str:
        """Return the stream in which a group's records wait; 0 seconds is for replayed records."""
        return f"{self.RETRY}{_in_topic(group)}.{seconds:.0f}"

    def state(self, group: str) -> str:
        """Return the compacted stream that marks settled dead letters."""
        return f"{self.STATE}{_in_topic(group)}"

    def is_dead(self, stream: str) -> bool:
        """Whether this is a stream of dead letters."""
        return stream.startswith(self.dead_prefix)

    def is_own(self, stream: str) -> bool:
        """Whether this is a stream of the plugin."""
        return stream.startswith((self.dead_prefix, self.RETRY, self.STATE))


def _in_topic(group: str) -> str:
    readable = _NOT_IN_TOPICS.sub("_", group)
    return readable if readable == group else f"{readable}-{crc32(group.encode()):08x}"
