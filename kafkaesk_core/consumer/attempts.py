"""The attempts of unfinished records, and the time when each attempt is due."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from math import ceil
from typing import NamedTuple

__all__ = ["Attempt", "Attempts"]


LONGEST_WAIT = 1e11
"""Seconds, about 3,000 years; a longer wait is stored as this one."""


class Attempt(NamedTuple):
    """The current attempt of a record, or the next one if the record waits.

    `due_ms` is the end of the wait, in milliseconds since 1970, and `delay_ms` its full length;
    both are 0 if the record does not wait. `crashes` counts the attempts during which the process
    ended.
    """

    number: int
    due_ms: int = 0
    delay_ms: int = 0
    crashes: int = 0

    def delay(self, now: float) -> float:
        """The seconds until the attempt is due; at most the full wait, because clocks differ."""
        return min(max(self.due_ms - now * 1000, 0.0), self.delay_ms) / 1000


class Attempts:
    """The attempts of one partition's records, by offset; `changes` counts the updates."""

    __slots__ = ("_clock", "by_offset", "changes")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.by_offset: dict[int, Attempt] = {}
        self.changes = 0

    def crashes(self, offset: int) -> int:
        """Return the number of a record's attempts during which the process ended."""
        attempt = self.by_offset.get(offset)
        return 0 if attempt is None else attempt.crashes

    def wait(self, offset: int, number: int, delay: float) -> None:
        """Note that a record waits this many seconds for this attempt."""
        milliseconds = ceil(min(delay, LONGEST_WAIT) * 1000)
        due = ceil(self._clock() * 1000) + milliseconds if milliseconds else 0
        self.put(offset, Attempt(number, due, milliseconds, self.crashes(offset)))

    def put(self, offset: int, attempt: Attempt) -> None:
        """Note a record's current attempt."""
        self.by_offset[offset] = attempt
        self.changes += 1

    def forget_done(self, low: int | None, done: Collection[int]) -> None:
        """Forget the records below `low`, and those in `done`."""
        if self.by_offset and low is not None:
            self.by_offset = {
                offset: attempt
                for offset, attempt in self.by_offset.items()
                if offset >= low and offset not in done
            }
