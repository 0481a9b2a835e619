"""Read-only requests to a cluster: topics, offsets, groups, configurations."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import aiokafka.errors as kafka
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.protocol.admin import DescribeGroupsRequest, ListGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from kafkaesk_core.tasks import Backoff, start_detached

from .admin import Admin
from .errors import is_retryable, translate

__all__ = ["BEGIN", "END", "GroupState", "MemberState", "PartitionState", "Queries", "TopicEntry"]

Result = TypeVar("Result")
END, BEGIN = -1, -2
"""The special values of ListOffsets for a timestamp."""

_READ_UNCOMMITTED = 0
_NO_LEADER = -1
_ASKS_FOR_LEADERS = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class PartitionState(NamedTuple):
    """A partition in the cluster's metadata; `leader` is None while it has none."""

    number: int
    leader: int | None
    replicas: tuple[int, ...]


class TopicEntry(NamedTuple):
    """A topic in the cluster's metadata; `code` is Kafka's error code, 0 if there is no error."""

    name: str
    code: int
    is_internal: bool
    partitions: tuple[PartitionState, ...]


class MemberState(NamedTuple):
    """A member of a group, with its assignment if that can be read."""

    member_id: str
    client_id: str
    host: str
    partitions: tuple[TopicPartition, ...]


class GroupState(NamedTuple):
    """A group as its coordinator describes it; `state` is "Dead" if the group does not exist."""

    state: str
    protocol: str
    members: tuple[MemberState, ...]


class Queries(Admin):
    """One admin client; it retries requests while the cluster moves leaders or coordinators.

    Each method raises the error that `translate` returns for a broker's refusal, and
    BrokerUnreachableError if there is no answer within `timeout` seconds.
    """

    async def topics(self, names: Iterable[str] | None, timeout: float) -> list[TopicEntry]:
        """Return these topics, or all that this client may describe; create none."""

        async def ask() -> list[TopicEntry]:
            wanted = None if names is None else sorted(names)
            answer = await self._send(None, MetadataRequest(wanted, False))
            return [
                TopicEntry(name, code, bool(is_internal), tuple(map(_partition, partitions)))
                for code, name, is_internal, partitions in answer.topics
            ]

        return await self._until("listing topics", ask, timeout)

    async def offsets(
        self, topics: Iterable[str], timestamp_ms: int, timeout: float
    ) -> dict[TopicPartition, int]:
        """Return an offset of each partition; partitions without a leader are left out.

        The offset is the first one at or after a time, or -1 if there is none; BEGIN and END stand
        for the first offset and the end.
        """
        found: dict[TopicPartition, int] = {}
        names = sorted(set(topics))
        if not names:
            return found
        pause = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        for _ in range(_ASKS_FOR_LEADERS):
            entries = await self.topics(names, timeout)
            wanted, is_complete = _by_leader(entries, timestamp_ms, found)
            for leader, partitions in wanted.items():
                ask = partial(self._send, leader, _offset_request(partitions))
                answer = await self._until("asking for offsets", ask, timeout)
                is_complete &= _take_offsets(answer, found)
            if is_complete:
                break
            await pause.wait()
        return found

    async def group_names(self, timeout: float) -> list[str]:
        """Return the names of all groups that this client may describe."""

        async def ask() -> list[str]:
            answer = await self._send(None, MetadataRequest([], False))
            names: set[str] = set()
            for broker in answer.brokers:
                listed = await self._send(broker[0], ListGroupsRequest())
                _check(listed.error_code, "listing groups")
                names.update(name for name, _ in listed.groups)
            return sorted(names)

        return await self._until("listing groups", ask, timeout)

    async def group(self, name: str, timeout: float) -> GroupState:
        """Return a group's state and members."""

        async def ask() -> GroupState:
            coordinator = await self._client.find_coordinator(name)
            answer = await self._send(coordinator, DescribeGroupsRequest([name], False))
            code, _, state, _, protocol, members, *_ = answer.groups[0]
            _check(code, f"describing group {name}")
            return GroupState(state, protocol, tuple(map(_member, members)))

        return await self._until(f"describing group {name}", ask, timeout)

    async def committed(self, name: str, timeout: float) -> dict[TopicPartition, tuple[int, str]]:
        """Return the offsets that a group has committed, each with its text."""

        async def ask() -> dict[TopicPartition, tuple[int, str]]:
            coordinator = await self._client.find_coordinator(name)
            answer = await self._send(coordinator, OffsetFetchRequest(name, None))
            _check(getattr(answer, "error_code", 0), f"asking for offsets of group {name}")
            return {
                TopicPartition(topic, partition): (offset, text or "")
                for topic, partitions in answer.topics
                for partition, offset, text, code in partitions
                if code == 0 and offset >= 0
            }

        return await self._until(f"asking for the offsets of group {name}", ask, timeout)

    async def configs(self, topic: str, timeout: float) -> dict[str, str | None]:
        """Return all settings of a topic; None for hidden values."""

        async def ask() -> dict[str, str | None]:
            return await self.describe_topic_configs(topic, (), timeout=timeout)

        return await self._until(f"asking for the settings of topic {topic}", ask, timeout)

    async def _send(self, node: int | None, request: Any) -> Any:  # aiokafka's classes
        client = self._client._client
        asked = client.get_random_node() if node is None else node
        if asked is None:
            raise kafka.NodeNotReadyError("no broker is known")
        return await client.send(asked, request)

    async def _until(
        self, attempted: str, ask: Callable[[], Coroutine[Any, Any, Result]], timeout: float
    ) -> Result:
        last: kafka.KafkaError | None = None
        pause = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        return await start_detached(ask())
                    except kafka.KafkaError as error:
                        if not is_retryable(error):
                            raise translate(error, attempted, servers=self._servers) from error
                        last = error
                    await pause.wait()
        except TimeoutError:
            late = last or kafka.RequestTimedOutError(f"no answer in {timeout:g} seconds")
            raise translate(late, attempted, servers=self._servers) from late


