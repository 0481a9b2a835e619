"""A service on the embedded broker that answers what comes in, and what it sent out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

import pytest_asyncio
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import Application
from kafkaesk_testing import eventually

Handler = Callable[..., Awaitable[Any]]
NOTE = {"type": "object"}


class Service:
    """Handles the stream "in" with `handler`, and collects the records of "out"."""

    def __init__(self, plugins: Sequence[object], handler: Handler, **subscription: Any) -> None:
        self.out: list[ConsumerRecord] = []
        self.app = Application(
            ["embedded://?topics=in,out&partitions=1"],
            kafka_settings={"max_request_size": 4 * 1024 * 1024},
            entry_points=False,
            plugins=plugins,
        )
        self.app.schema("Note", streams=["out"])(NOTE)
        self.app.subscribe("in", "handlers", **subscription)(handler)
        self.app.subscribe("out", "collectors")(self._collect)
        self._running: asyncio.Task[None] | None = None

    async def _collect(self, record: ConsumerRecord) -> None:
        self.out.append(record)

    async def start(self) -> None:
        await self.app.initialize()
        self._running = asyncio.create_task(self.app.consume_forever())

    async def stop(self) -> None:
        await self.app.stop()
        if self._running is not None:
            await asyncio.wait([self._running])
            self._running.exception()
        await self.app.finalize()

    async def receive(self, *headers: tuple[str, bytes | None], value: bytes = b"{}") -> None:
        """Let a record with these headers come in."""
        await self.app.raw_publish("in", value, headers=headers, meta={"propagate": False})

    async def sent(self, count: int = 1) -> list[tuple[tuple[str, bytes | None], ...]]:
        """The headers of so many records that went out."""
        await eventually(lambda: len(self.out) >= count, within=20)
        return [tuple(record.headers) for record in self.out]


Start = Callable[..., Awaitable[Service]]


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Start a service with these plugins and this handler; it is stopped in the end."""
    started: list[Service] = []

    async def starting(
        handler: Handler, *, plugins: Iterable[object], **subscription: Any
    ) -> Service:
        service = Service(list(plugins), handler, **subscription)
        started.append(service)
        await service.start()
        return service

    yield starting
    for service in started:
        await service.stop()
