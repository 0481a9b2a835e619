"""Helpers for asyncio: detached tasks, the check of the event loop, pauses between attempts."""

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

    In a copy of the caller's context, the context variables of one handler would stay with a
    connection or a producer, and its other users would see them.
    """
    return asyncio.get_running_loop().create_task(work, context=Context())


async def finish(work: Coroutine[Any, Any, Result] | asyncio.Future[Result]) -> Result:
    """Wait for the end of work with its own time limit, however often the wait is cancelled.

    Raises:
        asyncio.CancelledError: the caller was cancelled; raised once the work has ended.
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
    """Whether a caught CancelledError is the cancellation of the running task.

    Otherwise an awaited object was cancelled, which is a failure like any other.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def retrieve_exception(task: asyncio.Future[Any]) -> None:
    """Stop asyncio from reporting a task's exception as never retrieved; a done callback.

    For tasks whose waiters may all be cancelled: with `asyncio.wait`, no waiter has then read the
    exception.
    """
    if not task.cancelled():
        task.exception()


# --- one application, one event loop


def check_loop(owner: asyncio.AbstractEventLoop | None, attempted: str) -> None:
    """Check that the running event loop is the owner's; None stands for no owner.

    Raises:
        NotRunningError: another loop is running; the error names both loops and the remedy.
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
"""The random part of a pause, so that many processes do not retry at the same time."""


class Backoff:
    """Pauses of `first` seconds, doubled each time, up to `longest`."""

    __slots__ = ("_first", "_longest", "pause")

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.pause = first
        """The seconds of the next pause, plus or minus a fifth."""

    async def wait(self) -> None:
        """Pause."""
        pause = self.pause
        self.pause = min(2 * pause, self._longest)
        await asyncio.sleep(pause * random.uniform(1 - _JITTER, 1 + _JITTER))

    def reset(self) -> None:
        """Start with the first pause again, after a successful attempt."""
        self.pause = self._first
