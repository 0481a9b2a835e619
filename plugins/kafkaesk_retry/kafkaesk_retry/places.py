"""Where records are and where they came from, and the names of the plugin's streams."""

from __future__ import annotations

import re
from typing import NamedTuple

from kafkaesk_core import IncomingMessage

__all__ = ["Place", "StreamNames", "place_of"]

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
        topic, partition, offset = text.rsplit("/", 2)
        if not (topic and partition.isdecimal() and offset.isdecimal()):
            raise ValueError(f"{text!r} is not topic/partition/offset")
        return cls(topic, int(partition), int(offset))


def place_of(message: IncomingMessage) -> Place:
    """Return where this message was read."""
    return Place(message.topic, message.partition, message.offset)


class StreamNames:
    """The names of the streams that hold dead letters, and those that wait.

    Where a group's name has characters that no topic may have, they become "_".
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
        return f"{self.RETRY}{_in_topic(group)}.{seconds:g}"

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
    return _NOT_IN_TOPICS.sub("_", group)
