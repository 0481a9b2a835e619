"""The interface of a fault, and the wait for its effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from .process import NoProgressError
from .stage import Stage

__all__ = ["Fault", "until"]


class Fault(Protocol):
    """A fault, as data."""

    async def strike(self, stage: Stage) -> None:
        """Inject the fault, note each injection with `stage.struck`, and return when it is over.

        Raises:
            AssertionError: the fault could not be injected, or its expected effect did not follow.
        """


async def until(condition: Callable[[], object], what: str, *, within: float = 30.0) -> float:
    """Wait for a condition; return the seconds that it took.

    Raises:
        NoProgressError: the condition did not become true within this many seconds.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within:
            raise NoProgressError(f"not within {within:g} s: {what}")
        await asyncio.sleep(0.02)
    return time.monotonic() - began
