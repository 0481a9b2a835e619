"""The settled dead letters, as marks in a compacted topic: Kafka cannot delete one record."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from aiokafka.structs import ConsumerRecord, TopicPartition

from kafkaesk_retry.places import Place, StreamNames

__all__ = ["Ledger", "Mark"]

Mark = Literal["replayed", "dropped"]
CONFIGS = {"cleanup.policy": "compact"}
RUN = b"run"


class Ledger:
    """The marks of all groups, from the state topics.

    `runs` has each group's interrupted replay: the topics that it wrote to, with their ends before
    it began.
    """

    def __init__(self, names: StreamNames, prefix: str) -> None:
        self._names = names
        self._prefix = prefix
        self._settled: dict[TopicPartition, set[int]] = {}
        self.runs: dict[str, dict[TopicPartition, int]] = {}

    def topic(self, group: str) -> str:
        """Return the topic of a group's marks."""
        return self._prefix + self._names.state(group)

    def is_topic(self, topic: str) -> bool:
        """Whether a topic has marks."""
        return topic.startswith(self._prefix + self._names.STATE)

    def is_settled(self, place: Place) -> bool:
        """Whether this letter was replayed or dropped."""
        return place.offset in self._settled.get(TopicPartition(*place[:2]), ())

    def count(self, partition: TopicPartition, begin: int, end: int) -> int:
        """Return the number of settled letters between two offsets of a partition.

        Marks below `begin` are forgotten.
        """
        settled = self._settled.get(partition, set())
        settled.difference_update([offset for offset in settled if offset < begin])
        return sum(offset < end for offset in settled)

    def take(self, record: ConsumerRecord) -> None:
        """Apply one record of a state topic; ignore a foreign record."""
        key = record.key or b""
        if key == RUN:
            self._take_run(record)
            return
        try:
            place = Place.parse(key.decode())
        except ValueError:
            return
        if record.value is None:
            self._settled.get(TopicPartition(*place[:2]), set()).discard(place.offset)
        else:
            self.note([place])

    def _take_run(self, record: ConsumerRecord) -> None:
        self.runs.pop(record.topic, None)
        try:
            run = json.loads(record.value or b"")
            self.runs[record.topic] = {
                TopicPartition(topic, int(partition)): int(end)
                for topic, partition, end in run["ends"]
            }
        except (ValueError, KeyError, TypeError):
            return

    def note(self, places: Iterable[Place]) -> None:
        """Note letters that have just been settled."""
        for topic, partition, offset in places:
            self._settled.setdefault(TopicPartition(topic, partition), set()).add(offset)


def mark(place: Place, how: Mark, to: Place | None = None) -> tuple[bytes, bytes]:
    """Return the key and value of the mark that settles a letter."""
    said: dict[str, Any] = {"settled": how, "at": int(time.time() * 1000)}
    if to is not None:
        said["to"] = str(to)
    return str(place).encode(), json.dumps(said).encode()


def begin_run(ends: Mapping[TopicPartition, int]) -> tuple[bytes, bytes]:
    """Return the key and value of the mark for the begin of a replay."""
    triples = [[one.topic, one.partition, end] for one, end in ends.items()]
    return RUN, json.dumps({"ends": triples}).encode()


def end_run() -> tuple[bytes, None]:
    """Return the key and value of the mark for the end of a replay."""
    return RUN, None
