"""The results of records, and the offsets that may be committed. Pure: no Kafka, no asyncio.

Terms. An *epoch* is one uninterrupted period of following one partition: assign, revoke, seek and
reset start a new one. An offset is *open* from `register` until `finish`. The *watermark* is the
lowest open offset, or the position if nothing is open. Only delivered offsets count: gaps
(compaction, aborted transactions, transaction markers) block nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Literal, TypeVar

from .errors import Defer, Disposition, Retry, Skip, Stop
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
    """A snapshot of one partition; times are those given to `register`, in seconds."""

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
        self.position: int | None = None  # all offsets below it were registered, or are gaps
        self.open: deque[int] = deque()  # ascending; those in `done` are finished
        self.done: set[int] = set()  # finished above the watermark
        self.marks: deque[tuple[int, float]] = deque()  # (last offset of a registration, when)
        self.committed: int | None = None  # acknowledged, or the first position
        self.taken = 0  # offsets registered; those that left `open` are finished
        self.covered = 0  # how many of them an acknowledged commit covers
        self.proposed = 0  # how many the last proposal covers, of `proposed_at`
        self.proposed_at = -1
        self.is_uncertain = False  # the broker may have stored another offset

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
        """Mark one offset as done; return False if it was not open."""
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

    def finish_lowest(self, offsets: Sequence[int]) -> bool:
        """Mark the lowest open offsets as done; return False, without effect, if they are not."""
        waiting, count = self.open, len(offsets)
        if self.done or len(waiting) < count:
            return False
        if waiting[0] != offsets[0] or waiting[count - 1] != offsets[-1]:
            return False
        for _ in offsets:
            waiting.popleft()
        return True

    @property
    def closed(self) -> int:
        """The number of finished offsets below the watermark."""
        return self.taken - len(self.open)

    @property
    def has_only_gaps(self) -> bool:
        """Whether every record below the watermark is already committed.

        While records are open, this matters only for a first position that must be committed.
        """
        return self.closed == self.covered and (not self.open or self.committed is None)

    def _prune(self) -> None:
        """Forget the times of registrations without an open offset."""
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
    """The offsets of all partitions that one consumer owns (rules 1 to 4).

    Handlings may close the offsets of done records late, many at once: `settlers` are the functions
    that close them, which are called before anything is read here that depends on it.
    """

    def __init__(self) -> None:
        self._trackers: dict[P, _PartitionTracker] = {}
        self._last_epoch = 0
        self.stale_completions = 0
        self.settlers: list[Callable[[], None]] = []

    def __contains__(self, partition: P) -> bool:
        return partition in self._trackers

    def __len__(self) -> int:
        return len(self._trackers)

    def __iter__(self) -> Iterator[P]:
        return iter(self._trackers)

    def settle(self) -> None:
        """Close the offsets of all done records."""
        for close in self.settlers:
            close()

    def _settled(self) -> dict[P, _PartitionTracker]:
        self.settle()
        return self._trackers

    def assign(self, partitions: Iterable[P]) -> None:
        """Start following partitions, each in a new epoch with nothing to commit."""
        for partition in partitions:
            self._end(partition)
            self._last_epoch += 1
            self._trackers[partition] = _PartitionTracker(self._last_epoch)

    def revoke(self, partitions: Iterable[P]) -> None:
        """Stop following partitions; later completions do not count."""
        for partition in partitions:
            self._end(partition)

    def _end(self, partition: P) -> None:
        tracker = self._settled().pop(partition, None)
        if tracker is not None:
            tracker.open.clear()  # so that its finisher closes nothing any more

    def start_at(self, partition: P, position: int, *, commit: bool = False) -> None:
        """Follow a partition from another position, in a new epoch (seek, reset, truncation).

        With `commit`, the position itself is committed. A group that starts at the end of a topic
        needs this: otherwise a restart before its first commit would skip records (rule 9).
        """
        self.assign([partition])
        tracker = self._trackers[partition]
        tracker.position = position
        tracker.committed = None if commit else position

    def epoch(self, partition: P) -> int | None:
        """Return the current epoch of a partition; None if it is not followed."""
        tracker = self._trackers.get(partition)
        return tracker.epoch if tracker else None

    def is_behind(self, partition: P, offset: int) -> bool:
        """Whether this offset is below the position of the current epoch."""
        position = self._trackers[partition].position
        return position is not None and offset < position

    def register(self, partition: P, offsets: Sequence[int], now: float) -> int:
        """Open delivered offsets, in ascending order; return the epoch for their completions.

        Raises:
            KeyError: the partition is not followed.
            ValueError: an offset was registered before.
        """
        tracker = self._trackers[partition]
        tracker.register(offsets, now)
        return tracker.epoch

    def advance(self, partition: P, start: int, position: int) -> None:
        """Note that everything from `start` up to `position` was delivered.

        Offsets after the last delivered one are gaps: the watermark passes them once no offset is
        open.
        """
        self._trackers[partition].advance(start, position)

    def finish(self, partition: P, epoch: int, offset: int) -> bool:
        """Close one offset; return False, and only count it, if its epoch is over (rule 3)."""
        tracker = self._settled().get(partition)
        if tracker is not None and tracker.epoch == epoch and tracker.finish(offset):
            return True
        self.stale_completions += 1
        return False

    def finish_lowest(self, partition: P, epoch: int, offsets: Sequence[int]) -> bool:
        """Close ascending offsets that were registered in this epoch, in one step.

        Returns False, without effect, if each needs its own `finish`: they are not the lowest open
        offsets, offsets above them are done, or their epoch is over.
        """
        tracker = self._trackers.get(partition)
        return tracker is not None and tracker.epoch == epoch and tracker.finish_lowest(offsets)

    def finisher(self, partition: P) -> Callable[[int], bool]:
        """Return a faster `finish` for one partition and its current epoch.

        It returns False, without effect, once the epoch is over. Call `finish` with such an offset,
        so that it is counted.
        """
        return self._trackers[partition].finish

    def watermark(self, partition: P) -> int | None:
        """Return the lowest open offset, or the position; None if nothing was delivered yet."""
        return self._settled()[partition].watermark

    def position(self, partition: P) -> int | None:
        """Return the offset after the last delivered one; None if nothing was delivered yet."""
        return self._trackers[partition].position

    def done_above(self, partition: P) -> set[int]:
        """Return the finished offsets above the watermark."""
        return self._settled()[partition].done

    def done_ranges(self, partition: P, most: int) -> list[range]:
        """Return the finished offsets among the `most` lowest offsets above the watermark."""
        tracker = self._settled()[partition]
        done, found = tracker.done, list[range]()
        start = stop = -1
        for offset in islice(tracker.open, most) if done else ():
            if offset not in done:
                continue
            if offset != stop:
                if stop >= 0:
                    found.append(range(start, stop))
                start = offset
            stop = offset + 1
        if stop >= 0:
            found.append(range(start, stop))
        return found

    def open_below(self, partition: P, offset: int) -> list[int]:
        """Return the delivered, unfinished offsets below this one, in ascending order."""
        tracker = self._settled()[partition]
        return [one for one in tracker.open if one < offset and one not in tracker.done]

    def open_count(self, partition: P) -> int:
        """Return the number of records from the watermark to the position, finished or not.

        It is asked for each partition before each poll: call `settle` once before.
        """
        return len(self._trackers[partition].open)

    def propose(
        self, partitions: Iterable[P] | None = None, *, only_gaps: bool = False
    ) -> dict[P, int]:
        """Return the watermarks that differ from the acknowledged commit or are uncertain.

        None stands for all partitions. With `only_gaps`, only watermarks that commit no further
        record are returned: gaps and first positions.
        """
        proposal: dict[P, int] = {}
        trackers = self._settled()
        for partition in trackers if partitions is None else partitions:
            tracker = trackers[partition]
            if only_gaps and not tracker.has_only_gaps:
                continue
            low = tracker.watermark
            if low is not None and (low != tracker.committed or tracker.is_uncertain):
                tracker.proposed, tracker.proposed_at = tracker.closed, low
                proposal[partition] = low
        return proposal

    def clamp(self, offsets: Mapping[P, int]) -> dict[P, int]:
        """Lower offsets to the watermark, so that no unfinished record is committed (rule 1).

        Partitions that are not followed are left out, because they may belong to another member
        (rule 4). So are offsets below the acknowledged commit, because a group never moves back
        (rule 2).
        """
        clamped = {}
        trackers = self._settled()
        for partition, offset in offsets.items():
            tracker = trackers.get(partition)
            if tracker is None or tracker.watermark is None:
                continue
            offset = min(offset, tracker.watermark)
            if tracker.committed is None or offset >= tracker.committed:
                clamped[partition] = offset
        return clamped

    def acknowledge(self, partition: P, epoch: int | None, offset: int) -> None:
        """Note that the broker stored this offset.

        If its epoch is over, the offset of the current epoch is committed again.
        """
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
        """Note that a commit got no answer: it may be stored, so it is sent again (rule 6)."""
        for partition in partitions:
            tracker = self._trackers.get(partition)
            if tracker is not None:
                tracker.is_uncertain = True

    def state(self, partition: P) -> PartitionOffsets:
        """Return a snapshot of one partition."""
        return self._settled()[partition].state()


# --- the result of a record


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """Done, skipped, to be handled again after `delay` seconds, or the reason to stop.

    "retry" leads to the next attempt; "defer" does not count as an attempt, because the message
    came too early. "released" means that the partition is being handed over and its next owner
    handles the record. `kept` lists the unfinished items of a batch, by index.
    """

    kind: Literal["done", "skip", "retry", "defer", "stop", "released"]
    error: BaseException | None = None
    delay: float = 0.0
    kept: Sequence[int] = ()

    @property
    def is_terminal(self) -> bool:
        """Whether the message is finished, so that its offset may be committed."""
        return self.kind in ("done", "skip")

    @property
    def is_parked(self) -> bool:
        """Whether the message waits in its lane until it is handled again."""
        return self.kind in ("retry", "defer")


DONE = HandlerResult("done")
RELEASED = HandlerResult("released")


def decide_result(
    error: BaseException, on_error: OnError, message: IncomingMessage
) -> HandlerResult:
    """Convert the exception of a handler, or of a layer around it, to a result.

    A disposition decides by itself. `on_error` decides on all other exceptions. If an `on_error`
    function raises, or does not return a disposition, the application stops.
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
    if not isinstance(decision, (Retry, Defer, Skip, Stop)):
        return HandlerResult("stop", _no_decision(decision, error))
    return _decided_by(decision, error)


