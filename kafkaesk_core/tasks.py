"""How asyncio is used here: tasks of their own, one event loop, pauses between attempts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

from .errors import NotRunningError

__all__ = [
    "Backoff",
    "check_loop",
    "finish",
    "is_cancelled",
    "retrieve_exception",
    "start_detached",
]

Result = TypeVar("Result")


def start_detached(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    """Start a task in an empty context, for work that outlives its caller.

    With a copy of the caller's context, the context variables of one handler would stay with a
    connection or a producer, and be seen by other users of it.
    """
    return asyncio.get_running_loop().create_task(work, context=Context())


async def finish(work: Coroutine[Any, Any, Result] | asyncio.Future[Result]) -> Result:
    """Wait for the end of work that has its own time limit, however often the wait is cancelled.

    Raises:
        asyncio.CancelledError: the caller was cancelled; it is raised once the work has ended.
    """
    running = asyncio.ensure_future(work)
    running.add_done_callback(retrieve_exception)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return running.result()


def is_cancelled() -> bool:
    """Whether a CancelledError at hand is the cancellation of the running task.

    Otherwise something that was awaited has been cancelled, which is a failure as any other.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def retrieve_exception(task: asyncio.Future[Any]) -> None:
    """Keep asyncio from reporting a task's exception as never retrieved; a done callback.

    For tasks whose waiters may all have been cancelled: with `asyncio.wait` no waiter has looked at
    the exception then.
    """
    if not task.cancelled():
        task.exception()


# --- one application, one event loop


def check_loop(owner: asyncio.AbstractEventLoop | None, attempted: str) -> None:
    """Check that the running event loop is the owner's; None has no owner.

    Raises:
        NotRunningError: it is another one; the error names both loops and the remedy.
    """
    running = asyncio.get_running_loop()
    if owner is None or owner is running:
        return
    if owner.is_closed():
        remedy = (
            "end it with 'async with app' or await app.finalize() before its loop is closed, and "
            "give fixtures and tests one loop (pytest-asyncio: the same loop_scope)"
        )
    else:
        remedy = (
            "use one application per event loop (pytest-asyncio: the same loop_scope for fixtures "
            "and tests); in another thread, use asyncio.run_coroutine_threadsafe(..., app.loop)"
        )
    raise NotRunningError(
        f"{attempted} was used on event loop {_name(running)}, but the application runs on event "
        f"loop {_name(owner)}; {remedy}"
    )


def _name(loop: asyncio.AbstractEventLoop) -> str:
    return f"{id(loop):#x}{' (closed)' if loop.is_closed() else ''}"


# --- pauses

_JITTER = 0.2
"""The part of a pause by which it varies, so that many processes do not retry at once."""


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
        """Begin again with the first pause, after an attempt that succeeded."""
        self.pause = self._first
