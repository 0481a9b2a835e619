"""Cancellations: those that are failures, those of a stop, and the plugin's own."""

from __future__ import annotations

import asyncio

__all__ = ["as_failure", "end_task", "is_shutdown"]

CANCEL_AGAIN = 1.0
"""Seconds that a task may take to end before it is cancelled again."""


def is_shutdown() -> bool:
    """Whether the running task is being cancelled, so that an error is not a failure."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def as_failure(error: BaseException) -> Exception:
    """Return the error; convert the cancellation of an awaited object to an error."""
    if isinstance(error, Exception):
        return error
    failure = RuntimeError("what the handler awaited was cancelled")
    failure.__cause__ = error
    return failure.with_traceback(error.__traceback__)


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended: `asyncio.wait_for` of Python 3.11 may swallow that."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN)