def flatten_group(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors of a group and its inner groups, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from flatten_group(inner)
    else:
        yield error


def unwrap_group(error: BaseException) -> BaseException:
    """Return the disposition that a group of errors, as from a TaskGroup, stands for.

    One Stop decides. If all errors are Skip, all Retry, or all Defer, they agree, and the longest
    delay counts. Any other group is ambiguous: the group itself is returned.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = list(flatten_group(error))
    for one in found:
        if isinstance(one, Stop):
            return one
    if all(isinstance(one, Skip) for one in found):
        return found[0]
    for kind in (Retry, Defer):
        alike = [one for one in found if isinstance(one, kind)]
        if len(alike) == len(found):
            return max(alike, key=lambda disposition: disposition.delay)
    return error


def _decided_by(disposition: Disposition, error: BaseException) -> HandlerResult:
    if isinstance(disposition, Retry):
        return HandlerResult("retry", error, disposition.delay)
    if isinstance(disposition, Defer):
        return HandlerResult("defer", error, disposition.delay)
    if isinstance(disposition, Skip):
        return HandlerResult("skip", error)
    return HandlerResult("stop", error)


def _no_decision(decision: object, error: BaseException) -> TypeError:
    problem = TypeError(
        f"on_error returned {decision!r}; return Retry(), Defer(), Skip() or Stop() of "
        "kafkaesk_core"
    )
    problem.__cause__ = error
    return problem
