"""When an application is ready, from its start to the end of its stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kafkaesk_core import App, Application, hookimpl
from kafkaesk_testing import eventually

READY_ONCE = [False, True, False]
"""Not ready, then ready, then not ready any more."""


class Watching:
    """Asks for the health at every step of the event loop, from before the start to the end."""

    starts_early = True

    def __init__(self) -> None:
        self.answers: list[bool] = []
        self.reasons: list[str] = []

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch(app))
        yield
        watching.cancel()

    async def _watch(self, app: App) -> None:
        while True:
            health = app.health()
            if self.answers[-1:] != [health.is_ready]:
                self.answers.append(health.is_ready)
            self.reasons += [reason for reason in health.reasons if reason not in self.reasons]
            await asyncio.sleep(0)


def application(watching: Watching) -> Application:
    app = Application("embedded://", plugins=[watching], entry_points=False)

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None: ...

    @app.on("initialize")
    async def warm_up() -> None:
        await asyncio.sleep(0.05)

    @app.on("finalize")
    async def clear_up() -> None:
        await asyncio.sleep(0.05)

    return app


async def test_a_consumer_is_ready_from_its_first_assignment_until_its_stop_begins() -> None:
    watching = Watching()
    app = application(watching)

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: app.health().is_ready, within=20)
        await app.stop()
        await consuming

    assert watching.answers == READY_ONCE
    assert "the application is starting" in watching.reasons
    assert "the application is stopping" in watching.reasons


async def test_who_only_publishes_is_ready_once_started() -> None:
    watching = Watching()
    app = application(watching)

    async with app:
        await app.raw_publish("orders", b"1")

        assert app.health().is_ready
        await asyncio.sleep(0.01)

    assert watching.answers == READY_ONCE


async def test_consuming_again_makes_ready_again() -> None:
    app = application(Watching())

    async with app:
        for _ in range(2):
            consuming = asyncio.create_task(app.consume_forever())
            await eventually(lambda: app.health().is_ready, within=20)
            await app.stop()
            await consuming

            assert not app.health().is_ready
            assert app.health().reasons == ("nothing is consumed now",)


async def test_a_start_says_what_it_waits_for() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        app = Application(address, entry_points=False, start_timeout=30)
        starting = asyncio.create_task(app.initialize())
        await eventually(lambda: "cannot" in str(app.health().reasons), within=10)
        health = app.health()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

    assert (health.is_live, health.is_ready) == (True, False)
    assert "the application is starting: " in health.reasons[0]
    assert address in health.reasons[0]
