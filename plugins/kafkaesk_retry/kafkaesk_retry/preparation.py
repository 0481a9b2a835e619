"""Creates the plugin's topics in advance, so that the first failure need not wait for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from kafkaesk_core import KafkaeskError

from .cancellation import end_task
from .mailer import Mailer

__all__ = ["Preparation"]

logger = logging.getLogger("kafkaesk.retry")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
Wanted = Callable[[], Awaitable[Mapping[str, str | None]]]


class Preparation:
    """Creates topics at the start; retries failures, without stopping the application.

    `wanted` returns the topics, each with the topic whose number of partitions it gets.
    """

    def __init__(self, mailer: Mailer, wanted: Wanted) -> None:
        self._mailer = mailer
        self._wanted = wanted
        self._task: asyncio.Task[None] | None = None
        self._is_told = False

    async def begin(self) -> None:
        """Create the topics; retry in a task if any could not be created."""
        if not await self._make():
            self._task = asyncio.create_task(self._go_on())

    async def end(self) -> None:
        """Stop the attempts."""
        if self._task is not None:
            await end_task(self._task)

    async def _go_on(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            if await self._make():
                return
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _make(self) -> bool:
        try:
            wanted = await self._wanted()
        except KafkaeskError as error:
            if not self._is_told:
                logger.warning("the topics of dead letters cannot be looked up: %s", error)
            self._is_told = True
            return False
        made = [await self._mailer.prepare(topic, origin) for topic, origin in wanted.items()]
        return all(made)
