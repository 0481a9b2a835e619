"""What became of each record, and which offsets may be committed. Pure: no Kafka, no asyncio.

Terms. An *epoch* is one uninterrupted time of following one partition: assign, revoke, seek and
reset start another. An offset is *open* from `register` until `finish`. The *watermark* is the
lowest open offset, or the position up to which everything was delivered. Only delivered offsets
count: gaps (compaction, aborted transactions, transaction markers) are never waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from .errors import Disposition, Retry, Skip, Stop
from .message import IncomingMessage
from .router import OnError

__all__ = [
    "DONE",
    "RELEASED",
    "HandlerResult",
    "OffsetTracker",
    "PartitionOffsets",
    "decide_result",
    "flatten_group",
    "unwrap_group",
]

P = TypeVar("P", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """A snapshot of one partition; times as given to `register`, in seconds."""

    epoch: int
    position: int | None
    watermark: int | None
    committed: int | None
    open: int
    uncommitted: int
    oldest_since: float | None


class _PartitionTracker:
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

    def state(self) -> PartitionOffsets:
        self._prune()
        return PartitionOffsets(
            epoch=self.epoch,
            position=self.position,
            watermark=self.watermark,
            committed=self.committed,
            open=len(self.open) - len(self.done),
            uncommitted=self.closed - self.covered + len(self.done),
            oldest_since=self.marks[0][1] if self.open else None,
        )


class OffsetTracker(Generic[P]):
    """The offsets of all partitions that one consumer owns (rules 1 to 4)."""

    def __init__(self) -> None:
        self._trackers: dict[P, _PartitionTracker] = {}
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
            self._trackers[partition] = _PartitionTracker(self._last_epoch)

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

    def state(self, partition: P) -> PartitionOffsets:
        """A snapshot of one partition."""
        return self._trackers[partition].state()


# --- what became of a record


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """Done, skipped, to be retried after `delay` seconds, or the reason to stop.

    "released" means that the partition is being handed over, and its next owner handles the
    record. `kept` lists the items of a batch, by index, that are not finished.
    """

    kind: Literal["done", "skip", "retry", "stop", "released"]
    error: BaseException | None = None
    delay: float = 0.0
    kept: Sequence[int] = ()

    @property
    def is_terminal(self) -> bool:
        """Whether the message is finished, so that its offset may be committed."""
        return self.kind in ("done", "skip")


DONE = HandlerResult("done")
RELEASED = HandlerResult("released")


def decide_result(
    error: BaseException, on_error: OnError, message: IncomingMessage
) -> HandlerResult:
    """Turn what a handler, or a layer around it, raised into a result.

    A disposition is its own decision. `on_error` decides on everything else; an `on_error`
    callable that raises, or returns no disposition, stops the application.
    """
    error = unwrap_group(error)
    if isinstance(error, Disposition):
        return _decided_by(error, error)
    if on_error == "skip":
        return HandlerResult("skip", error)
    if on_error == "stop":
        return HandlerResult("stop", error)
    try:
        decision = on_error(error, message)
    except Disposition as raised:
        decision = raised
    except Exception as broken:
        broken.__context__ = error
        return HandlerResult("stop", broken)
    if not isinstance(decision, (Retry, Skip, Stop)):
        return HandlerResult("stop", _no_decision(decision, error))
    return _decided_by(decision, error)


def flatten_group(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it; an error that is no group is its own."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from flatten_group(inner)
    else:
        yield error


def unwrap_group(error: BaseException) -> BaseException:
    """The disposition that a group stands for, as a TaskGroup raises it; else the error itself.

    One Stop stops. Several Skip, or several Retry (the longest delay), agree; anything else is
    ambiguous.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = list(flatten_group(error))
    for one in found:
        if isinstance(one, Stop):
            return one
    if all(isinstance(one, Skip) for one in found):
        return found[0]
    retries = [one for one in found if isinstance(one, Retry)]
    if len(retries) == len(found):
        return max(retries, key=lambda retry: retry.delay)
    return error


def _decided_by(disposition: Disposition, error: BaseException) -> HandlerResult:
    if isinstance(disposition, Retry):
        return HandlerResult("retry", error, disposition.delay)
    if isinstance(disposition, Skip):
        return HandlerResult("skip", error)
    return HandlerResult("stop", error)


def _no_decision(decision: object, error: BaseException) -> TypeError:
    problem = TypeError(
        f"on_error returned {decision!r}; return Retry(), Skip() or Stop() of kafkaesk_core"
    )
    problem.__cause__ = error
    return problem
