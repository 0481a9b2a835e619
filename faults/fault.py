"""What a fault is, and waiting for it to show."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from .process import NoProgressError
from .stage import Stage

__all__ = ["Fault", "until"]


class Fault(Protocol):
    """Something that goes wrong, as data."""

    async def strike(self, stage: Stage) -> None:
        """Do it; note each time that it fired with `stage.struck`; return when it is over.

        Raises:
            AssertionError: it could not be done, or what had to follow did not.
        """


async def until(condition: Callable[[], object], what: str, *, within: float = 30.0) -> float:
    """Wait for a condition; returns how many seconds that took.

    Raises:
        NoProgressError: it did not come true within so many seconds.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within:
            raise NoProgressError(f"not within {within:g} s: {what}")
        await asyncio.sleep(0.02)
    return time.monotonic() - began
