"""Journals that processes write while they run, so that a killed process leaves its events.

Each process has one file, with one line per event, appended in a single write. The first word is
the kind, the second word is the time: microseconds of the machine's monotonic clock, which all
processes share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Event", "Journal", "Tail", "events", "now"]


def now() -> int:
    """Return the microseconds on the clock of all journals."""
    return time.monotonic_ns() // 1000


class Event(NamedTuple):
    """One line. Kinds, and what follows them; a partition is written "topic:number":

    begin, end, broken: id partition offset (of one handling; broken: failed or cancelled)
    dead: id partition offset (of a record whose dead letter is acknowledged)
    reached: the point at which the process stands still
    assigned, revoked, lost: the partitions
    generation: the number of the group's generation, with each assignment
    committed: reason, then partition and offset in turn
    status: uncommitted running (the records that the engine would redeliver after a kill)
    vitals: tasks, then the engine's reasons why it is degraded, in one word each
    left: tasks and sockets after the end
    sent: id key seq
    acked: id partition offset
    failed, unknown: id
    """

    kind: str
    at: int
    words: tuple[str, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The words after the time, as numbers."""
        return tuple(map(int, self.words))

    @property
    def place(self) -> tuple[str, int]:
        """The partition and offset of a handling or an acknowledgement."""
        return self.words[1], int(self.words[2])


class Journal:
    """Appends to one file."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, kind: str, *words: object) -> None:
        """Append an event with the current time."""
        line = " ".join((kind, str(now()), *map(str, words)))
        os.write(self._file, line.encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Tail:
    """Reads the lines added to a journal since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def read(self) -> Iterator[Event]:
        """Return the new events; an incomplete line is left for the next call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._at += len(complete)
        for line in complete.decode().splitlines():
            kind, at, *words = line.split()
            yield Event(kind, int(at), tuple(words))


def events(path: Path) -> list[Event]:
    """Return all events of one journal."""
    return list(Tail(path).read())
