"""The cost of an idle service: groups, each with one topic of seven partitions."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .task import Meter, Task

__all__ = ["GROUPS", "PARTITIONS", "memory_mib", "rest", "topics_of"]

GROUPS, PARTITIONS = 3, 7
_SETTLE_SECONDS = 4.0


def topics_of(task: Task) -> list[str]:
    """Return the topics of the groups."""
    return [f"{task.topic}-{number}" for number in range(GROUPS)]


async def rest(task: Task, meter: Meter) -> None:
    """Wait until all have joined, then measure for some seconds, and note the memory."""
    await asyncio.sleep(_SETTLE_SECONDS)
    with meter.measured():
        await asyncio.sleep(task.option("seconds", 15))
    assert meter.result is not None
    meter.result.details["mib"] = memory_mib()


def memory_mib() -> float:
    """Return the memory of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
