"""Threads for blocking handlers: `def` handlers run in them while the event loop continues."""

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
"""The prefix of the names of all threads for handlers."""

_MOST = 1000
"""A thread is started for a call only if none is idle. The slots of subscriptions limit the calls.
Stuck handlers have no slot, so this limit only bounds the stuck threads."""


class HandlerThreads:
    """The threads of an application's `def` handlers, started when needed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def wrap(self, func: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """Return a coroutine function that calls `func` in a thread, with the context's variables.

        A cancellation does not end the thread. The call lasts until the thread's function returns,
        and its result counts, as with a coroutine that ignores its cancellation.
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
        """End idle threads now and the others when they are done; later calls start new threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


Outcome = tuple[Any, BaseException | None]


def _outcome(run: Callable[[], Any]) -> Outcome:
    """Call the function; a future cannot carry every exception, such as StopIteration."""
    try:
        return run(), None
    except BaseException as error:
        return None, error


def _notice(running: Future[Outcome]) -> asyncio.Future[None]:
    """Return a future of the event loop that is done when the thread's call is done."""
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
    """Return a call's result; refuse an awaitable, which was never awaited."""
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