def _check(code: int, attempted: str) -> None:
    if code:
        raise kafka.for_code(code)(attempted)


def _partition(answered: Any) -> PartitionState:
    _, number, leader, replicas, *_ = answered
    return PartitionState(number, None if leader == _NO_LEADER else leader, tuple(replicas))


def _by_leader(
    entries: Iterable[TopicEntry], timestamp_ms: int, known: Mapping[TopicPartition, int]
) -> tuple[dict[int, dict[str, list[tuple[int, int]]]], bool]:
    """Group the unknown partitions by leader; return False if a partition has no leader."""
    wanted: dict[int, dict[str, list[tuple[int, int]]]] = {}
    are_led = True
    for topic in entries:
        for number, leader, _ in topic.partitions:
            if TopicPartition(topic.name, number) in known:
                continue
            if leader is None:
                are_led = False
            else:
                partitions = wanted.setdefault(leader, {}).setdefault(topic.name, [])
                partitions.append((number, timestamp_ms))
    return wanted, are_led


def _offset_request(partitions: Mapping[str, list[tuple[int, int]]]) -> OffsetRequest:
    return OffsetRequest(-1, _READ_UNCOMMITTED, list(partitions.items()))


def _take_offsets(answer: Any, found: dict[TopicPartition, int]) -> bool:
    """Note the offsets of an answer; return False if a leader has moved."""
    is_complete = True
    for topic, partitions in answer.topics:
        for number, code, _, offset in partitions:
            if code == 0:
                found[TopicPartition(topic, number)] = offset
            elif not is_retryable(kafka.for_code(code)()):
                _check(code, f"topic {topic}, partition {number}")
            else:
                is_complete = False
    return is_complete


def _member(answered: Any) -> MemberState:
    member_id, client_id, host, _, assignment = answered
    return MemberState(member_id, client_id, host.removeprefix("/"), _assigned(assignment))


def _assigned(assignment: bytes) -> tuple[TopicPartition, ...]:
    """Decode an assignment; empty if the member has none or uses another protocol."""
    try:
        decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    except (ValueError, IndexError, TypeError, struct.error):
        return ()
    return tuple(sorted(decoded.partitions()))
