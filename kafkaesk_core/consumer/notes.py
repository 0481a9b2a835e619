"""What a commit remembers beside its offset: attempts, due times, and records done above it.

Kafka stores a text with each committed offset. What stands there survives a crash, and goes to the
member that gets the partition next. A note is
"kafkaesk1 90 a=2:3:1764230400000:5000,5:2 c=5:1 d=1,3-4": of the records from the committed offset
90 on, number 2 waits for its attempt 3, due at this time in milliseconds since 1970, after a wait
of 5 seconds in all; number 5 is in its attempt 2, and one attempt of it has ended with the process;
numbers 1, 3 and 4 are done. A note that grows beyond its limit leaves out what lies highest.

A note is read only where it is certain to speak of the same records: the first record that is read
is the one that it stands at, and it ends before the end of the log. Tools that copy offsets to
another cluster change the offset and keep the text; a log may have been truncated and written
again; and a seek asks for records once more, whatever became of them.
"""

from __future__ import annotations

import logging
import re
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import pairwise
from time import monotonic
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from kafkaesk_core.offsets import OffsetTracker

from .attempts import Attempt, Attempts
from .begun import Begun, BegunRecords
from .fetched import FetchedRecord, NotedBatch

__all__ = ["CommitNotes", "Note", "decode", "encode"]

logger = logging.getLogger("kafkaesk.commits")

VERSION = "kafkaesk1"
LONGEST = 4096
"""Bytes: the default of `offset.metadata.max.bytes`, beyond which brokers refuse the commit."""

SHORTEST = 256
"""Bytes: with less room, nothing is noted any more."""

BUDGET = 256 * 1024
"""Bytes of all notes of one commit: the brokers store it as one batch, of up to 1 MiB."""

LOOK = 50_000
"""Offsets that are looked at for the notes of one commit: about 3 ms of the event loop."""

MOST = 1_000_000
"""Records that a note may call done; no member has more of them uncommitted."""

