"""Running an application as a process: signals, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from .app import Application

__all__ = ["run", "run_app"]

logger = logging.getLogger("kafkaesk.app")

ECHO = 0.3
"""Seconds in which more signals are the same one: a supervisor signals the whole process group, and
what it started us with (`uv run`, a shell, an init) passes its own on to us."""


def run(app: Application) -> None:
    """Start an application, consume until SIGINT or SIGTERM, and stop it.

    Stopping drains: handlers finish, offsets are committed, buffered messages are delivered. A
    second signal, more than 0.3 s after the first one, exits at once.

    Raises:
        KafkaeskError: why it could not start, or not go on.
    """
    asyncio.run(run_app(app))


async def run_app(app: Application) -> None:
    """The same as `run`, in a running event loop."""
    loop = asyncio.get_running_loop()
    work = loop.create_task(_serve(app))
    signals = _Signals(app, work)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.received, number)
    try:
        await work
    except asyncio.CancelledError:
        if not signals.has_cancelled:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _serve(app: Application) -> None:
    async with app:
        await app.consume_forever()


class _Signals:
    """The first signal stops the application, or its start; the second one ends the process."""

    def __init__(self, app: Application, work: asyncio.Task[None]) -> None:
        self._app = app
        self._work = work
        self._stopping: asyncio.Task[None] | None = None
        self._first = 0.0
        self.has_cancelled = False

    def received(self, number: signal.Signals) -> None:
        """React to one signal, in the event loop."""
        now = asyncio.get_running_loop().time()
        if self._stopping is not None or self.has_cancelled:
            if now - self._first < ECHO:
                return
            logger.warning("%s again: exiting now, without finishing", number.name)
            logging.shutdown()
            os._exit(128 + number)
        self._first = now
        logger.info("%s: stopping; once more to exit now", number.name)
        if self._app.is_consuming:
            self._stopping = asyncio.get_running_loop().create_task(self._app.stop())
        else:
            self.has_cancelled = True
            self._work.cancel()
