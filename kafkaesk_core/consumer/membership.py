"""The application's membership in a group: joining, replacing a broken member, positions."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import BrokerError, BrokerUnreachableError, KafkaeskError, NotRunningError
from kafkaesk_core.kafka.commits import CommitResult
from kafkaesk_core.kafka.consumer import GroupMember, MemberBroken, MemberRefused, RebalanceHandler
from kafkaesk_core.kafka.errors import translate
from kafkaesk_core.kafka.new_partitions import NewPartitions
from kafkaesk_core.offsets import OffsetTracker

from .commits import Offsets
from .rebalance import list_partitions

__all__ = ["CLOSE_TIMEOUT", "LEAVE_TIMEOUT", "Membership", "Positions"]

logger = logging.getLogger("kafkaesk.consumer")

REWOUND = "%s[%d] (group %s): the client was rewound; continues at %d%s"
MOVED_ON = "%s[%d] (group %s): the client was moved on; continues at %d%s"
LEAVE_TIMEOUT, CLOSE_TIMEOUT = 3.0, 5.0
LOOKUP_PAUSE = 0.5
PAUSES = (1, 2, 4, 8, 16, 30, 30, 30)
"""Seconds before each new member; after the last one the application stops."""

Epochs = Mapping[TopicPartition, int]


class Membership:
    """The current member of the group, subscribed to `pattern`; a broken member is replaced."""

    def __init__(
        self,
        group: str,
        new_member: Callable[[], GroupMember],
        pattern: str,
        start_timeout: float,
        *,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._group = group
        self._new_member = new_member
        self._pattern = pattern
        self._start_timeout = start_timeout
        self._pauses = pauses
        self._handler: RebalanceHandler | None = None
        self._replaced = 0  # times since the last assignment
        self._was_joined = False
        self._leaving = asyncio.Event()
        self.member = new_member()

    async def start(self, handler: RebalanceHandler, timeout: float) -> None:
        """Connect and ask to join.

        Raises:
            BrokerError: no broker answered in `timeout` seconds, or it refused us.
        """
        self._handler = handler
        await self.member.start(self._pattern, handler, timeout)

    def joined(self) -> None:
        """Note that the group gave us an assignment, so the member works."""
        self._was_joined = True
        self._replaced = 0

    async def replace(self, broken: MemberBroken) -> None:
        """Join the group as a new member, because the current one will never work again (rule 33).

        Each step returns early if the group is being left: the client may swallow a cancellation,
        and a member that starts after the stop would stay forever.

        Raises:
            KafkaeskError: this member never worked, or too many new members did not work.
        """
        cause = self.reason(broken)
        if not self._was_joined:
            raise cause from broken.__cause__
        while self._replaced < len(self._pauses):
            pause = self._pauses[self._replaced]
            self._replaced += 1
            logger.error("%s; joining the group again in %g seconds", cause, pause)
            await self.member.stop(LEAVE_TIMEOUT)
            if await self._leaves_within(pause):
                return
            self.member = self._new_member()
            try:
                await self._join()
            except BrokerUnreachableError as error:
                cause = error
            except NotRunningError:
                return
            else:
                return
        raise cause from broken.__cause__

    async def _leaves_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._leaving.wait()
        return self._leaving.is_set()

    @property
    def is_leaving(self) -> bool:
        """Whether the application is leaving the group for good."""
        return self._leaving.is_set()

    def begin_leaving(self) -> None:
        """Allow no new member."""
        self._leaving.set()

    async def leave(self, timeout: float) -> None:
        """Leave the group for good, within little more than `timeout` seconds."""
        self.begin_leaving()
        await self.member.stop(timeout)

    async def _join(self) -> None:
        if self._handler is not None:
            await self.member.start(self._pattern, self._handler, self._start_timeout)

    def reason(self, problem: MemberBroken | MemberRefused) -> KafkaeskError:
        """Translate the reason why a member does not work."""
        return translate(problem.__cause__ or problem, f"group {self._group}: membership")

    async def commit(
        self,
        offsets: Offsets,
        timeout: float,
        notes: Mapping[TopicPartition, str] | None = None,
    ) -> CommitResult:
        """Commit offsets and their notes as the current member."""
        return await self.member.commit(offsets, timeout, notes)


class Positions:
    """Resolves positions by `auto_offset_reset`; every jump is counted and logged.

    A task asks the brokers, for at most `timeout` seconds, and retries after a pause; other
    partitions are read meanwhile. `forget` drops the queued and running records of a partition that
    jumps back. `owes` is called when the group must commit the offset at which it starts.
    """

    def __init__(
        self,
        member: Callable[[], GroupMember],
        offsets: OffsetTracker[TopicPartition],
        *,
        group: str,
        policy: str,
        timeout: float,
        new_partitions: NewPartitions,
        forget: Callable[[TopicPartition], None],
        owes: Callable[[], None],
    ) -> None:
        self._member = member
        self._offsets = offsets
        self._group = group
        self._policy = policy
        self._timeout = timeout
        self._new_partitions = new_partitions
        self._forget = forget
        self._owes = owes
        self._lookups: dict[asyncio.Task[None], Epochs] = {}
        self._failures: dict[tuple[TopicPartition, int], str] = {}
        self._started: dict[int, list[TopicPartition]] = {}
        self._defect: BaseException | None = None
        self.counts: Counter[str] = Counter()

    def reset(self, missing: Mapping[TopicPartition, int | None]) -> None:
        """Look up positions by the policy; a value is the offset that is out of range, or None.

        Raises:
            BrokerError: the policy is "none".
        """
        epochs = {tp: e for tp in missing if (e := self._offsets.epoch(tp)) is not None}
        if not epochs:
            return
        if self._policy == "none":
            raise BrokerError(self._refusal(missing))
        self._new_partitions.begin()
        lookup = asyncio.create_task(self._reset(epochs, missing))
        self._lookups[lookup] = epochs
        lookup.add_done_callback(self._end_lookup)

    def leave_out_unknown(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return the partitions whose positions are not being looked up.

        Raises:
            BaseException: a lookup failed for a reason other than a broker's error or silence.
        """
        if self._defect is not None:
            raise self._defect
        if not self._lookups:
            return partitions
        unknown = {place for epochs in self._lookups.values() for place in epochs.items()}
        return [tp for tp in partitions if (tp, self._offsets.epoch(tp)) not in unknown]

    @property
    def problems(self) -> list[str]:
        """The partitions whose positions could not be found yet, with the reasons."""
        return [text for (tp, epoch), text in self._failures.items() if self._is_in(tp, epoch)]

    async def stop(self) -> None:
        """Cancel all lookups."""
        lookups = list(self._lookups)
        for lookup in lookups:
            lookup.cancel()
        if lookups:
            await asyncio.wait(lookups)

    def _is_in(self, partition: TopicPartition, epoch: int) -> bool:
        return self._offsets.epoch(partition) == epoch

    def _end_lookup(self, lookup: asyncio.Task[None]) -> None:
        epochs = self._lookups.pop(lookup)
        error = None if lookup.cancelled() else lookup.exception()
        # An error means nothing if the partitions were revoked meanwhile: the client was stopped.
        if error is not None and any(self._is_in(*place) for place in epochs.items()):
            self._defect = error
        if not self._lookups:
            self._log_starts()

    def _log_starts(self) -> None:
        """Log the partitions of all lookups together: the client requests them one by one."""
        for offset, partitions in self._started.items():
            logger.info(
                "group %s: no committed offset for %s; starts at %d",
                *(self._group, list_partitions(partitions), offset),
            )
        self._started.clear()

    async def _reset(self, epochs: Epochs, missing: Mapping[TopicPartition, int | None]) -> None:
        try:
            found = await self._find(epochs, missing)
        except TimeoutError:
            await self._note_failure(epochs, f"no answer within {self._timeout:g} s")
            return
        except KafkaError as error:
            await self._note_failure(epochs, repr(error))
            return
        for partition, epoch in epochs.items():
            self._failures.pop((partition, epoch), None)
            member, lost = self._member(), missing[partition]
            is_ours = self._is_in(partition, epoch) and member.is_assigned(partition)
            # The application may have sought meanwhile; until the brokers answer, that leaves no
            # position either.
            is_moved = member.is_sought(partition) or member.position(partition) != lost
            if is_ours and partition in found and not is_moved:
                self._move(partition, lost, found[partition])

    async def _note_failure(self, epochs: Epochs, why: str) -> None:
        """Log a failure once, and let its partitions wait a little before the next attempt."""
        self._failures = {
            place: text for place, text in self._failures.items() if self._is_in(*place)
        }
        for partition, epoch in epochs.items():
            name = f"{partition.topic}[{partition.partition}]"
            text = f"cannot find the offset to start {name} from: {why}"
            if self._is_in(partition, epoch) and self._failures.get((partition, epoch)) != text:
                self._failures[partition, epoch] = text
                logger.warning("group %s: %s; trying again", self._group, text)
        await asyncio.sleep(min(LOOKUP_PAUSE, self._timeout))

    async def _find(
        self, epochs: Epochs, missing: Mapping[TopicPartition, int | None]
    ) -> dict[TopicPartition, int]:
        """Return the offsets to continue from; new partitions are read from the beginning."""
        by_end: dict[bool, list[TopicPartition]] = {}
        for partition in epochs:
            is_new = missing[partition] is None and self._new_partitions.is_new(partition)
            at_end = self._policy == "latest" and not is_new
            by_end.setdefault(at_end, []).append(partition)
        found: dict[TopicPartition, int] = {}
        for at_end, several in by_end.items():
            found |= await self._member().offsets(several, at_end=at_end, timeout=self._timeout)
        return found

    def _move(self, partition: TopicPartition, lost: int | None, offset: int) -> None:
        if lost is None:
            self.counts["started"] += 1
            self._started.setdefault(offset, []).append(partition)
        else:
            self.counts["out_of_range"] += 1
            logger.warning(
                "%s[%d] (group %s): offset %d is no longer in the log (retention, deleted records "
                "or a truncated log); continues at %s %d, %d records away",
                *(partition.topic, partition.partition, self._group),
                *(lost, self._policy, offset, offset - lost),
            )
        if lost is None or self._goes_back(partition, offset):
            offset = self._with_open_ones(partition, offset)
            self._start_anew(partition, offset, is_first=lost is None)
        # else: records below the new offset were fetched before and are still handled
        self._member().seek(partition, offset)

    def _with_open_ones(self, partition: TopicPartition, offset: int) -> int:
        """Lower the offset so that no record that was read and is unfinished is skipped.

        The end of a truncated log may be above the first such record. If that record is gone too,
        the next poll reports it, and the position moves on from there.
        """
        low = self._offsets.watermark(partition)
        return offset if low is None else min(offset, low)

    def follow(self) -> None:
        """Apply the seeks that the application has made."""
        for partition, (before, offset) in self._member().take_sought().items():
            if partition not in self._offsets:
                continue
            # Records that the client has read up to the offset may be unfinished.
            if offset != before or self._offsets.open_below(partition, offset):
                self.sought(partition, offset, before)

    def sought(self, partition: TopicPartition, offset: int, before: int | None = None) -> None:
        """Apply the application's seeks on the client, each in a new epoch.

        The new offset is committed at once, so a crash cannot undo the seek. Unfinished records
        below it are dropped, however far the client has read ahead.
        """
        if before is None:
            before = self._offsets.position(partition)
        given_up = self._offsets.open_below(partition, offset)
        self.counts["sought"] += 1
        self.counts["given_up"] += len(given_up)
        logger.warning(
            REWOUND if before is not None and offset < before else MOVED_ON,
            *(partition.topic, partition.partition, self._group, offset),
            _passed_over(given_up, before, offset),
        )
        self._forget(partition)
        self._offsets.start_at(partition, offset, commit=True)
        self._owes()

    def _goes_back(self, partition: TopicPartition, offset: int) -> bool:
        position = self._offsets.state(partition).position
        return position is None or offset < position

    def _start_anew(self, partition: TopicPartition, offset: int, *, is_first: bool) -> None:
        self._forget(partition)
        # A group that starts at the end commits that position at once: a restart before its first
        # commit would skip the records published in between (rule 9). The same holds for a group
        # whose committed offset is no longer in the log.
        is_owed = self._policy == "latest" or not is_first
        self._offsets.start_at(partition, offset, commit=is_owed)
        if is_owed:
            self._owes()

    def _refusal(self, missing: Mapping[TopicPartition, int | None]) -> str:
        missed = ", ".join(
            f"{tp.topic}[{tp.partition}]" + ("" if lost is None else f"@{lost}")
            for tp, lost in missing.items()
        )
        return (
            f"group {self._group} has no valid committed offset for {missed} and "
            "auto_offset_reset is 'none'; set it to 'earliest' or 'latest', or commit an offset"
        )


def _passed_over(given_up: Sequence[int], before: int | None, offset: int) -> str:
    """Describe the records that are not handled because the position is now `offset`."""
    text = ""
    if given_up:
        text += f"; {len(given_up)} records from {given_up[0]} on were read and are dropped"
    if before is not None and before < offset:
        text += f"; offsets {before} to {offset - 1} are not read"
    return text
