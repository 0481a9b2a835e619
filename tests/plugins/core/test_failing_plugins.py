"""Which plugin failed, and where: named wherever a plugin's code runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kafkaesk_core import (
    Application,
    BrokerUnreachableError,
    ConfigurationError,
    HandlerError,
    PluginError,
    SchemaConflictError,
    hookimpl,
)
from kafkaesk_core.plugins.manager import Plugins

wrong: Any = Application  # its arguments are wrong on purpose


class Audit:
    """Fails where it is told to, of an error that is given."""

    def __init__(self, place: str = "", error: Exception | None = None) -> None:
        self._place = place
        self._error = error or RuntimeError("boom")

    def _fail_in(self, place: str) -> None:
        if place == self._place:
            raise self._error

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        self._fail_in("entering")
        yield
        self._fail_in("leaving")

    @hookimpl
    async def wrap_schema(self, schema: Any, call_next: Any) -> None:
        self._fail_in("wrap_schema")
        await call_next(schema)

    @hookimpl
    def bind_parameter(self, parameter: Any, subscription: Any) -> None:
        self._fail_in("bind_parameter")

    @hookimpl
    def schema_registered(self, schema: Any, app: Any) -> None:
        self._fail_in("schema_registered")


def new_app(*plugins: object) -> Application:
    return Application("embedded://", entry_points=False, plugins=plugins)


@pytest.mark.parametrize(
    ("place", "hook", "told"),
    [
        ("entering", "lifespan", "failed while entering its lifespan: RuntimeError: boom"),
        ("wrap_schema", "wrap_schema", "failed in wrap_schema: RuntimeError: boom"),
        ("bind_parameter", "bind_parameter", "failed in bind_parameter: RuntimeError: boom"),
    ],
)
async def test_a_plugin_that_stops_the_start_is_named_with_its_hook(
    place: str, hook: str, told: str
) -> None:
    app = new_app(Audit(place))
    app.schema("Order")({"type": "object"})

    @app.subscribe("orders")
    async def bill(order: bytes, unknown: int = 0) -> None: ...

    with pytest.raises(PluginError, match=f"plugin 'audit' {told}") as raised:
        await app.initialize()

    assert (raised.value.plugin, raised.value.hook) == ("audit", hook)
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert raised.value.exit_code == 4


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BrokerUnreachableError("nobody answers"), 3),
        (ConfigurationError("no address"), 2),
        (ValueError("odd"), 4),
    ],
)
async def test_the_exit_code_is_that_of_what_the_plugin_raised(error: Exception, code: int) -> None:
    app = new_app(Audit("entering", error))

    with pytest.raises(PluginError) as raised:
        await app.initialize()

    assert raised.value.exit_code == code


async def test_what_the_core_refuses_inside_of_a_plugin_is_not_the_plugins_failure() -> None:
    app = new_app(Audit())
    for name in ("Order", "Payment"):
        app.schema(name, streams=["orders"])({"type": "object"})

    with pytest.raises(SchemaConflictError, match="topic orders carries schema 'Order'"):
        await app.initialize()


async def test_a_plugin_that_fails_while_it_is_left_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with new_app(Audit("leaving")):
        pass

    assert "plugin 'audit' failed while leaving its lifespan" in caplog.text
    assert "boom" in caplog.text


def test_a_plugin_that_fails_when_a_schema_is_declared_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    new_app(Audit("schema_registered")).schema("Order")({"type": "object"})

    told = "plugin 'audit' failed in schema_registered (first failure); the application continues"
    assert told in caplog.text


def test_a_plugin_whose_attributes_cannot_be_read_is_named() -> None:
    class Broken:
        @property
        def stage(self) -> str:
            raise ValueError("no stage")

    with pytest.raises(PluginError, match="'broken' cannot be registered: ValueError: no stage"):
        Plugins().register(Broken())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"plugins": "audit"}, r"plugins= takes a list of plugin instances, got the string 'aud"),
        ({"plugins": ["audit"]}, "plugins= takes a list of plugin instances, got 'audit' in it"),
        ({"plugins": [None]}, "plugins= takes .* got None in it"),
        ({"plugins": Audit()}, "plugins= takes a list of plugin instances, got <.*Audit"),
        ({"plugins": {"audit": Audit()}}, "plugins= takes a list of plugin instances, got {'aud"),
        ({"disable_plugins": "otel"}, "disable_plugins= takes a list of names, got the string"),
        ({"disable_plugins": [5]}, r"disable_plugins= takes a list of names, got \[5\]"),
        ({"plugin_order": "otel"}, "plugin_order= takes a list of names, got the string 'otel'"),
        ({"plugin_order": 5}, "plugin_order= takes a list of names, got 5"),
        ({"plugin_settings": ["otel"]}, r"plugin_settings= takes a mapping .*got list"),
        ({"plugin_settings": {"otel": "secret"}}, r"plugin_settings= takes a mapping .*got str$"),
        ({"entry_points": "no"}, "entry_points= takes True or False, got 'no'"),
    ],
)
def test_wrong_arguments_about_plugins_are_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises((ConfigurationError, PluginError), match=told):
        wrong(**arguments)


def test_names_of_plugins_may_come_from_a_generator() -> None:
    app = Application(disable_plugins=(name for name in ["otel"]), entry_points=False)

    assert app.plugins.list() == []


@pytest.mark.d4
@pytest.mark.parametrize("publishes", ["publish", "publish_many", "raw_publish"])
async def test_what_a_layer_raises_into_a_publisher_says_in_which_hook_of_which_plugin(
    publishes: str,
) -> None:
    class Audit:
        @hookimpl
        async def wrap_publish(self, message: Any, call_next: Any) -> Any:
            raise RuntimeError("boom")

    app = new_app(Audit())
    app.schema("Order", streams=["orders"])({"type": "object"})
    data: Any = {"publish": {}, "publish_many": [{}], "raw_publish": b""}[publishes]

    async with app:
        with pytest.raises(RuntimeError, match="boom") as raised:
            await getattr(app, publishes)("orders", data)

    assert raised.value.__notes__ == ["raised in wrap_publish of plugin 'audit'"]


@pytest.mark.d4
@pytest.mark.parametrize("annotation", [bytes, list[bytes]], ids=["one", "batch"])
async def test_what_a_layer_raises_around_a_handler_is_named_with_its_hook(annotation: Any) -> None:
    class Audit:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: Any) -> Any:
            raise RuntimeError("boom")

        @hookimpl
        async def wrap_consume_batch(self, messages: Any, call_next: Any) -> Any:
            raise RuntimeError("boom")

    app = new_app(Audit())

    async def bill(order: Any) -> None: ...

    bill.__annotations__["order"] = annotation
    app.subscribe("orders", "billing")(bill)
    hook = "wrap_consume" if annotation is bytes else "wrap_consume_batch"

    async with app:
        await app.raw_publish("orders", b"an order")
        with pytest.raises(HandlerError, match=f"RuntimeError: boom, in {hook} of plugin 'audit'"):
            await app.consume_forever()
