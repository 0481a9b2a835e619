"""What is younger than a group is known to all of its members (rule 25)."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.structs import TopicPartition

from kafkaesk_core.kafka.new_partitions import MARK, Assignor, NewPartitions


class Cluster:
    """Topics and how many partitions they have."""

    def __init__(self, **topics: int) -> None:
        self.topics = topics

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self.topics[topic])) if topic in self.topics else None

    def partitions(self) -> list[TopicPartition]:
        return [TopicPartition(t, n) for t, count in self.topics.items() for n in range(count)]


class Process:
    """One member: its view of the cluster and what it knows to be new."""

    def __init__(self, cluster: Cluster, strategy: Any = RoundRobinPartitionAssignor) -> None:
        self.cluster = cluster
        self.new_partitions = NewPartitions(cluster.partitions)
        self.assignor = Assignor(strategy, self.new_partitions)

    def join(self) -> ConsumerProtocolMemberMetadata:
        sent = self.assignor.metadata(self.cluster.topics).encode()
        return ConsumerProtocolMemberMetadata.decode(sent)

    def new(self) -> list[TopicPartition]:
        return [tp for tp in self.cluster.partitions() if self.new_partitions.is_new(tp)]


def rebalance(*members: Process) -> None:
    """All join, the last one leads."""
    untyped: Any = members[-1].cluster
    joined = {str(number): member.join() for number, member in enumerate(members)}
    given = members[-1].assignor.assign(untyped, joined)
    for number, member in enumerate(members):
        sent = given[str(number)].encode()
        member.assignor.on_assignment(ConsumerProtocolMemberAssignment.decode(sent))
        member.new_partitions.begin()


@pytest.mark.parametrize("strategy", [RoundRobinPartitionAssignor, RangePartitionAssignor])
def test_a_member_that_joins_later_learns_what_is_new(strategy: Any) -> None:
    cluster = Cluster(one=2)
    first, second = Process(cluster, strategy), Process(cluster, strategy)
    rebalance(first)
    cluster.topics |= {"one": 3, "two": 2}

    rebalance(first, second)

    new = [TopicPartition("one", 2), TopicPartition("two", 0), TopicPartition("two", 1)]
    assert first.new() == second.new() == new


def test_what_was_told_is_told_on_when_the_first_member_has_gone() -> None:
    cluster = Cluster(one=1)
    first, second, third = Process(cluster), Process(cluster), Process(cluster)
    rebalance(first)
    cluster.topics["two"] = 1
    rebalance(first, second)

    rebalance(second)
    rebalance(second, third)

    assert third.new() == [TopicPartition("two", 0)]


def test_for_members_that_start_together_nothing_is_new() -> None:
    cluster = Cluster(one=2, two=2)
    first, second = Process(cluster), Process(cluster)

    rebalance(first, second)
    rebalance(first, second)

    assert first.new() == second.new() == []


def test_a_group_that_began_without_a_topic_takes_the_first_one_for_new() -> None:
    cluster = Cluster()
    first, second = Process(cluster), Process(cluster)
    rebalance(first)
    cluster.topics["one"] = 2

    rebalance(first, second)

    assert len(second.new()) == 2


def test_a_topic_that_was_deleted_and_made_again_is_new() -> None:
    cluster = Cluster(one=1, two=1)
    process = Process(cluster)
    rebalance(process)
    del cluster.topics["one"]
    rebalance(process)
    cluster.topics["one"] = 1

    rebalance(process)

    assert process.new() == [TopicPartition("one", 0)]


def test_an_old_topic_that_a_later_member_is_the_first_to_subscribe_to_is_not_new() -> None:
    """A deployment that adds a stream: "latest" holds for it."""
    cluster = Cluster(one=1, audit=1)
    first, second = Process(cluster), Process(cluster)
    rebalance(first)

    rebalance(first, second)

    assert second.new() == []


@pytest.mark.parametrize("foreign", [None, b"", b"of another client", MARK + b"[]", MARK + b"{"])
def test_what_others_put_there_is_nothing_to_us(foreign: bytes | None) -> None:
    process = Process(Cluster(one=1))

    process.assignor.on_assignment(ConsumerProtocolMemberAssignment(0, [("one", [0])], foreign))
    process.new_partitions.begin()

    assert process.new() == []


class OwnData(RoundRobinPartitionAssignor):  # type: ignore[misc]  # aiokafka is untyped
    """A strategy that tells its members something itself, as the sticky one does."""

    @classmethod
    def metadata(cls, topics: Any) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"own")


def test_a_strategy_with_data_of_its_own_keeps_it() -> None:
    cluster = Cluster(one=2)
    process = Process(cluster, OwnData)
    rebalance(process)
    cluster.topics["two"] = 2

    data: bytes = process.join().user_data
    assert data == b"own"


def test_what_is_created_while_a_group_forms_is_new() -> None:
    """Its first records were passed over: a first join takes three seconds, say."""
    process = Process(Cluster(other=1))

    process.join()
    process.cluster.topics["orders"] = 2
    process.new_partitions.begin()  # once it has joined

    assert process.new() == [TopicPartition("orders", 0), TopicPartition("orders", 1)]


def test_a_client_that_has_not_seen_the_cluster_takes_nothing_for_new() -> None:
    process = Process(Cluster())

    process.join()
    process.cluster.topics["orders"] = 2
    process.new_partitions.begin()

    assert process.new() == []
