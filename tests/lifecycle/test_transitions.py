"""What a start or a stop calls, and would wait for that same start or stop, gets an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kafkaesk_core import App, Application, NotRunningError, hookimpl
from kafkaesk_core.transition import Transition
from kafkaesk_testing import eventually

Attempt = Callable[[Application], Awaitable[Any]]

ATTEMPTS: dict[str, Attempt] = {
    "initialize": lambda app: app.initialize(),
    "async with": lambda app: app.__aenter__(),
    "finalize": lambda app: app.finalize(),
    "consume_forever": lambda app: app.consume_forever(),
    "consume_for": lambda app: app.consume_for(1, seconds=0.1),
    "raw_publish": lambda app: app.raw_publish("orders", b"1"),
    "handle": lambda app: app.handle("orders", b"1"),
    "flush": lambda app: app.flush(),
    "stop": lambda app: app.stop(),
    "pause": lambda app: app.pause(),
    "resume": lambda app: app.resume(),
    "health_check": lambda app: app.health_check(),
    "a task that stops": lambda app: asyncio.gather(app.stop()),
}
ENTERING = {"initialize", "async with", "finalize", "consume_forever", "consume_for", "raw_publish"}
REFUSED = {
    "an early plugin's entry": ENTERING,
    "a plugin's entry": ENTERING,
    "an initialize handler": ENTERING - {"consume_for", "raw_publish"},
    "a finalize handler": ENTERING - {"raw_publish"},
    "a plugin's exit": ENTERING - {"raw_publish"},
    "an early plugin's exit": ENTERING,
}
"""What cannot be done in each place; all the rest can."""


class Trying:
    """Makes each attempt where it is told to, and notes its outcome."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.starts_early = "early" in where
        self.app = Application(
            "embedded://", plugins=[self], entry_points=False, shutdown_timeout=60
        )
        self.errors: dict[str, BaseException | None] = {}

        @self.app.subscribe("orders", "billing")
        async def bill(order: bytes) -> None: ...

        self.app.on("initialize")(self.initialize)
        self.app.on("finalize")(self.finalize)

    async def initialize(self) -> None:
        await self.attempt("an initialize handler")

    async def finalize(self) -> None:
        await self.attempt("a finalize handler")

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        await self.attempt("a plugin's entry", "an early plugin's entry")
        yield
        await self.attempt("a plugin's exit", "an early plugin's exit")

    async def attempt(self, *places: str) -> None:
        if self.where not in places:
            return
        for name, attempt in ATTEMPTS.items():
            self.errors[name] = None
            try:
                async with asyncio.timeout(5):
                    await attempt(self.app)
            except Exception as error:
                self.errors[name] = error


@pytest.mark.parametrize("where", REFUSED)
async def test_what_would_wait_for_itself_is_refused(where: str) -> None:
    """The second start or stop waited for the first one, and that for its handler."""
    trying = Trying(where)

    async with trying.app:
        pass

    refused = {name: error for name, error in trying.errors.items() if error is not None}
    assert refused.keys() == REFUSED[where]
    assert {type(error) for error in refused.values()} == {NotRunningError}, refused
    assert trying.errors.keys() == ATTEMPTS.keys()


async def test_consuming_that_begins_during_a_stop_is_refused() -> None:
    """It went on after the stop: its member of the group stayed."""
    app = Application("embedded://", entry_points=False)
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None: ...

    @app.on("finalize")
    async def clear_up() -> None:
        has_begun.set()
        await may_end.wait()

    await app.initialize()
    stopping = asyncio.create_task(app.finalize())
    await has_begun.wait()
    with pytest.raises(NotRunningError, match="is stopping; it consumes no more"):
        await app.consume_forever()
    may_end.set()
    await stopping

    assert not app.is_consuming


async def test_a_task_of_the_start_may_wait_for_its_end() -> None:
    background = Background()
    app = Application("embedded://", entry_points=False, plugins=[background])

    async with app:
        await eventually(lambda: background.has_published)


class Background:
    """Publishes from a task that its lifespan starts, and does not await."""

    def __init__(self) -> None:
        self.has_published = False

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        async def publish() -> None:
            await app.raw_publish("orders", b"1")
            self.has_published = True

        task = asyncio.create_task(publish())
        yield
        await task


async def test_a_task_that_is_awaited_by_what_it_waits_for_ends_in_an_error() -> None:
    """As `asyncio.gather` and `asyncio.wait_for` make one, for example to publish in a lifespan."""
    transition = Transition(lambda: 0.05)

    async def start_again() -> None:
        async with transition.begin("start"):
            pass

    async with transition.begin("start"):
        with pytest.raises(NotRunningError, match="is still starting after"):
            await asyncio.gather(start_again())
    await start_again()


async def test_others_wait_for_a_start_however_long_it_takes() -> None:
    transition, notes = Transition(lambda: 0.01), list[str]()
    may_end, has_begun = asyncio.Event(), asyncio.Event()

    async def start() -> None:
        async with transition.begin("start"):
            has_begun.set()
            await may_end.wait()
            notes.append("started")

    async def stop() -> None:
        async with transition.begin("stop"):
            notes.append("stopped")

    starting = asyncio.create_task(start())
    await has_begun.wait()
    stopping = asyncio.create_task(stop())
    await asyncio.sleep(0.05)
    may_end.set()
    await asyncio.gather(starting, stopping)

    assert notes == ["started", "stopped"]
