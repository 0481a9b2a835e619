"""Waiting for a condition instead of sleeping for a guess."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["eventually"]


async def eventually(condition: Callable[[], object], *, within: float = 10.0) -> None:
    """Wait until `condition()` is true.

    Raises:
        AssertionError: it was not within so many seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"not within {within:g} seconds")
        await asyncio.sleep(0.005)
