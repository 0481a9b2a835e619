"""The offset ledger: which offsets may be committed. Pure: no Kafka, no asyncio.

Terms. An *epoch* is one uninterrupted time of following one partition: assign, revoke, seek and
reset start another. An offset is *open* from `register` until `finish`. The *watermark* is the
lowest open offset, or the position up to which everything was delivered. Only delivered offsets
count: gaps (compaction, aborted transactions, transaction markers) are never waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Ledger", "PartitionState"]

P = TypeVar("P", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What the ledger knows of one partition; times as given to `register`, in seconds."""

    epoch: int
    position: int | None
    watermark: int | None
    committed: int | None
    open: int
    uncommitted: int
    oldest_since: float | None


class _Tracker:
    """One partition in one epoch."""

    __slots__ = (
        "committed",
        "covered",
        "done",
        "epoch",
        "is_uncertain",
        "marks",
        "open",
        "position",
        "proposed",
        "proposed_at",
        "taken",
    )

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.position: int | None = None  # everything below it was registered, or is a gap
        self.open: deque[int] = deque()  # ascending; finished ones in the middle stay, see done
        self.done: set[int] = set()  # finished above the watermark
        self.marks: deque[tuple[int, float]] = deque()  # (last offset of a registration, when)
        self.committed: int | None = None  # acknowledged, or where we started
        self.taken = 0  # offsets registered; those not in `open` are finished below the watermark
        self.covered = 0  # how many of these an acknowledged commit covers
        self.proposed = 0  # and the last proposal, of the offset `proposed_at`
        self.proposed_at = -1
        self.is_uncertain = False  # something else may be stored than `committed`

    @property
    def watermark(self) -> int | None:
        return self.open[0] if self.open else self.position

    def register(self, offsets: Sequence[int], now: float) -> None:
        first, last = offsets[0], offsets[-1]
        if self.position is None:
            self.committed = first
        elif first < self.position:
            raise ValueError(f"offset {first} is below the position {self.position}")
        self.open.extend(offsets)
        self.taken += len(offsets)
        self._prune()
        self.marks.append((last, now))
        self.position = last + 1

    def advance(self, start: int, position: int) -> None:
        if self.position is None:
            self.position = self.committed = start
        self.position = max(self.position, position)

    def finish(self, offset: int) -> bool:
        """Mark one offset as done; False if it was not open."""
        waiting, done = self.open, self.done
        if not waiting:
            return False
        if offset == waiting[0]:
            waiting.popleft()
            while done and waiting and waiting[0] in done:
                done.remove(waiting.popleft())
            return True
        if offset < waiting[0] or offset in done:
            return False
        done.add(offset)
        return True

    @property
    def closed(self) -> int:
        """How many offsets were finished below the watermark."""
        return self.taken - len(self.open)

    @property
    def has_only_gaps(self) -> bool:
        """Whether a commit of the watermark would be of no record that is not committed yet."""
        return not self.open and self.closed == self.covered

    def _prune(self) -> None:
        """Forget the times of registrations of which nothing is open."""
        low, marks = self.watermark, self.marks
        while marks and low is not None and marks[0][0] < low:
            marks.popleft()

    def state(self) -> PartitionState:
        self._prune()
        return PartitionState(
            epoch=self.epoch,
            position=self.position,
            watermark=self.watermark,
            committed=self.committed,
            open=len(self.open) - len(self.done),
            uncommitted=self.closed - self.covered + len(self.done),
            oldest_since=self.marks[0][1] if self.open else None,
        )


