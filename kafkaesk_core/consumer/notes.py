"""What a commit remembers beside its offset: attempts, due times, and records done above it.

Kafka stores a text with each committed offset. What stands there survives a crash, and goes to the
member that gets the partition next. A note is "kafkaesk1 90 a=2:3:1764230400000,5:2 d=1,3-4": of
the records from the committed offset 90 on, number 2 is in its attempt 3, due at this time in
milliseconds since 1970; number 5 in its attempt 2; numbers 1, 3 and 4 are done. A note that grows
beyond Kafka's limit leaves out what lies highest. Tools that copy offsets to another cluster change
the offset and keep the text: a note that stands beside another offset than its own is not read.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from kafkaesk_core.offsets import OffsetTracker
from kafkaesk_core.scheduler import Lanes

from .fetched import FetchedMessage

__all__ = ["Attempt", "CommitNotes", "Note", "decode", "encode"]

logger = logging.getLogger("kafkaesk.commits")

VERSION = "kafkaesk1"
LONGEST = 4096
"""Bytes: the default of `offset.metadata.max.bytes`, beyond which brokers refuse the commit."""

HALF = LONGEST // 2
MOST = 1_000_000
"""Records that a note may call done; no member has more of them uncommitted."""

_NUMBER = r"\d{1,15}"
_TRIED, _DONE = rf"{_NUMBER}:{_NUMBER}(?::{_NUMBER})?", rf"{_NUMBER}(?:-{_NUMBER})?"
_NOTE = re.compile(
    rf"{VERSION} ({_NUMBER})(?: a=({_TRIED}(?:,{_TRIED})*))?(?: d=({_DONE}(?:,{_DONE})*))?",
    re.ASCII,
)


class Attempt(NamedTuple):
    """The attempt that a record is in; `due_ms` says when, in milliseconds since 1970, or 0."""

    number: int
    due_ms: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """What one note says, by offset."""

    attempts: Mapping[int, Attempt]
    done: Sequence[range]

    @property
    def last(self) -> int:
        """The highest offset of which it says something."""
        return max((*self.attempts, *(part.stop - 1 for part in self.done)), default=-1)

    def is_done(self, offset: int) -> bool:
        """Whether the record of this offset was done."""
        return any(offset in part for part in self.done)


def encode(base: int, attempts: Mapping[int, Attempt], done: Iterable[int]) -> str:
    """Write a note for a commit of the offset `base`; "" if it would say nothing."""
    tried = (
        f"{offset - base}:{number}:{due}" if due else f"{offset - base}:{number}"
        for offset, (number, due) in sorted(attempts.items())
        if offset >= base
    )
    text = empty = f"{VERSION} {base}"
    if listed := _join(tried, HALF):
        text += f" a={listed}"
    ranges = (
        f"{part.start}" if len(part) == 1 else f"{part.start}-{part.stop - 1}"
        for part in _ranges(offset - base for offset in sorted(done) if offset >= base)
    )
    if listed := _join(ranges, LONGEST - len(text) - len(" d=")):
        text += f" d={listed}"
    return "" if text == empty else text


def decode(base: int, text: str) -> Note | None:
    """Read the note of a committed offset; None if there is none.

    Raises:
        ValueError: it is not a note of ours, or not one of this offset.
    """
    if not text:
        return None
    found = _NOTE.fullmatch(text)
    if found is None or len(text) > LONGEST:
        raise ValueError(f"{text[:80]!r} is not a note of kafkaesk")
    if int(found[1]) != base:
        raise ValueError(f"the note of offset {found[1]} stands beside {base}")
    attempts = {}
    for entry in (found[2] or "").split(",") if found[2] else ():
        offset, number, *due = map(int, entry.split(":"))
        attempts[base + offset] = Attempt(max(number, 1), due[0] if due else 0)
    done = []
    for entry in (found[3] or "").split(",") if found[3] else ():
        first, _, last = entry.partition("-")
        done.append(range(base + int(first), base + int(last or first) + 1))
    if sum(map(len, done)) > MOST:
        raise ValueError(f"a note of more than {MOST} records is not one of kafkaesk")
    return Note(attempts, done)


def _join(parts: Iterable[str], room: int) -> str:
    """Join as many parts as there is room for."""
    joined = ""
    for part in parts:
        if len(joined) + len(part) + 1 > room:
            break
        joined += f",{part}" if joined else part
    return joined


def _ranges(offsets: Iterable[int]) -> Iterator[range]:
    """Join ascending numbers that follow one another."""
    part: range | None = None
    for offset in offsets:
        if part is not None and offset == part.stop:
            part = range(part.start, offset + 1)
            continue
        if part is not None:
            yield part
        part = range(offset, offset + 1)
    if part is not None:
        yield part


class CommitNotes:
    """The notes of one group: those to be written, those that were read and still hold.

    `lanes_of` returns the lanes in which a topic's records run.
    """

    def __init__(
        self,
        group: str,
        offsets: OffsetTracker[TopicPartition],
        lanes_of: Callable[[str], Lanes[FetchedMessage]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._group = group
        self._offsets = offsets
        self._lanes_of = lanes_of
        self._clock = clock
        self._stored: dict[TopicPartition, str] = {}
        self._kept: dict[TopicPartition, dict[int, Attempt]] = {}
        self.found: dict[TopicPartition, Note] = {}
        self.begun: dict[TopicPartition, tuple[int, int]] = {}
        """The record that is handled alone, and the attempt after it: a crash was its own."""
        self.is_on = True
        self.counts: Counter[str] = Counter()

    # --- written

    def keep(self, partitions: Iterable[TopicPartition]) -> None:
        """Note the attempts now: the lanes are about to drop what waits."""
        for partition in partitions:
            if attempts := self._attempts(partition):
                self._kept[partition] = attempts

    def of(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, str]:
        """The note for each of these commits."""
        return {partition: self._note(partition, base) for partition, base in offsets.items()}

    def changed(self) -> dict[TopicPartition, int]:
        """The watermarks of partitions whose stored note is no longer right."""
        found = {}
        for partition in self._offsets if self.is_on else ():
            low = self._offsets.state(partition).watermark
            if low is not None and self._note(partition, low) != self._stored.get(partition, ""):
                found[partition] = low
        return found

    def _note(self, partition: TopicPartition, base: int) -> str:
        if not self.is_on:
            return ""
        attempts = self._attempts(partition)
        done = self._offsets.done_above(partition)
        if (note := self.found.get(partition)) is not None:  # records that were not read yet
            position = self._position(partition)
            done = done | {o for part in note.done for o in part if o >= position}
        if not attempts and not done:
            return ""
        return encode(base, {k: v for k, v in attempts.items() if k not in done}, done)

    def _attempts(self, partition: TopicPartition) -> dict[int, Attempt]:
        """The attempts of the records that were tried, and of those that wait to be again."""
        found = dict(self._kept.get(partition, {}))
        if (note := self.found.get(partition)) is not None:
            position = self._position(partition)
            found |= {k: v for k, v in note.attempts.items() if k >= position}
        for message, delay in self._lanes_of(partition.topic).unfinished(partition):
            current = message.current_attempt or message
            if current.attempt > 1:
                due = 0 if delay is None else int((self._clock() + delay) * 1000)
                found[message.offset] = Attempt(current.attempt, due)
        if (begun := self.begun.get(partition)) is not None:
            found[begun[0]] = Attempt(begun[1])
        return found

    def _position(self, partition: TopicPartition) -> int:
        position = self._offsets.state(partition).position
        return -1 if position is None else position

    def note_stored(self, notes: Mapping[TopicPartition, str]) -> None:
        """Note what the broker has stored."""
        self._stored.update(notes)

    def switch_off(self) -> None:
        """Write no more notes: the brokers refuse texts of this length."""
        self.is_on = False
        logger.warning(
            "group %s: the brokers refuse %d bytes beside an offset, so attempts do not survive a "
            "restart; raise offset.metadata.max.bytes, or set commit_notes=False",
            *(self._group, LONGEST),
        )

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Forget partitions that are gone, or are read from another position."""
        for partition in partitions:
            for known in (self._stored, self._kept, self.found):
                known.pop(partition, None)

    # --- read

    def read(self, committed: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Take what stands beside the committed offsets of an assignment.

        What others have stored there is ignored, and counted.
        """
        for partition, (base, text) in committed.items():
            try:
                note = decode(base, text)
            except ValueError as error:
                self.counts["notes_ignored"] += 1
                logger.debug("%s[%d]: %s", partition.topic, partition.partition, error)
                continue
            self._stored[partition] = text
            if note is not None:
                self.counts["notes_read"] += 1
                self.found[partition] = note

    def apply(
        self, partition: TopicPartition, messages: Sequence[FetchedMessage]
    ) -> Sequence[FetchedMessage]:
        """Give records the attempts that they had; leave out those that are done already."""
        note = self.found[partition]
        left = []
        for message in messages:
            if note.is_done(message.offset):
                batch = message.batch
                batch.finish(message.offset)
                batch.holding.size -= batch.room
                self.counts["done_before"] += 1
                continue
            if (attempt := note.attempts.get(message.offset)) is not None:
                message.attempt = attempt.number
            left.append(message)
        if messages[-1].offset >= note.last:
            del self.found[partition]
        return left

    def delay(self, note: Note | None, message: FetchedMessage) -> float:
        """The seconds until a record is due."""
        attempt = note.attempts.get(message.offset) if note is not None else None
        if attempt is None or not attempt.due_ms:
            return 0.0
        return max(attempt.due_ms / 1000 - self._clock(), 0.0)
