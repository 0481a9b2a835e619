"""The commits of one group member: when they may be sent, and what their answers mean."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from aiokafka.structs import TopicPartition

from kafkaesk_core.errors import CommitError
from kafkaesk_core.kafka.commits import CommitResult
from kafkaesk_core.offsets import OffsetTracker

__all__ = ["Commits", "Reason"]

logger = logging.getLogger("kafkaesk.commits")

Reason = Literal["interval", "manual", "revoke", "stop"]
Offsets = Mapping[TopicPartition, int]
Layers = Callable[[Offsets, Reason], Awaitable[None]]
Send = Callable[[Offsets, float], Awaitable[CommitResult]]


class Commits:
    """Commits watermarks, one commit at a time, only between an assignment and its revocation.

    `layers` is the chain around a commit; it ends in `innermost`. `send` asks the broker. `lost`
    is called when the answer is that the group has given our partitions to others; `catch_up`,
    before offsets are chosen, lets the tracker know what the client has passed over.
    """

    def __init__(
        self, offsets: OffsetTracker[TopicPartition], send: Send, *, group: str, timeout: float
    ) -> None:
        self._offsets = offsets
        self._send = send
        self._group = group
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._is_open = False
        self._in_flight: asyncio.Task[CommitResult] | None = None
        self._unknown: set[TopicPartition] = set()  # to the coordinator
        self.lost: Callable[[], None] = lambda: None
        self.catch_up: Callable[[], None] = lambda: None
        self.layers: Layers = lambda offsets, _: self.innermost(offsets)
        self.counts: Counter[str] = Counter()
        self.last_success: float | None = None
        self.last_error: str | None = None

    def open(self) -> None:
        """Partitions were assigned: commits may be sent."""
        self._is_open = True
        self._unknown.clear()

    async def close(self) -> None:
        """Partitions are going: let no commit start, and none be running when this returns.

        A commit still in flight then could be applied after the next owner's, and move the
        group back.
        """
        self._is_open = False
        running = self._in_flight
        if running is not None and not running.done():
            running.cancel()
            await asyncio.wait([running])

    async def commit(self, reason: Reason, *, only_gaps: bool = False) -> None:
        """Commit what is done and not yet acknowledged, in `commit_timeout` seconds at most.

        With `only_gaps` no record is committed that was not before: positions alone move on.

        Raises:
            CommitError: something that should have been committed was not acknowledged.
            Exception: what a layer around the commit raised.
        """
        try:
            async with asyncio.timeout(self._timeout), self._lock:
                self.catch_up()
                offsets = self._offsets.propose(only_gaps=only_gaps)
                if not offsets:
                    return
                await self.layers(offsets, reason)
                self.last_error = None
        except TimeoutError as error:
            raise self._failed(f"not finished within {self._timeout:g}s") from error
        self._report_postponed(reason, only_gaps)

    def _report_postponed(self, reason: Reason, only_gaps: bool) -> None:
        left = self._offsets.propose(only_gaps=only_gaps).keys() - self._unknown
        if reason in ("revoke", "stop") and left:
            self.counts["postponed"] += len(left)
            logger.warning(
                "group %s: %d partitions stay uncommitted on %s; "
                "their last records will be redelivered",
                self._group,
                len(left),
                reason,
            )

    async def innermost(self, offsets: Offsets) -> None:
        """Send what is done and owned of these offsets, and note what was acknowledged.

        Raises:
            CommitError: the partitions are no longer ours, or the broker refused or kept silent.
        """
        clamped = self._offsets.clamp(offsets)
        if not clamped:
            return
        if not self._is_open:
            raise self._failed("the partitions are being handed over")
        epochs = {partition: self._offsets.epoch(partition) for partition in clamped}
        sending = asyncio.ensure_future(self._send(clamped, self._timeout))
        self._in_flight = sending
        try:
            await asyncio.wait([sending])
        finally:
            # Cancelled from outside, in the middle: it may have been stored.
            if not sending.done():
                sending.cancel()
                self._offsets.mark_uncertain(clamped)
        self._note(clamped, epochs, sending)

    def _note(
        self,
        offsets: Offsets,
        epochs: Mapping[TopicPartition, int | None],
        sent: asyncio.Future[CommitResult],
    ) -> None:
        error = None if sent.cancelled() else sent.exception()
        if sent.cancelled() or error is not None:
            self._offsets.mark_uncertain(offsets)
            raise self._failed(str(error) if error else "interrupted by a handover") from error
        result = sent.result()
        for partition in result.stored:
            self._offsets.acknowledge(partition, epochs[partition], offsets[partition])
        self._note_unknown(result)
        if result.is_lost:
            self.lost()
            raise self._failed("the group has given our partitions to others")
        if result.refused:
            told = ", ".join(f"{p.topic}[{p.partition}] {why}" for p, why in result.refused.items())
            raise self._failed(f"refused: {told}")
        self.counts["commits"] += 1
        self.last_success = asyncio.get_running_loop().time()

    def _note_unknown(self, result: CommitResult) -> None:
        """Keep following what this broker does not know, and tell of it once.

        If it was deleted, it is revoked soon. It may also be so new that the coordinator has not
        heard of it, or be there again: dropped here, nobody would read it before a rebalance.
        """
        names = {partition.topic for partition in result.gone - self._unknown}
        self._unknown = (self._unknown - result.stored) | result.gone
        if names:
            logger.warning(
                "group %s: the coordinator does not know topic %s; was it deleted?",
                *(self._group, ", ".join(sorted(names))),
            )

    def _failed(self, why: str) -> CommitError:
        self.counts["failures"] += 1
        self.last_error = why
        return CommitError(f"group {self._group}: commit failed: {why}")
