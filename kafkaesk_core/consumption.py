"""All consumer groups of an application at work, until told to stop or one of them fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from .consumer.group import GroupConsumer
from .loop_watch import LoopWatch
from .shutdown import Shutdown

__all__ = ["Consumption"]

logger = logging.getLogger("kafkaesk.app")


class Consumption:
    """Starts the groups, waits, and stops them all: what stops one stops all (D5)."""

    def __init__(self, groups: Sequence[GroupConsumer]) -> None:
        self.groups = tuple(groups)
        handlers = {code: name for group in groups for code, name in group.handlers.items()}
        self._watch = LoopWatch(handlers)
        self._requested = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def run(self, *, start_timeout: float, seconds: float | None = None) -> None:
        """Consume until `request_stop`, a failure, or the end of `seconds`; then drain and commit.

        Raises:
            HandlerError: a handler failed and its subscription does not go on.
            KafkaeskError: a group could not be started, or cannot go on.
        """
        self._watch.start()
        try:
            if await self._start(start_timeout):
                await self._wait(seconds)
        finally:
            self.request_stop()

    async def _start(self, timeout: float) -> bool:
        """Start all groups; False if a stop was requested meanwhile."""
        self._starting = asyncio.create_task(self._start_groups(timeout))
        requested = asyncio.create_task(self._requested.wait())
        try:
            await asyncio.wait([self._starting, requested], return_when=asyncio.FIRST_COMPLETED)
        finally:
            requested.cancel()
            self._starting.cancel()  # nothing happens if it has ended
            await asyncio.wait([self._starting])
        is_cancelled = self._starting.cancelled()
        if self._requested.is_set() and not is_cancelled and (error := self._starting.exception()):
            logger.warning("consuming did not start before the stop: %s", error)
        if is_cancelled or self._requested.is_set():
            return False
        self._starting.result()
        return True

    async def _start_groups(self, timeout: float) -> None:
        starts = (group.start(timeout) for group in self.groups)
        for result in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        for group in self.groups:
            logger.info("group %s: consuming %s", group.group, ", ".join(group.streams))

    async def _wait(self, seconds: float | None) -> None:
        requested = asyncio.ensure_future(self._requested.wait())
        ends: list[asyncio.Future[Any]] = [requested, *(group.failed for group in self.groups)]
        try:
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            requested.cancel()
            for group in self.groups:
                group.begin_drain()

    def is_run_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this task runs a handler: the stop waits for it."""
        return any(group.is_run_by(task) for group in self.groups)

    def request_stop(self) -> None:
        """Take no more records; `run` goes on to drain."""
        for group in self.groups:
            group.begin_drain()
        self._requested.set()

    async def stop(self, shutdown: Shutdown) -> None:
        """Drain, commit and leave the groups, within what `shutdown` leaves them.

        Idempotent; concurrent calls wait for the same end.
        """
        if self._stopping is None:
            self.request_stop()
            self._stopping = asyncio.create_task(self._stop_groups(shutdown))
        await asyncio.shield(self._stopping)

    async def _stop_groups(self, shutdown: Shutdown) -> None:
        with shutdown:
            if self._starting is not None:
                await asyncio.wait([self._starting])
            try:
                results = await asyncio.gather(
                    *(group.stop(shutdown) for group in self.groups), return_exceptions=True
                )
            finally:
                self._watch.stop()
        for group, result in zip(self.groups, results, strict=True):
            if isinstance(result, Exception):
                logger.error("group %s: stopping failed", group.group, exc_info=result)

    def failure(self) -> BaseException | None:
        """What the first failed group failed of."""
        for group in self.groups:
            if group.failed.done() and not group.failed.cancelled():
                error = group.failed.exception()
                if error is not None:
                    return error
        return None
