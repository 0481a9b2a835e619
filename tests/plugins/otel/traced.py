"""An application on the embedded broker, with the plugins of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.structs import RecordMetadata

from kafkaesk_core import Application

# Any in this file: data and settings are of any type.


class Traced:
    """An application on the embedded broker."""

    def __init__(self, plugins: Sequence[object], topics: str, **arguments: Any) -> None:
        self.app = Application(
            [f"embedded://?topics={topics}&partitions=1"],
            entry_points=False,
            plugins=plugins,
            **arguments,
        )
        self.app.schema("Note")({"type": "object"})
        self._running: asyncio.Task[None] | None = None

    async def publish(self, stream: str, data: Any = None, **options: Any) -> RecordMetadata:
        """Publish, and wait for the broker."""
        data = {} if data is None else data
        delivery = await self.app.publish(stream, data, schema="Note:1", **options)
        return await delivery

    async def start(self) -> None:
        await self.app.initialize()
        if self.app.subscriptions:
            self._running = asyncio.create_task(self.app.consume_forever())

    async def stop(self) -> None:
        await self.app.stop()
        if self._running is not None:
            await asyncio.wait([self._running])
            self._running.exception()
        await self.app.finalize()


Trace = Callable[..., Traced]
