"""Pauses between attempts, longer each time."""

from __future__ import annotations

import asyncio
import random

__all__ = ["Backoff"]

_JITTER = 0.2
"""Part of a pause by which it varies, so that many processes do not come back at once."""


class Backoff:
    """Pauses of `first` seconds, then twice as long each time, up to `longest`."""

    __slots__ = ("_first", "_longest", "pause")

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.pause = first
        """Seconds that the next pause takes, give or take a fifth."""

    async def wait(self) -> None:
        """Pause."""
        pause = self.pause
        self.pause = min(2 * pause, self._longest)
        await asyncio.sleep(pause * random.uniform(1 - _JITTER, 1 + _JITTER))

    def reset(self) -> None:
        """Begin again with the first pause: an attempt has succeeded."""
        self.pause = self._first
