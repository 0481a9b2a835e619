"""The note that a commit stores with its offset: attempts, due times, records done above it.

Kafka stores a metadata text with each committed offset. The text survives a crash, and the member
that gets the partition next reads it. A note is "kafkaesk1 90 a=2:3:1764230400000:5000,5:2 c=5:1
d=1,3-4": counted from the committed offset 90, record 2 waits for attempt 3, which is due at that
time (milliseconds since 1970) after a wait of 5000 ms; record 5 is in attempt 2, and one of its
attempts ended in a crash; records 1, 3 and 4 are done. A note that exceeds its limit omits the
highest records.

A note is used only if it certainly describes the same records: its offset is the first one read,
and its last offset is before the end of the log. Otherwise it may be wrong: tools that copy offsets
to another cluster change the offset but keep the text, a log may have been truncated and rewritten,
and a seek requests records again, whatever their state.
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
"""Bytes: with less room, no notes are written."""

BUDGET = 256 * 1024
"""Bytes of all notes of one commit; the brokers store it as one batch of up to 1 MiB."""

LOOK = 50_000
"""Offsets that are examined for the notes of one commit: about 3 ms of the event loop."""

MOST = 1_000_000
"""The maximum of done records in a note; no member has more uncommitted records."""

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
    """The content of a note for the committed offset `base`, by offset; `done` is ascending."""

    base: int
    attempts: Mapping[int, Attempt]
    done: Sequence[range]

    @property
    def last(self) -> int:
        """The highest offset that the note mentions."""
        return max((*self.attempts, *(part.stop - 1 for part in self.done)), default=-1)

    def is_done(self, offset: int) -> bool:
        """Whether the record at this offset was done."""
        at = bisect_right(self.done, offset, key=lambda part: part.start)
        return at > 0 and offset in self.done[at - 1]

    def done_from(self, offset: int) -> list[range]:
        """The done offsets from this one on."""
        return [
            range(max(part.start, offset), part.stop) for part in self.done if part.stop > offset
        ]


def encode(
    base: int, attempts: Mapping[int, Attempt], done: Iterable[range], room: int = LONGEST
) -> str:
    """Return the note for a commit of the offset `base`; "" if there is nothing to store.

    Attempts get at most half of the room. `done` is ascending.
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
    """Parse the note of a committed offset; return None for an empty text.

    Raises:
        ValueError: the text is not a note of this library, or belongs to another offset.
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
    """Join as many parts as fit."""
    joined, size = [], -1
    for part in parts:
        size += len(part) + 1
        if size > room:
            break
        joined.append(part)
    return ",".join(joined)


class Mark(NamedTuple):
    """The inputs of a note: while they stay the same, the note stays the same."""

    epoch: int | None
    base: int
    done: int
    attempts: int
    begun: Begun | None
    room: int


class Draft(NamedTuple):
    """The note of one commit, written when its offset was chosen."""

    mark: Mark
    text: str
    attempts: Mapping[int, Attempt]
    room: int

    def text_at(self, offset: int) -> str:
        """Return the note for this offset; if a layer lowered it, no record is listed as done."""
        if offset == self.mark.base:
            return self.text
        return encode(offset, self.attempts, (), self.room)


class CommitNotes:
    """The notes of one group: the ones to write, and the ones that were read and still apply.

    With `says_done`, a note also lists the records above the committed offset that are done.
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
        self._known: set[TopicPartition] = set()  # the broker's note of these is in `_stored`
        self._drafts: dict[TopicPartition, Draft] = {}
        self._unchecked: dict[TopicPartition, Note] = {}
        self.found: dict[TopicPartition, Note] = {}
        self._limit = LONGEST
        self.begun = BegunRecords()
        self.silent: Callable[[TopicPartition], bool] = lambda _: False
        """Whether a partition's notes list no done records: a layer decides on its commits."""
        self.counts: Counter[str] = Counter()

    @property
    def is_on(self) -> bool:
        """Whether notes are written: the brokers accept texts of a useful length."""
        return self._limit >= SHORTEST

    def attempts(self, partition: TopicPartition) -> Attempts:
        """Return the attempts of a partition's records; the caller updates them."""
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
        """Write the notes for the proposed commits of these partitions; return the commits.

        With `adds`, commits are added for partitions where only the stored note is out of date.
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
            del self._unchecked[partition]  # its records were not read yet
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
        """Return the attempts of records that were read, and of those still to be read."""
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
        """Return the notes for the offsets that the layers passed on."""
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
        """Note that the broker has stored these texts."""
        for partition, text in texts.items():
            draft = self._drafts.get(partition)
            is_drafted = draft is not None and draft.text == text
            self._stored[partition] = (draft.mark if draft and is_drafted else None, text)
            self._known.add(partition)
            self.begun.note_stored(partition, draft.mark.begun if draft and text else None)

    def shorten(self, refused: Iterable[TopicPartition]) -> None:
        """Write shorter notes, or none: the brokers refused the notes of these partitions."""
        drafts = [self._drafts[partition] for partition in refused if partition in self._drafts]
        if drafts and all(draft.mark.room > self._limit for draft in drafts):
            return  # they were written before another refusal
        self._limit //= 2
        self.counts["notes_refused"] += 1
        what = "are now half as long" if self.is_on else "are no longer written"
        logger.warning(
            "group %s: the brokers refuse the notes stored with the offsets; the notes %s, and the "
            "attempts they omit are counted from 1 after a restart; raise "
            "offset.metadata.max.bytes to %d",
            *(self._group, what, LONGEST),
        )

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Forget partitions that are gone or are read from another position."""
        for partition in partitions:
            for known in (self._attempts, self._drafts, self._unchecked, self.found):
                known.pop(partition, None)
            self.begun.forget(partition, is_gone=partition not in self._offsets)
            if partition not in self._offsets:  # else the next commit replaces what is stored
                self._stored.pop(partition, None)
                self._known.discard(partition)

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Ignore the notes that were read for these partitions."""
        for partition in partitions:
            for read in (self._unchecked, self.found):
                if read.pop(partition, None) is not None:
                    self._ignore(partition, "its offset is not in the log")

    # --- read

    def read(self, committed: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Take the texts of the committed offsets of an assignment, once for each partition.

        Texts that another program stored are ignored and counted.
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
        """Use a note if it fits the log: the first record read, and the end of the log.

        A note that goes beyond the end of the log was written for another log.
        """
        note = self._unchecked.pop(partition, None)
        if note is None:
            return
        if first != note.base:
            self._ignore(partition, f"the first offset is {first}, but the note is for {note.base}")
        elif end is not None and note.last >= end:
            self._ignore(partition, f"the log ends at {end}, but the note has offset {note.last}")
        else:
            self.counts["notes_read"] += 1
            attempts = self.begun.corrected(partition, note.attempts)
            self.found[partition] = replace(note, attempts=attempts)

    def _ignore(self, partition: TopicPartition, why: str) -> None:
        self.counts["notes_ignored"] += 1
        logger.debug(
            "group %s: the note stored with the offset of %s[%d] is ignored: %s",
            *(self._group, partition.topic, partition.partition, why),
        )

    @property
    def has_unchecked(self) -> bool:
        """Whether a note waits for its check: no record of its partition was taken yet."""
        return bool(self._unchecked)

    def apply(
        self, partition: TopicPartition, records: Sequence[FetchedRecord], batch: NotedBatch
    ) -> list[FetchedRecord]:
        """Restore the attempts and waits of records; return the records that are not done."""
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
