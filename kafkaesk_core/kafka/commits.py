"""Offset commits as requests of our own, each sent as one member of one generation.

aiokafka's commit() reads the current generation on each attempt, retries without limit and is
shielded from cancellation, so a commit that outlives its membership can move the group back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import CommitError

__all__ = ["CommitClient", "CommitResult", "MemberIdentity"]

logger = logging.getLogger("kafkaesk.kafka")

CONNECTION = "kafkaesk-commit"
"""Commits have their own connection: on the coordinator's they would wait behind a parked
JoinGroup, and on the default one behind a parked fetch. Any hashable object names a connection."""

RETRY_PAUSE = 0.1
RETRIED = (7, 14, 15, 16)
"""The coordinator is slow, loading or moving: look it up and retry."""

LOST = (22, 25, 82)
"""Another generation or member, or a fenced instance: the partitions are no longer ours."""

UNKNOWN_TOPIC = 3


class MemberIdentity(NamedTuple):
    """Our identity in the group; the broker refuses commits of other generations and members."""

    generation: int
    member_id: str


@dataclass(slots=True)
class CommitResult:
    """The broker's answer for each partition of one commit."""

    stored: set[TopicPartition] = field(default_factory=set)
    gone: set[TopicPartition] = field(default_factory=set)
    refused: dict[TopicPartition, str] = field(default_factory=dict)
    is_lost: bool = False

    def note(self, partition: TopicPartition, code: int) -> None:
        """Note the broker's answer for one partition."""
        if code == 0:
            self.stored.add(partition)
        elif code in LOST:
            self.is_lost = True
        elif code == UNKNOWN_TOPIC:
            self.gone.add(partition)
        else:
            self.refused[partition] = kafka_errors.for_code(code).__name__


class CommitClient:
    """Sends the commits of one group through one client, one at a time: two could be reordered."""

    def __init__(self, client: AIOKafkaClient, group: str) -> None:
        self._client = client
        self._group = group
        self._node: int | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    def connect(self, node: int | None) -> None:
        """Connect to the coordinator in advance; in an outage this blocks the whole client."""
        if node is not None and node != self._node and not self._is_stopped:
            self._node = node
            connecting = asyncio.create_task(self._connect(node))
            self._connecting.add(connecting)
            connecting.add_done_callback(self._connecting.discard)

    async def _connect(self, node: int) -> None:
        with contextlib.suppress(kafka_errors.KafkaError, OSError, TimeoutError):
            await self._client.ready(node, group=CONNECTION)

    async def stop_connecting(self) -> None:
        """Make no more connections, and cancel those being made.

        A connection made after the end of the client would stay open forever.
        """
        self._is_stopped = True
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        if connecting:
            await asyncio.wait(connecting)

    async def send(
        self,
        identity: MemberIdentity,
        offsets: Mapping[TopicPartition, int],
        timeout: float,
        notes: Mapping[TopicPartition, str] | None = None,
    ) -> CommitResult:
        """Commit next-to-read offsets, each with its note, as this member of this generation.

        Raises:
            CommitError: no answer within `timeout` seconds; the offsets may have been stored.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._send_all(identity, offsets, notes or {})
        except TimeoutError:
            raise CommitError(
                f"group {self._group}: the commit of {len(offsets)} partitions got no answer "
                f"within {timeout:g} s; it may have been stored, and is sent again"
            ) from None

    async def _send_all(
        self,
        identity: MemberIdentity,
        offsets: Mapping[TopicPartition, int],
        notes: Mapping[TopicPartition, str],
    ) -> CommitResult:
        result = CommitResult()
        waiting = dict(offsets)
        while waiting:
            codes = await self._ask(identity, waiting, notes)
            for partition, code in codes.items():
                if code not in RETRIED:
                    del waiting[partition]
                    result.note(partition, code)
            if waiting:
                await self._find_coordinator()
        return result

    async def _ask(
        self,
        identity: MemberIdentity,
        offsets: Mapping[TopicPartition, int],
        notes: Mapping[TopicPartition, str],
    ) -> dict[TopicPartition, int]:
        """Send one request; return codes by partition, 15 for all if the connection failed."""
        topics: dict[str, list[tuple[int, int, str]]] = {}
        for partition, offset in offsets.items():
            stored = (partition.partition, offset, notes.get(partition, ""))
            topics.setdefault(partition.topic, []).append(stored)
        request = OffsetCommitRequest(
            self._group,
            identity.generation,
            identity.member_id,
            OffsetCommitRequest.DEFAULT_RETENTION_TIME,
            list(topics.items()),
        )
        try:
            if self._node is None:
                await self._find_coordinator()
            response: Any = await self._client.send(self._node, request, group=CONNECTION)
        except kafka_errors.KafkaError as error:
            logger.debug("commit of group %s: %r; retrying", self._group, error)
            return dict.fromkeys(offsets, 15)
        return {
            TopicPartition(topic, partition): code
            for topic, partitions in response.topics
            for partition, code in partitions
        }

    async def _find_coordinator(self) -> None:
        await asyncio.sleep(RETRY_PAUSE)
        with contextlib.suppress(kafka_errors.KafkaError):
            self._node = await self._client.coordinator_lookup(CoordinationType.GROUP, self._group)
