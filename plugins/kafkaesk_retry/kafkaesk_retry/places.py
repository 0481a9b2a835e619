"""Where records are and where they came from, and the names of the plugin's streams."""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import crc32

from kafkaesk_core import IncomingMessage

__all__ = ["MOST_INT32", "MOST_INT64", "Place", "StreamNames", "number", "place_of"]

MOST_INT32, MOST_INT64 = 2**31 - 1, 2**63 - 1
"""The largest partition and offset of Kafka."""
DIGITS = 20
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
        """Read "topic/partition/offset".

        Raises:
            ValueError: it is written in another way.
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
    """Read a number of a header, which anybody may have written.

    Raises:
        ValueError: it is no number from 0 to `most`.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS and int(text) <= most):
        raise ValueError(f"{text[:DIGITS]!r} is no number from 0 to {most}")
    return int(text)


def place_of(message: IncomingMessage) -> Place:
    """Return where this message was read."""
    return Place(message.topic, message.partition, message.offset)


class StreamNames:
    """The names of the streams that hold dead letters, and those that wait.

    Where a group's name has characters that no topic may have, they become "_", and a checksum of
    the name follows, so that no two groups share a stream.
    """

    RETRY = "retry."
    STATE = "dlq-state."

    def __init__(self, prefix: str = "dlq.") -> None:
        self.dead_prefix = prefix

    @property
    def claimed(self) -> frozenset[str]:
        """Patterns of all of them: no subscription by pattern takes these."""
        return frozenset({f"{self.dead_prefix}*", f"{self.RETRY}*", f"{self.STATE}*"})

    def dead(self, group: str, stream: str) -> str:
        """The stream of the dead letters of a group and a stream."""
        return f"{self.dead_prefix}{_in_topic(group)}.{stream}"

    def later(self, group: str, seconds: float = 0) -> str:
        """The stream in which a group's records wait; of 0 seconds: of what is replayed."""
        return f"{self.RETRY}{_in_topic(group)}.{seconds:.0f}"

    def state(self, group: str) -> str:
        """The compacted stream of which dead letters are settled."""
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
