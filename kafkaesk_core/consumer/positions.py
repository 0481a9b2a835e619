"""Where to read on when the group has no committed offset, or one that the log no longer holds."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import BrokerError
from kafkaesk_core.kafka.consumer import GroupMember
from kafkaesk_core.kafka.new_partitions import NewPartitions
from kafkaesk_core.offsets import OffsetTracker

__all__ = ["Positions"]

logger = logging.getLogger("kafkaesk.consumer")


class Positions:
    """Resolves positions by `auto_offset_reset`; every jump is counted and told, none is silent.

    `forget` drops what is queued or running of a partition that jumps back; `owes` is called when
    the group is to commit where it starts.
    """

    def __init__(
        self,
        member: Callable[[], GroupMember],
        offsets: OffsetTracker[TopicPartition],
        *,
        group: str,
        policy: str,
        new_partitions: NewPartitions,
        forget: Callable[[TopicPartition], None],
        owes: Callable[[], None],
    ) -> None:
        self._member = member
        self._offsets = offsets
        self._group = group
        self._policy = policy
        self._new_partitions = new_partitions
        self._forget = forget
        self._owes = owes
        self.counts: Counter[str] = Counter()

    async def reset(self, missing: Mapping[TopicPartition, int | None], *, timeout: float) -> None:
        """Move partitions to the policy's position; the value is the offset that is out of range.

        Raises:
            BrokerError: the policy is "none".
            TimeoutError: the broker did not tell the offsets in time.
        """
        epochs = {tp: self._offsets.epoch(tp) for tp in missing if tp in self._offsets}
        if not epochs:
            return
        if self._policy == "none":
            raise BrokerError(self._refusal(missing))
        self._new_partitions.begin()
        found = await self._find(epochs, missing, timeout)
        for partition, epoch in epochs.items():
            is_ours = self._offsets.epoch(partition) == epoch
            if is_ours and self._member().is_assigned(partition) and partition in found:
                self._move(partition, missing[partition], found[partition])

    async def _find(
        self,
        partitions: Iterable[TopicPartition],
        missing: Mapping[TopicPartition, int | None],
        timeout: float,
    ) -> dict[TopicPartition, int]:
        """The offsets to go on from; what was created meanwhile is read from the beginning."""
        by_end: dict[bool, list[TopicPartition]] = {}
        for partition in partitions:
            is_new = missing[partition] is None and self._new_partitions.is_new(partition)
            at_end = self._policy == "latest" and not is_new
            by_end.setdefault(at_end, []).append(partition)
        found: dict[TopicPartition, int] = {}
        for at_end, several in by_end.items():
            found |= await self._member().offsets(several, at_end=at_end, timeout=timeout)
        return found

    def _move(self, partition: TopicPartition, lost: int | None, offset: int) -> None:
        where = f"{partition.topic}[{partition.partition}] (group {self._group})"
        if lost is None:
            self.counts["started"] += 1
            logger.info("%s: no committed offset; starts at %d", where, offset)
        else:
            self.counts["out_of_range"] += 1
            logger.warning(
                "%s: offset %d is no longer in the log (retention, deleted records or a "
                "truncated log); continues at %s %d, %d records away",
                *(where, lost, self._policy, offset, offset - lost),
            )
        if lost is None or self._goes_back(partition, offset):
            self._start_anew(partition, offset, is_first=lost is None)
        # else: what was fetched before is at hand, though not in the log any more
        self._member().seek(partition, offset)

    def rewound(self, partition: TopicPartition, offset: int) -> None:
        """Somebody has sought an earlier offset with the client: go on there, in a new epoch."""
        self.counts["sought"] += 1
        logger.warning(
            "%s[%d] (group %s): the client was told to go back; continues at %d",
            *(partition.topic, partition.partition, self._group, offset),
        )
        self._forget(partition)
        self._offsets.start_at(partition, offset)

    def _goes_back(self, partition: TopicPartition, offset: int) -> bool:
        position = self._offsets.state(partition).position
        return position is None or offset < position

    def _start_anew(self, partition: TopicPartition, offset: int, *, is_first: bool) -> None:
        self._forget(partition)
        # A group that starts at the end owes a commit of that position: without it, a restart
        # before the first commit would skip what came in between (rule 9). The same holds where
        # what it had committed is not in the log any more.
        is_owed = self._policy == "latest" or not is_first
        self._offsets.start_at(partition, offset, commit=is_owed)
        if is_owed:
            self._owes()

    def _refusal(self, missing: Mapping[TopicPartition, int | None]) -> str:
        told = ", ".join(
            f"{tp.topic}[{tp.partition}]" + ("" if lost is None else f"@{lost}")
            for tp, lost in missing.items()
        )
        return (
            f"group {self._group} has no valid committed offset for {told} and "
            "auto_offset_reset is 'none'; set it to 'earliest' or 'latest', or commit an offset"
        )
