"""Tracks the partitions created after a group began; members inform members that join later.

A group that starts at the end of its topics must read later partitions from their beginning. Only
the first members know which partitions existed at the start.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.structs import TopicPartition

__all__ = ["Assignor", "NewPartitions"]

MARK = b"kafkaesk-newcomers:"
"""The prefix of our user data in the group's protocol; other clients ignore it."""


class NewPartitions:
    """The number of partitions that each topic had when the group began, as far as known.

    `partitions` returns the current partitions. New partitions have the highest numbers.
    """

    def __init__(self, partitions: Callable[[], Collection[TopicPartition]]) -> None:
        self._partitions = partitions
        self._old: Counter[str] | None = None
        self._reported: dict[str, int] = {}

    def begin(self) -> None:
        """Treat the current partitions as old, once, except those that members reported as new."""
        if self._old is None:
            self._old = self._counts()
            self.learn(self._reported)

    def begin_to_join(self) -> None:
        """Begin before the first join, if the client has metadata, because joining takes seconds.

        A partition that is created while the group forms is new.
        """
        if self._counts():
            self.begin()

    def is_new(self, partition: TopicPartition) -> bool:
        """Whether a partition was created after the group began."""
        return self._old is not None and partition.partition >= self._old[partition.topic]

    def among(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the number of the first new partition of each topic that has new partitions."""
        if self._old is None:
            return {}
        old, present = self._old, self._counts()
        for topic in [topic for topic in old if present and not present[topic]]:
            del old[topic]  # deleted; if it exists again, it is new
        return {topic: old[topic] for topic in topics if present[topic] > old[topic]}

    def learn(self, first_new: Mapping[str, int]) -> None:
        """Adopt the partitions that earlier members report as new."""
        if self._old is None:
            self._reported = dict(first_new)
            return
        for topic, number in first_new.items():
            self._old[topic] = min(self._old[topic], number)

    def _counts(self) -> Counter[str]:
        return Counter(partition.topic for partition in self._partitions())


class Assignor:
    """An assignment strategy that also carries the numbers of new partitions between members."""

    def __init__(
        self, strategy: type[AbstractPartitionAssignor], new_partitions: NewPartitions
    ) -> None:
        self.name = strategy.name
        self._strategy = strategy
        self._new_partitions = new_partitions

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return the metadata with which this member joins."""
        topics = list(topics)
        self._new_partitions.begin_to_join()
        metadata = self._strategy.metadata(topics)
        first_new = self._new_partitions.among(topics)
        if metadata.user_data or not first_new:  # a strategy that has data of its own keeps it
            return metadata
        return ConsumerProtocolMemberMetadata(
            metadata.version, metadata.subscription, _encode(first_new)
        )

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Return the leader's assignment for each member, with all known new partitions."""
        first_new: dict[str, int] = {}
        for metadata in members.values():
            for topic, number in _decode(metadata.user_data).items():
                first_new[topic] = min(number, first_new.get(topic, number))
        assignments: dict[str, ConsumerProtocolMemberAssignment] = self._strategy.assign(
            cluster, {member: _without_ours(metadata) for member, metadata in members.items()}
        )
        if not first_new:
            return assignments
        return {
            member: assignment
            if assignment.user_data
            else ConsumerProtocolMemberAssignment(
                assignment.version, assignment.assignment, _encode(first_new)
            )
            for member, assignment in assignments.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Learn the new partitions from the leader's assignment."""
        self._new_partitions.learn(_decode(assignment.user_data))
        self._strategy.on_assignment(assignment)


def _without_ours(metadata: ConsumerProtocolMemberMetadata) -> ConsumerProtocolMemberMetadata:
    if not (metadata.user_data or b"").startswith(MARK):
        return metadata
    return ConsumerProtocolMemberMetadata(metadata.version, metadata.subscription, b"")


def _encode(first_new: Mapping[str, int]) -> bytes:
    return MARK + json.dumps(first_new).encode()


def _decode(user_data: bytes | None) -> dict[str, int]:
    """Decode a member's report; empty if another client or a later version wrote it."""
    if not user_data or not user_data.startswith(MARK):
        return {}
    try:
        reported: Any = json.loads(user_data[len(MARK) :])
        return {str(topic): int(number) for topic, number in reported.items()}
    except (ValueError, TypeError, AttributeError):
        return {}
