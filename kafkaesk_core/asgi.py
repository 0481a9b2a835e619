"""An application inside a web server: a lifespan for Starlette, FastAPI, Litestar and others."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from .application import Application

__all__ = ["lifespan"]

logger = logging.getLogger("kafkaesk.app")


def lifespan(
    app: Application, *, consume: bool = True
) -> Callable[[object], AbstractAsyncContextManager[None]]:
    """Make a lifespan: the application runs and consumes while the web server runs.

    Write `FastAPI(lifespan=kafkaesk_core.asgi.lifespan(app))`. When the server stops, running
    handlers finish and offsets are committed. If consuming fails, the server is asked to stop, as
    by SIGTERM, and its shutdown fails with the error, so that a supervisor restarts it. A server
    without a handler for SIGTERM continues; the error is logged, and raised when the server stops.
    """

    @asynccontextmanager
    async def run(_: object = None) -> AsyncIterator[None]:
        async with app:
            if not consume:
                yield
                return
            consuming = asyncio.create_task(app.consume_forever())
            watching = asyncio.create_task(_end_server_after(consuming, app))
            try:
                yield
            finally:
                await app.stop()
                await asyncio.wait([consuming])
                watching.cancel()
                consuming.result()

    return run


async def _end_server_after(consuming: asyncio.Task[None], app: Application) -> None:
    """Ask the server to stop if consuming fails; otherwise it would keep running without it."""
    await asyncio.wait([consuming])
    error = None if consuming.cancelled() else consuming.exception()
    if error is None:
        return
    handler = signal.getsignal(signal.SIGTERM)
    is_handled = handler not in (signal.SIG_DFL, signal.SIG_IGN, None)
    # A worker of hypercorn leaves the signal to its parent, which ends when its workers do.
    is_worker = handler is signal.SIG_DFL and multiprocessing.parent_process() is not None
    ends = is_handled or is_worker
    logger.error(
        "consuming has failed; %s",
        "the web server is asked to end" if ends else "the web server goes on without it",
        exc_info=None if getattr(error, "is_logged", False) else error,
    )
    if is_worker:
        await app.finalize()  # the signal ends this process at once
    if ends:
        signal.raise_signal(signal.SIGTERM)