class Ledger(Generic[P]):
    """The trackers of all partitions that one consumer owns (rules 1 to 4)."""

    def __init__(self) -> None:
        self._trackers: dict[P, _Tracker] = {}
        self._last_epoch = 0
        self.stale_completions = 0

    def __contains__(self, partition: P) -> bool:
        return partition in self._trackers

    def __len__(self) -> int:
        return len(self._trackers)

    def __iter__(self) -> Iterator[P]:
        return iter(self._trackers)

    def assign(self, partitions: Iterable[P]) -> None:
        """Start following partitions, each in a new epoch that has nothing to commit."""
        for partition in partitions:
            self._end(partition)
            self._last_epoch += 1
            self._trackers[partition] = _Tracker(self._last_epoch)

    def revoke(self, partitions: Iterable[P]) -> None:
        """Stop following partitions: whatever still runs of them no longer counts."""
        for partition in partitions:
            self._end(partition)

    def _end(self, partition: P) -> None:
        tracker = self._trackers.pop(partition, None)
        if tracker is not None:
            tracker.open.clear()  # a finisher of it closes nothing from now on

    def start_at(self, partition: P, position: int, *, commit: bool = False) -> None:
        """Follow a partition from another position, in a new epoch (seek, reset, truncation).

        With `commit` the position itself is to be committed: what a group that starts at the end
        of a topic owes, or a restart before its first commit would skip records (rule 9).
        """
        self.assign([partition])
        tracker = self._trackers[partition]
        tracker.position = position
        tracker.committed = None if commit else position

    def epoch(self, partition: P) -> int | None:
        """The present epoch of a partition, None if it is not followed."""
        tracker = self._trackers.get(partition)
        return tracker.epoch if tracker else None

    def is_behind(self, partition: P, offset: int) -> bool:
        """Whether this offset was passed already, in the present epoch."""
        position = self._trackers[partition].position
        return position is not None and offset < position

    def register(self, partition: P, offsets: Sequence[int], now: float) -> int:
        """Open delivered offsets, ascending; returns the epoch that their completions carry.

        Raises:
            KeyError: the partition is not followed.
            ValueError: an offset was registered before.
        """
        tracker = self._trackers[partition]
        tracker.register(offsets, now)
        return tracker.epoch

    def advance(self, partition: P, start: int, position: int) -> None:
        """Nothing is left to deliver below `position`, of what was read from `start` on.

        What lies behind the last delivered offset is a gap: once nothing is open it is passed over.
        """
        self._trackers[partition].advance(start, position)

    def finish(self, partition: P, epoch: int, offset: int) -> bool:
        """Close one offset; False, counted and without effect, if its epoch is over (rule 3)."""
        tracker = self._trackers.get(partition)
        if tracker is not None and tracker.epoch == epoch and tracker.finish(offset):
            return True
        self.stale_completions += 1
        return False

    def finisher(self, partition: P) -> Callable[[int], bool]:
        """What closes one offset of the present epoch; False, without effect, once that is over.

        For who closes many; `finish` is to be called with what it refuses, for the count.
        """
        return self._trackers[partition].finish

    def watermark(self, partition: P) -> int | None:
        """The highest offset that may be committed; None while nothing was registered."""
        return self._trackers[partition].watermark

    def open_count(self, partition: P) -> int:
        """How far the position is ahead of the watermark, in records (finished ones included)."""
        return len(self._trackers[partition].open)

    def propose(self, *, only_gaps: bool = False) -> dict[P, int]:
        """Watermarks that are worth a commit: above what was acknowledged, or uncertain.

        With `only_gaps` those alone that commit no record: gaps, and first positions.
        """
        proposal: dict[P, int] = {}
        for partition, tracker in self._trackers.items():
            if only_gaps and not tracker.has_only_gaps:
                continue
            low = tracker.watermark
            if low is not None and (low != tracker.committed or tracker.is_uncertain):
                tracker.proposed, tracker.proposed_at = tracker.closed, low
                proposal[partition] = low
        return proposal

    def clamp(self, offsets: Mapping[P, int]) -> dict[P, int]:
        """Cut offsets down to the watermark (rule 1).

        Left out: what is not followed (rule 4), and what would move a commit back (rule 2).
        """
        clamped = {}
        for partition, offset in offsets.items():
            tracker = self._trackers.get(partition)
            if tracker is None or tracker.watermark is None:
                continue
            offset = min(offset, tracker.watermark)
            if tracker.committed is None or offset >= tracker.committed:
                clamped[partition] = offset
        return clamped

    def acknowledge(self, partition: P, epoch: int | None, offset: int) -> None:
        """The broker stored this offset; if its epoch is over, that of the present one is due."""
        tracker = self._trackers.get(partition)
        if tracker is None:
            return
        if tracker.epoch != epoch:
            tracker.is_uncertain = True
            return
        tracker.committed = offset
        tracker.is_uncertain = False
        if offset == tracker.proposed_at:
            tracker.covered = tracker.proposed

    def mark_uncertain(self, partitions: Iterable[P]) -> None:
        """A commit of these was not answered: it may have been stored, commit again (rule 6)."""
        for partition in partitions:
            tracker = self._trackers.get(partition)
            if tracker is not None:
                tracker.is_uncertain = True

    def state(self, partition: P) -> PartitionState:
        """A snapshot of one partition."""
        return self._trackers[partition].state()
