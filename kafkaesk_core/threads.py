"""Threads for handlers that block: `def` handlers run in them, and the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["THREADS", "HandlerThreads"]

THREADS = "kafkaesk-worker"
"""What the names of all threads begin with that handlers run in."""

_MOST = 1000
"""A thread is started for a call only if none is idle. The slots of subscriptions limit the calls,
and the handlers that are stuck have no slot, so this is a limit for what has gone wrong."""


class HandlerThreads:
    """The threads of an application's `def` handlers; started when they are needed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def wrap(self, func: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """Return a coroutine function that calls `func` in a thread, with the context's variables.

        A cancellation does not end the thread: the call lasts until it has ended, and its result
        counts, as that of a coroutine that ignores its cancellation.
        """

        @functools.wraps(func)
        async def call(*arguments: Any, **options: Any) -> Any:
            context = contextvars.copy_context()
            run = functools.partial(context.run, func, *arguments, **options)
            running = self._open_pool().submit(_outcome, run)
            ended = _notice(running)
            while not running.done():
                try:
                    await asyncio.wait([ended])
                except asyncio.CancelledError:
                    if running.cancel():  # no thread has begun with it
                        raise
            return _result(func, running.result())

        return call

    def _open_pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_MOST, thread_name_prefix=f"{THREADS}-handler")
        return self._pool

    def close(self) -> None:
        """Let idle threads end, and the others when they are done; later calls start new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


Outcome = tuple[Any, BaseException | None]


def _outcome(run: Callable[[], Any]) -> Outcome:
    """Call it: a future cannot carry every exception, StopIteration for one."""
    try:
        return run(), None
    except BaseException as error:
        return None, error


def _notice(running: Future[Outcome]) -> asyncio.Future[None]:
    """Return a future of the event loop that is done when the thread is."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell(_: Future[Outcome]) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop ended before the thread
            loop.call_soon_threadsafe(end)

    running.add_done_callback(tell)
    return ended


def _result(func: Callable[..., Any], outcome: Outcome) -> Any:
    """The result of a call; an awaitable was never awaited, so nothing was handled."""
    result, error = outcome
    if error is not None:
        raise error
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            f"{getattr(func, '__qualname__', func)} is a 'def' function and returned an awaitable, "
            "which nothing awaits in its thread; make it, or the decorator around it, 'async def'"
        )
    return result
