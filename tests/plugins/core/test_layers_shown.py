"""What a team sees of its layers: the log of KAFKAESK_DEBUG_HOOKS, and what each hook costs."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest
from click.testing import CliRunner

from kafkaesk_core import Application, OutgoingMessage, hookimpl
from kafkaesk_core.cli import cli
from kafkaesk_core.plugin_price import price_plugins
from kafkaesk_core.plugins.manager import Plugins

APP: Any = object()


class Stamp:
    """Adds a header, drops another, changes the key and hands the message on."""

    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: Any) -> Any:
        message.headers[:] = [("stamp", b"secret")]
        message.key = b"k"
        message.meta["mine"] = 1
        return await call_next(message)


class Refuse:
    @hookimpl
    async def wrap_publish(self, message: OutgoingMessage, call_next: Any) -> Any:
        raise ValueError("not today")


async def publish(message: OutgoingMessage) -> Any:
    return None


async def logged(plugin: object, caplog: pytest.LogCaptureFixture) -> list[str]:
    plugins = Plugins()
    plugins.register(plugin, "stamp")
    plugins.log_layers()
    chain = plugins.chain("wrap_publish", publish, app=APP)
    message = OutgoingMessage("orders", "shop.orders", {}, headers=[("old", b"1")])

    with caplog.at_level(logging.INFO, "kafkaesk.hooks"):
        await asyncio.gather(chain(message), return_exceptions=True)

    return [record.getMessage() for record in caplog.records]


async def test_a_layers_entry_changes_and_exit_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entered, called, left = await logged(Stamp(), caplog)

    assert entered == "wrap_publish to shop.orders: enters stamp"
    assert called == (
        "wrap_publish to shop.orders: stamp calls the next layer; "
        "changed: +header stamp, +meta mine, -header old, key"
    )
    assert left.startswith("wrap_publish to shop.orders: leaves stamp, ")
    assert left.endswith(" ms")
    assert "secret" not in caplog.text


async def test_what_a_layer_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    _, left = await logged(Refuse(), caplog)

    assert "ValueError('not today') leaves stamp, " in left


@pytest.mark.parametrize("value", ["1", "true"])
async def test_the_variable_switches_the_log_on(
    value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KAFKAESK_DEBUG_HOOKS", value)
    app = Application("embedded://", entry_points=False)
    app.plugins.register(Stamp())

    with caplog.at_level(logging.INFO, "kafkaesk.hooks"):
        async with app:
            await app.raw_publish("orders", b"1")

    assert "wrap_publish to orders: enters " in caplog.text


def test_a_layer_is_called_directly_where_nothing_is_logged() -> None:
    plugins = Plugins()
    plugins.register(Stamp(), "stamp")

    chain: Any = plugins.chain("wrap_publish", publish, app=APP)

    held = [cell.cell_contents for cell in chain.__closure__]
    assert Stamp.wrap_publish in [getattr(each, "__func__", None) for each in held]


async def test_the_price_of_a_hook_is_what_it_spends() -> None:
    class Slow:
        @hookimpl
        async def wrap_publish(self, message: OutgoingMessage, call_next: Any) -> Any:
            until = time.perf_counter() + 20e-6
            while time.perf_counter() < until:
                pass
            return await call_next(message)

        @hookimpl
        def published(self, message: OutgoingMessage) -> None:
            pass

    plugins = Plugins()
    plugins.register(Slow(), "slow")
    plugins.register(Stamp(), "stamp")

    prices = {(p.hook, p.plugin): p for p in await price_plugins(plugins, (), APP)}

    assert set(prices) == {
        ("wrap_publish", "slow"),
        ("wrap_publish", "stamp"),
        ("published", "slow"),
    }
    assert prices["wrap_publish", "slow"].microseconds >= 20
    assert prices["wrap_publish", "stamp"].microseconds < 20


async def test_a_hook_that_fails_without_a_start_has_a_problem_instead() -> None:
    plugins = Plugins()
    plugins.register(Refuse(), "refuse")

    (price,) = await price_plugins(plugins, (), APP)

    assert price.problem == "ValueError: not today"


def test_the_command_prints_prices_as_a_table_and_as_json() -> None:
    table = CliRunner().invoke(cli, ["plugins", "--price", "examples.orders:app"]).output
    data = CliRunner().invoke(cli, ["plugins", "--price", "--json", "examples.orders:app"]).output

    assert "HOOK " in table
    assert "wrap_commit" in table.split("MICROSECONDS PER CALL")[1]
    prices = json.loads(data)["prices"]
    assert {"wrap_publish", "wrap_consume", "wrap_commit"} <= {price["hook"] for price in prices}
