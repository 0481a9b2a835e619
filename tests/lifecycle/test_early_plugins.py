"""A plugin that starts early answers while a start waits, and until everything else has ended."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kafkaesk_core import App, Application, BrokerUnreachableError, PluginError, hookimpl
from kafkaesk_testing import eventually


class Noting:
    """Notes when its lifespan is entered and left."""

    def __init__(self, name: str, notes: list[str], *, early: bool) -> None:
        self.name = name
        self.starts_early = early
        self._notes = notes

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        self._notes.append(f"{self.name} in, {len(app.servers)} servers")
        yield
        self._notes.append(f"{self.name} out")


async def test_an_early_lifespan_is_entered_first_and_left_last() -> None:
    notes: list[str] = []
    plugins = [Noting("late", notes, early=False), Noting("early", notes, early=True)]
    app = Application("embedded://", plugins=plugins, entry_points=False)

    async with app:
        notes.append("running")

    assert notes == [
        "early in, 0 servers",
        "late in, 1 servers",
        "running",
        "late out",
        "early out",
    ]


async def test_an_early_lifespan_is_open_while_no_broker_answers() -> None:
    notes: list[str] = []
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        plugins = [Noting("early", notes, early=True), Noting("late", notes, early=False)]
        app = Application(server, plugins=plugins, entry_points=False, start_timeout=1)
        starting = asyncio.create_task(app.initialize())
        await eventually(lambda: notes == ["early in, 0 servers"], within=10)

        with pytest.raises(BrokerUnreachableError):
            await starting

    assert notes == ["early in, 0 servers", "early out"]


@pytest.mark.parametrize("value", [1, "yes", None])
def test_another_value_is_refused(value: Any) -> None:
    plugin = Noting("odd", [], early=value)

    with pytest.raises(PluginError, match=r"starts_early is .*, expected True or False"):
        Application(plugins=[plugin], entry_points=False)


async def test_an_application_is_not_ready_from_the_moment_a_stop_begins() -> None:
    app = Application("embedded://", entry_points=False)
    began, let_go = asyncio.Event(), asyncio.Event()

    @app.subscribe("orders", "billing")
    async def bill(order: bytes) -> None:
        began.set()
        await let_go.wait()

    async with app:
        consuming = asyncio.create_task(app.consume_forever())
        await app.raw_publish("orders", b"1")
        await asyncio.wait_for(began.wait(), 20)
        assert app.health().is_ready
        stopping = asyncio.create_task(app.stop())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        assert not app.health().is_ready
        assert app.status().groups[0].partitions
        let_go.set()
        await asyncio.gather(stopping, consuming)
