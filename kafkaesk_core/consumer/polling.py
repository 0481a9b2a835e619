"""The poll loop; it neither runs handlers nor waits for them (rule 24, D21)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import KafkaeskError, SubscriptionError
from kafkaesk_core.kafka.consumer import GroupMember, MemberBroken, MemberRefused, PositionsMissing
from kafkaesk_core.kafka.new_partitions import NewPartitions
from kafkaesk_core.message import ParsedRecord
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.tasks import finish

from .dispatch import Dispatcher
from .health import GroupHealth
from .membership import Membership, Positions
from .notes import CommitNotes
from .rebalance import Rebalance

__all__ = ["Polling"]

MAX_RECORDS = 500
"""Records taken from the client's buffers at once, whatever the concurrency."""

POLL_MS = 500
"""Without a record. One that arrives ends the poll."""
UNASSIGNED_POLL_MS = 50
HELD_BACK_POLL_MS = 20
"""While some partitions have no room: they are polled again soon."""
FULL_PAUSE, LONGEST_FULL_PAUSE = 0.005, 0.2
ERROR_PAUSE = 0.5


class Polling:
    """Takes records while there is room for them, and keeps the membership alive."""

    def __init__(
        self,
        membership: Membership,
        offsets: OffsetTracker[TopicPartition],
        dispatcher: Dispatcher,
        rebalance: Rebalance,
        positions: Positions,
        new_partitions: NewPartitions,
        health: GroupHealth,
    ) -> None:
        self._membership = membership
        self._offsets = offsets
        self._dispatcher = dispatcher
        self._rebalance = rebalance
        self._positions = positions
        self._new_partitions = new_partitions
        self._health = health
        self.is_ended = False
        """Set it before the task is cancelled: the client, or asyncio before 3.12, may swallow the
        cancellation."""

    async def run(self) -> None:
        """Poll until ended or cancelled, whatever is assigned or running.

        Raises:
            KafkaeskError: an error that another poll would not fix.
        """
        try:
            await self._run()
        finally:
            await self._positions.stop()

    async def _run(self) -> None:
        pause = FULL_PAUSE
        while not self.is_ended:
            try:
                is_full = await self._poll()
            except PositionsMissing as missing:
                self._reset(missing)
                await asyncio.sleep(0)
            except MemberBroken as broken:
                self._health.report_trouble(str(self._membership.reason(broken)))
                is_lost = not self._membership.member.is_stable
                # A stop that cancels this task waits for the handover, which commits.
                await finish(self._rebalance.revoked(frozenset(self._offsets), is_lost=is_lost))
                await self._membership.replace(broken)
            except MemberRefused as refused:
                raise self._membership.reason(refused) from refused.__cause__
            except SubscriptionError:
                raise
            except KafkaeskError as error:
                self._health.report_trouble(str(error))
                await asyncio.sleep(ERROR_PAUSE)
            else:
                # A poll of buffered records does not suspend: let other tasks run.
                await asyncio.sleep(pause if is_full else 0)
                pause = min(pause * 2, LONGEST_FULL_PAUSE) if is_full else FULL_PAUSE

    def _reset(self, missing: PositionsMissing) -> None:
        """Look up other positions; the notes of the lost positions describe other records."""
        notes = self._read_notes(self._membership.member)
        if notes is not None:
            notes.drop(missing.partitions)
        self._positions.reset(missing.partitions)

    async def _poll(self) -> bool:
        """Poll once; return whether partitions are assigned and none had room for records."""
        member = self._membership.member
        room = self._dispatcher.wanted()
        is_full = not room and self._dispatcher.is_open and len(self._offsets) > 0
        wanted = self._positions.leave_out_unknown(room)
        timeout_ms = POLL_MS if wanted else UNASSIGNED_POLL_MS
        if wanted and len(wanted) < len(self._offsets):
            timeout_ms = HELD_BACK_POLL_MS
        if is_full:
            timeout_ms = 0
        batch = await member.poll(wanted, max_records=MAX_RECORDS, timeout_ms=timeout_ms)
        self._health.polled()
        if member.is_joined:
            self._membership.joined()
            self._new_partitions.begin()
            self._health.report_trouble(None)
        self._take(member, batch)
        return is_full

    def _take(
        self, member: GroupMember, batch: Mapping[TopicPartition, Sequence[ParsedRecord]]
    ) -> None:
        notes = self._read_notes(member)
        if self._dispatcher.is_open:  # else the handover follows
            self._positions.follow()
        for partition, records in batch.items():
            first = records[0].offset
            if partition in self._offsets and self._dispatcher.is_open:
                if self._offsets.is_behind(partition, first):
                    self._positions.sought(partition, first)
                if notes is not None and notes.has_unchecked:
                    notes.check(partition, first, member.high_watermark(partition))
                self._dispatcher.take(partition, records)
            elif member.is_assigned(partition):
                # The client has its new assignment, but the callback has not run yet. Read these
                # records again later.
                member.reread(partition, first)

    def _read_notes(self, member: GroupMember) -> CommitNotes | None:
        """Take the notes that the group stored with the offsets of this assignment."""
        notes = self._dispatcher.notes
        if notes is not None and member.has_notes:
            taken = member.take_notes()
            notes.read({p: n for p, n in taken.items() if p in self._offsets})
        return notes