_NUMBER = r"\d{1,15}"
_TRIED = rf"{_NUMBER}:{_NUMBER}(?::{_NUMBER}:{_NUMBER})?"
_CRASHED, _DONE = rf"{_NUMBER}:{_NUMBER}", rf"{_NUMBER}(?:-{_NUMBER})?"
_NOTE = re.compile(
    rf"{VERSION} ({_NUMBER})(?: a=({_TRIED}(?:,{_TRIED})*))?(?: c=({_CRASHED}(?:,{_CRASHED})*))?"
    rf"(?: d=({_DONE}(?:,{_DONE})*))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Note:
    """What the note of the committed offset `base` says, by offset; `done` ascends."""

    base: int
    attempts: Mapping[int, Attempt]
    done: Sequence[range]

    @property
    def last(self) -> int:
        """The highest offset of which it says something."""
        return max((*self.attempts, *(part.stop - 1 for part in self.done)), default=-1)

    def is_done(self, offset: int) -> bool:
        """Whether the record of this offset was done."""
        at = bisect_right(self.done, offset, key=lambda part: part.start)
        return at > 0 and offset in self.done[at - 1]

    def done_from(self, offset: int) -> list[range]:
        """What is done from this offset on."""
        return [
            range(max(part.start, offset), part.stop) for part in self.done if part.stop > offset
        ]


def encode(
    base: int, attempts: Mapping[int, Attempt], done: Iterable[range], room: int = LONGEST
) -> str:
    """Write a note for a commit of the offset `base`; "" if it would say nothing.

    Half of the room is for attempts. `done` ascends.
    """
    text = empty = f"{VERSION} {base}"
    # No entry is shorter than "1:1,": more of them have no room.
    lowest = nsmallest(room // 8, (offset for offset in attempts if offset >= base))
    tried = ((offset - base, attempts[offset]) for offset in lowest)
    shown = [(number, one) for number, one in tried if one != (1, 0, 0, 0)]
    if listed := _join(map(_attempt_text, shown), room // 2 - len(text)):
        text += f" a={listed}"
        count = listed.count(",") + 1
        crashed = (f"{number}:{one.crashes}" for number, one in shown[:count] if one.crashes)
        if listed := _join(crashed, room - len(text) - len(" c=")):
            text += f" c={listed}"
    parts = ((part.start - base, part.stop - 1 - base) for part in done if part.start >= base)
    ranges = (f"{first}" if first == last else f"{first}-{last}" for first, last in parts)
    if listed := _join(ranges, room - len(text) - len(" d=")):
        text += f" d={listed}"
    return "" if text == empty else text


def _attempt_text(entry: tuple[int, Attempt]) -> str:
    number, attempt = entry
    text = f"{number}:{attempt.number}"
    return f"{text}:{attempt.due_ms}:{attempt.delay_ms}" if attempt.due_ms else text


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
    crashes = {base + number: count for number, count in _entries(found[3])}
    attempts = {}
    for number, attempt, *wait in _entries(found[2]):
        due, delay = wait or (0, 0)
        attempts[base + number] = Attempt(
            max(attempt, 1), due, delay, crashes.get(base + number, 0)
        )
    done = []
    for entry in (found[4] or "").split(",") if found[4] else ():
        first, _, last = entry.partition("-")
        done.append(range(base + int(first), base + int(last or first) + 1))
    if any(part.stop > after.start for part, after in pairwise(done)):
        raise ValueError(f"{text[:80]!r} is not a note of kafkaesk: what is done does not ascend")
    if sum(map(len, done)) > MOST:
        raise ValueError(f"a note of more than {MOST} records is not one of kafkaesk")
    return Note(base, attempts, done)


def _entries(listed: str | None) -> Iterable[list[int]]:
    return ([int(part) for part in one.split(":")] for one in listed.split(",")) if listed else ()


def _join(parts: Iterable[str], room: int) -> str:
    """Join as many parts as there is room for."""
    joined, size = [], -1
    for part in parts:
        size += len(part) + 1
        if size > room:
            break
        joined.append(part)
    return ",".join(joined)


class Mark(NamedTuple):
    """What a note was made of: as long as this stays the same, so does the note."""

    epoch: int | None
    base: int
    done: int
    attempts: int
    begun: Begun | None
    room: int


class Draft(NamedTuple):
    """The note of one commit as it was when its offset was chosen."""

    mark: Mark
    text: str
    attempts: Mapping[int, Attempt]
    room: int

    def text_at(self, offset: int) -> str:
        """The text for this offset: of one that a layer has lowered, nothing is called done."""
        if offset == self.mark.base:
            return self.text
        return encode(offset, self.attempts, (), self.room)


class CommitNotes:
    """The notes of one group: those to be written, those that were read and still hold.

    With `says_done` they also say which records above the committed offset are done.
    """

    def __init__(
        self,
        group: str,
        offsets: OffsetTracker[TopicPartition],
        *,
        says_done: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._group = group
        self._offsets = offsets
        self._says_done = says_done
        self._clock = clock
        self._attempts: dict[TopicPartition, Attempts] = {}
        self._stored: dict[TopicPartition, tuple[Mark | None, str]] = {}
        self._known: set[TopicPartition] = set()  # of which the broker's note is in `_stored`
        self._drafts: dict[TopicPartition, Draft] = {}
        self._unchecked: dict[TopicPartition, Note] = {}
        self.found: dict[TopicPartition, Note] = {}
        self._limit = LONGEST
        self.begun = BegunRecords()
        self.silent: Callable[[TopicPartition], bool] = lambda _: False
        """Of which partitions nothing is called done: a layer decides what may be committed."""
        self.counts: Counter[str] = Counter()

    @property
    def is_on(self) -> bool:
        """Whether notes are written: the brokers take texts of some length."""
        return self._limit >= SHORTEST

    def attempts(self, partition: TopicPartition) -> Attempts:
        """The attempts of a partition's records, to be noted there."""
        found = self._attempts.get(partition)
        if found is None:
            found = self._attempts[partition] = Attempts(self._clock)
        return found

    # --- written

    def draft(
        self,
        partitions: Iterable[TopicPartition],
        proposed: Mapping[TopicPartition, int],
        *,
        adds: bool,
    ) -> dict[TopicPartition, int]:
        """Write the notes of the commits proposed of these partitions; return the commits.

        With `adds`, commits are added where only the stored note is no longer right.
        """
        marks: dict[TopicPartition, Mark] = {}
        for partition in partitions:
            self._drafts.pop(partition, None)
            low = self._offsets.watermark(partition)
            if low is None or (partition in self._unchecked and partition not in proposed):
                continue
            self.attempts(partition).forget_done(low, self._offsets.done_above(partition))
            mark = self._mark(partition, low)
            stored = self._stored.get(partition, (None, ""))[0]
            if partition in proposed or (adds and mark != stored):
                marks[partition] = mark
        for partition in self._unchecked.keys() & marks.keys():
            del self._unchecked[partition]  # nothing was read where it stands
        return self._write(proposed, marks)

    def _mark(self, partition: TopicPartition, low: int) -> Mark:
        return Mark(
            self._offsets.epoch(partition),
            low,
            0 if self._is_silent(partition) else len(self._offsets.done_above(partition)),
            self.attempts(partition).changes,
            self.begun.get(partition),
            self._limit,
        )

    def _is_silent(self, partition: TopicPartition) -> bool:
        return not self._says_done or self.silent(partition)

    def _write(
        self, proposed: Mapping[TopicPartition, int], marks: Mapping[TopicPartition, Mark]
    ) -> dict[TopicPartition, int]:
        commits = dict(proposed)
        room = min(self._limit, BUDGET // max(len(marks), 1))
        look = LOOK // max(len(marks), 1)
        for partition, mark in marks.items():
            attempts = self._noted(partition)
            text = ""
            if self.is_on:
                done = [] if self._is_silent(partition) else self._done(partition, look)
                text = encode(mark.base, attempts, done, room)
            if partition not in proposed:
                if text == self._stored.get(partition, (None, ""))[1]:
                    self._stored[partition] = (mark, text)
                    continue
                commits[partition] = mark.base
            self._drafts[partition] = Draft(mark, text, attempts, room)
        return commits

    def _noted(self, partition: TopicPartition) -> dict[int, Attempt]:
        """The attempts of records that were read, and of those that are still to be read."""
        found = dict(self.attempts(partition).by_offset)
        if (note := self.found.get(partition)) is not None:
            position = self._offsets.position(partition) or 0
            found |= {k: v for k, v in note.attempts.items() if k >= position}
        if (begun := self.begun.get(partition)) is not None:
            found[begun[0]] = begun[1]
        return found

    def _done(self, partition: TopicPartition, look: int) -> list[range]:
        done = self._offsets.done_ranges(partition, look)
        if (note := self.found.get(partition)) is not None:
            done += note.done_from(self._offsets.position(partition) or 0)
        return done

    def texts(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, str]:
        """The notes for the commits that the layers have let through."""
        texts = {}
        for partition, offset in offsets.items():
            draft = self._drafts.get(partition)
            is_current = draft and draft.mark.epoch == self._offsets.epoch(partition)
            if draft is None or not is_current or not self.is_on:
                texts[partition] = ""
                continue
            texts[partition] = draft.text_at(offset)
            self.begun.note_sent(partition, draft.mark.begun)
        return texts

    def note_stored(self, texts: Mapping[TopicPartition, str]) -> None:
        """Note what the broker has stored."""
        for partition, text in texts.items():
            draft = self._drafts.get(partition)
            is_drafted = draft is not None and draft.text == text
            self._stored[partition] = (draft.mark if draft and is_drafted else None, text)
            self._known.add(partition)
            self.begun.note_stored(partition, draft.mark.begun if draft and text else None)

    def shorten(self, refused: Iterable[TopicPartition]) -> None:
        """Write shorter notes, or none: the brokers refuse those of these partitions."""
        drafts = [self._drafts[partition] for partition in refused if partition in self._drafts]
        if drafts and all(draft.mark.room > self._limit for draft in drafts):
            return  # they were written before another refusal
        self._limit //= 2
        self.counts["notes_refused"] += 1
        what = "are half as long now" if self.is_on else "are not written any more"
        logger.warning(
            "group %s: the brokers refuse what is noted beside the offsets; the notes %s, and what "
            "they leave out begins anew after a restart; raise offset.metadata.max.bytes to %d",
            *(self._group, what, LONGEST),
        )

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Forget partitions that are gone, or are read from another position."""
        for partition in partitions:
            for known in (self._attempts, self._drafts, self._unchecked, self.found):
                known.pop(partition, None)
            self.begun.forget(partition, is_gone=partition not in self._offsets)
            if partition not in self._offsets:  # else the next commit replaces what is stored
                self._stored.pop(partition, None)
                self._known.discard(partition)

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Use no note that was read of these partitions."""
        for partition in partitions:
            for read in (self._unchecked, self.found):
                if read.pop(partition, None) is not None:
                    self._ignore(partition, "its offset is not in the log")

    # --- read

    def read(self, committed: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Take what stands beside the committed offsets of an assignment, once for each.

        What others have stored there is ignored, and counted.
        """
        for partition, (base, text) in committed.items():
            if partition in self._known:
                continue
            self._known.add(partition)
            self._stored[partition] = (None, text)
            try:
                note = decode(base, text)
            except ValueError as error:
                self._ignore(partition, str(error))
                continue
            if note is not None:
                self._unchecked[partition] = note

    def check(self, partition: TopicPartition, first: int, end: int | None) -> None:
        """Use a note if it fits the log: its first record that is read, and its end.

        What ends behind the log was written for another one.
        """
        note = self._unchecked.pop(partition, None)
        if note is None:
            return
        if first != note.base:
            self._ignore(partition, f"offset {first} is read first, and the note is of {note.base}")
        elif end is not None and note.last >= end:
            self._ignore(partition, f"the log ends at {end}, and the note knows offset {note.last}")
        else:
            self.counts["notes_read"] += 1
            attempts = self.begun.corrected(partition, note.attempts)
            self.found[partition] = replace(note, attempts=attempts)

    def _ignore(self, partition: TopicPartition, why: str) -> None:
        self.counts["notes_ignored"] += 1
        logger.debug(
            "group %s: what is noted beside the offset of %s[%d] is ignored: %s",
            *(self._group, partition.topic, partition.partition, why),
        )

    @property
    def has_unchecked(self) -> bool:
        """Whether notes were read of partitions from which no record was taken yet."""
        return bool(self._unchecked)

    def apply(
        self, partition: TopicPartition, records: Sequence[FetchedRecord], batch: NotedBatch
    ) -> list[FetchedRecord]:
        """Give records the attempts and waits that they had; return those that are not done yet."""
        note, attempts = self.found[partition], self.attempts(partition)
        now, clock = monotonic(), self._clock()
        batch.due = {}
        left = []
        for fetched in records:
            offset, record, _ = fetched
            if note.is_done(offset):
                batch.finish(offset)
                batch.holding.size -= batch.room
                self.counts["done_before"] += 1
                continue
            attempt = note.attempts.get(offset)
            if attempt is not None:
                message = batch.message_of(record)
                message.attempt = attempt.number
                batch.keep(message)
                batch.due[offset] = now + attempt.delay(clock)
                attempts.put(offset, attempt)
            left.append(fetched)
        if records[-1][0] >= note.last:
            del self.found[partition]
        return left
