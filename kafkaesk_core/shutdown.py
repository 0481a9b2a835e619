"""The deadline of a stop, and the time limit of each of its phases."""

from __future__ import annotations

import asyncio
from typing import Literal, Self

__all__ = ["Phase", "Shutdown"]

Phase = Literal["drain", "commit", "cancel", "leave", "finalize", "plugins", "flush", "disconnect"]

_FULL_SECONDS = 25.0
_RESERVED: dict[Phase, float] = {
    "commit": 2.0,
    "cancel": 2.0,
    "leave": 1.0,
    "finalize": 1.0,
    "plugins": 1.0,
    "flush": 2.0,
    "disconnect": 1.0,
}
"""Seconds reserved for each phase, in order, of a stop that may take 25 seconds or more."""


class Shutdown:
    """The time limit of a stop, however many calls make up the stop.

    The clock runs while one or more tasks have entered the object, so the time between `stop()` and
    `finalize()` does not count. A phase may use the remaining time, except the seconds that are
    reserved for later phases. So a phase that hangs takes no time from the last phase, the delivery
    of published messages.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._spent = 0.0
        self._users = 0
        self._resumed_at = 0.0
        scale = min(1.0, timeout / _FULL_SECONDS)
        self._reserved_after: dict[str, float] = {}
        reserved = 0.0
        for phase in reversed(_RESERVED):
            self._reserved_after[phase] = reserved
            reserved += _RESERVED[phase] * scale
        self._reserved_after["drain"] = reserved

    def reset(self) -> None:
        """Restore the full time for the next stop."""
        if not self._users:
            self._spent = 0.0

    def __enter__(self) -> Self:
        if self._users == 0:
            self._resumed_at = self._loop.time()
        self._users += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0:
            self._spent += self._loop.time() - self._resumed_at

    @property
    def is_running(self) -> bool:
        """Whether a stop is in progress."""
        return self._users > 0

    def left(self, phase: Phase) -> float:
        """Return the seconds that this phase may still take, 0 or more."""
        running = self._loop.time() - self._resumed_at if self._users else 0.0
        return max(self.timeout - self._spent - running - self._reserved_after[phase], 0.0)
