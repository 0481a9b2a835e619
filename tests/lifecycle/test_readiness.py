"""When an application is ready, from its start to the end of its stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kafkaesk_core import App, Application, HandlerError, Health, NotRunningError, hookimpl
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


async def test_a_run_that_is_refused_beside_a_limited_one_changes_no_readiness() -> None:
    """What only publishes after `consume_for` was not ready: "nothing is consumed now"."""
    app = application(Watching())

    async with app:
        await app.raw_publish("orders", b"1")  # so that the topic exists
        limited = asyncio.create_task(app.consume_for(2))
        await eventually(lambda: app.is_consuming and app.health().is_ready, within=20)
        for refused in (app.consume_forever(), app.consume_for(1)):
            with pytest.raises(NotRunningError, match="already consuming"):
                await refused

        assert app.health().is_ready
        await app.raw_publish("orders", b"2")
        await limited
        assert app.health() == Health(is_live=True, is_ready=True, reasons=())


async def test_a_run_that_is_refused_does_not_hide_that_another_one_has_failed() -> None:
    app = Application("embedded://", entry_points=False)

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None:
        if order == b"bad":
            raise ValueError(order)

    async with app:
        await app.raw_publish("orders", b"bad")
        with pytest.raises(HandlerError):
            await app.consume_forever()
        limited = asyncio.create_task(app.consume_for(1))
        await eventually(lambda: app.is_consuming)
        with pytest.raises(NotRunningError, match="already consuming"):
            await app.consume_forever()

        assert "consuming has failed: " in app.health().reasons[0]
        assert not app.health().is_live
        await app.stop()
        await asyncio.gather(limited, return_exceptions=True)


async def test_a_run_that_was_asked_for_makes_ready_once_it_consumes() -> None:
    app = application(Watching())

    async with app:
        asked = app.consume_forever()
        assert app.health().reasons == ("nothing is consumed now",)

        consuming = asyncio.create_task(asked)
        await eventually(lambda: app.health().is_ready, within=20)
        await app.stop()
        await consuming
        assert not app.health().is_ready


async def test_a_run_that_did_not_start_asks_for_nothing_later() -> None:
    app = application(Watching())
    fails = [True]

    @app.on("initialize")
    async def fail_once() -> None:
        if fails.pop():
            fails.append(False)
            raise ValueError("the first start fails")

    with pytest.raises(ValueError, match="the first start"):
        await app.consume_forever()
    async with app:
        assert app.health().is_ready


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
