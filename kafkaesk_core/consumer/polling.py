"""The poll loop: it never waits for a handler, and never runs one (rule 24, D21)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import KafkaeskError, SubscriptionError
from kafkaesk_core.kafka.consumer import MemberBroken, MemberRefused, PositionsMissing
from kafkaesk_core.kafka.new_partitions import NewPartitions
from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.tasks import finish

from .intake import Intake
from .positions import Positions
from .rebalance import Rebalance
from .seat import Seat
from .vitals import Vitals

__all__ = ["Polling"]

MAX_RECORDS = 500
"""Records taken from the client's buffers at once; independent of concurrency."""

POLL_MS = 200
UNASSIGNED_POLL_MS = 50
HELD_BACK_POLL_MS = 20
"""Where of some partitions no more is wanted just now: they are soon to be asked for again."""
FULL_PAUSE = 0.005
ERROR_PAUSE = 0.5


class Polling:
    """Takes records as there is room for them, and keeps the membership alive."""

    def __init__(
        self,
        seat: Seat,
        offsets: OffsetTracker[TopicPartition],
        intake: Intake,
        rebalance: Rebalance,
        positions: Positions,
        new_partitions: NewPartitions,
        vitals: Vitals,
        *,
        request_timeout: float,
    ) -> None:
        self._seat = seat
        self._offsets = offsets
        self._intake = intake
        self._rebalance = rebalance
        self._positions = positions
        self._new_partitions = new_partitions
        self._vitals = vitals
        self._request_timeout = request_timeout
        self.is_ended = False
        """To be set before it is cancelled: the client, or asyncio below 3.12, may swallow that."""

    async def run(self) -> None:
        """Poll until it is ended or cancelled, whatever is assigned or running.

        Raises:
            KafkaeskError: what no further poll would mend.
        """
        pause = FULL_PAUSE
        while not self.is_ended:
            try:
                took = await self._poll()
            except PositionsMissing as missing:
                await self._reset(missing.partitions)
            except MemberBroken as broken:
                self._vitals.troubled(str(self._seat.reason(broken)))
                is_lost = not self._seat.member.is_stable
                # A stop that cancels us waits for the handover: it commits what is finished.
                await finish(self._rebalance.revoked(frozenset(self._offsets), is_lost=is_lost))
                await self._seat.replace(broken)
            except MemberRefused as refused:
                raise self._seat.reason(refused) from refused.__cause__
            except SubscriptionError:
                raise
            except KafkaeskError as error:
                self._vitals.troubled(str(error))
                await asyncio.sleep(ERROR_PAUSE)
            else:
                pause = FULL_PAUSE if took else min(pause * 2, POLL_MS / 1000)
                # Buffered records are returned without a suspension: let others run.
                await asyncio.sleep(pause if self._intake.is_full else 0)

    async def _poll(self) -> bool:
        member = self._seat.member
        wanted = self._intake.wanted()
        timeout_ms = POLL_MS if wanted else UNASSIGNED_POLL_MS
        if wanted and len(wanted) < len(self._offsets):
            timeout_ms = HELD_BACK_POLL_MS
        if self._intake.is_full:
            timeout_ms = 0
        batch = await member.poll(wanted, max_records=MAX_RECORDS, timeout_ms=timeout_ms)
        self._vitals.polled()
        if member.is_joined:
            self._seat.joined()
            self._new_partitions.begin()
            self._vitals.troubled(None)
        for partition, records in batch.items():
            if partition in self._offsets and self._intake.is_open:
                if self._offsets.is_behind(partition, records[0].offset):
                    self._positions.rewound(partition, records[0].offset)
                self._intake.take(partition, records)
            elif member.is_assigned(partition):
                # The client has the new assignment, we are not told yet: read them again.
                member.seek(partition, records[0].offset)
        return bool(batch)

    async def _reset(self, missing: Mapping[TopicPartition, int | None]) -> None:
        try:
            await self._positions.reset(missing, timeout=self._request_timeout)
        except (TimeoutError, KafkaError) as error:
            self._vitals.troubled(f"cannot find offsets to start from: {error!r}")
            await asyncio.sleep(ERROR_PAUSE)
