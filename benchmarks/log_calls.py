"""Log calls as services make them: a few at once, then the event loop continues."""

import asyncio
import time
from collections.abc import Awaitable, Callable

__all__ = ["BURST", "fed", "in_bursts"]

BURST = 500
BACKLOG = 5000

Log = Callable[[int], object]


async def in_bursts(
    count: int, log: Log, settle: Callable[[], Awaitable[object]]
) -> tuple[float, float]:
    """Return the calls' wall-clock and thread seconds; each burst is then settled."""
    seconds = used = 0.0
    for first in range(0, count, BURST):
        numbers = range(first, min(first + BURST, count))
        started, before = time.perf_counter(), time.thread_time()
        for number in numbers:
            log(number)
        used += time.thread_time() - before
        seconds += time.perf_counter() - started
        await settle()
    return seconds, used


async def fed(count: int, log: Log, backlog: Callable[[], int]) -> None:
    """Make the calls as fast as lines leave the queue."""
    for number in range(count):
        log(number)
        if number % BURST == 0:
            await asyncio.sleep(0)
            while backlog() > BACKLOG:
                await asyncio.sleep(0.001)
