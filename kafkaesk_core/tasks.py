"""Tasks that do not depend on who starts them, or on who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

__all__ = ["finish", "retrieve_exception", "start_detached"]

Result = TypeVar("Result")


def start_detached(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    """Start a task in an empty context.

    For what outlives its caller: with a copy of the caller's context, the context variables of one
    handler would stay with a connection or a producer, and show up in what others do with it.
    """
    return asyncio.get_running_loop().create_task(work, context=Context())


async def finish(work: Coroutine[Any, Any, Result] | asyncio.Future[Result]) -> Result:
    """Wait for work that is bounded by itself to its end, however often the waiting is cancelled.

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


def retrieve_exception(task: asyncio.Future[Any]) -> None:
    """Let asyncio not report that a task's exception was never retrieved; a done callback.

    For a task whose waiters may all have been cancelled: with `asyncio.wait` nobody has looked
    at its exception then, and nobody will.
    """
    if not task.cancelled():
        task.exception()
