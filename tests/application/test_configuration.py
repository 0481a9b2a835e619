"""How an application is configured: precedence, plugins, their order (D10, D27, C1)."""

from __future__ import annotations

from typing import Any

import pytest

from kafkaesk_core import Application, ConfigurationError, PluginError, hookimpl


class Layer:
    """A plugin that does nothing; its name is given."""

    def __init__(self, name: str, stage: str | None = None) -> None:
        self.name = name
        self.stage = stage

    @hookimpl
    async def wrap_publish(self, message: Any, call_next: Any) -> Any:
        return await call_next(message)

    @hookimpl
    async def wrap_consume(self, message: Any, call_next: Any) -> Any:
        return await call_next(message)


async def handle(data: bytes) -> None: ...


def test_configure_wins_over_the_constructor_and_leaves_the_rest() -> None:
    app = Application(["a:1"], "prefix.", partitions=3)

    app.configure(topic_prefix="other.", partitions=5)

    assert app.settings.kafka_servers == ("a:1",)
    assert (app.settings.topic_prefix, app.settings.partitions) == ("other.", 5)


def test_a_wrong_configuration_changes_nothing() -> None:
    app = Application(["a:1"], partitions=3)

    with pytest.raises(Exception, match="partitions"):
        app.configure(topic_prefix="other.", partitions=0)

    assert (app.settings.topic_prefix, app.settings.partitions) == ("", 3)


def test_layers_lie_by_stage_and_the_services_own_are_innermost() -> None:
    app = Application(
        plugins=[Layer("own"), Layer("seen", "observe"), Layer("again", "recover")],
        entry_points=False,
    )

    assert app.chains()["wrap_publish"] == ["seen", "again", "own", "encode", "send"]


@pytest.mark.parametrize("names", ["own, again", '["own", "again"]', "own,again,"])
def test_the_environment_decides_on_the_order(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKAESK_PLUGIN_ORDER", names)

    app = Application(
        plugins=[Layer("own"), Layer("seen", "observe"), Layer("again", "recover")],
        plugin_order=["again"],
        entry_points=False,
    )

    assert app.chains()["wrap_publish"][:3] == ["own", "again", "seen"]


def test_a_subscription_leaves_out_the_layers_it_names() -> None:
    app = Application(plugins=[Layer("one"), Layer("two")], entry_points=False)
    app.subscribe("a", "first")(handle)
    app.subscribe("b", "second", skip_plugins=["one"])(handle)

    chains = app.chains()

    assert chains["wrap_consume (first)"][:2] == ["one", "two"]
    assert chains["wrap_consume (second)"][:2] == ["two", "decode"]


def test_an_allowed_plugin_that_is_not_installed_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKAESK_PLUGINS", "nowhere")

    with pytest.raises(PluginError, match="nowhere"):
        Application().load_plugins()


@pytest.mark.parametrize("names", ["otel,logging", '["otel", "logging"]'])
def test_plugins_are_disabled_by_a_list_with_commas_or_in_json(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKAESK_DISABLE_PLUGINS", names)
    app = Application()

    app.load_plugins()

    disabled = {info.name for info in app.plugins.list() if info.status == "disabled"}
    assert disabled - {"retry"} == {"otel", "logging"}  # the tests switch that one off


@pytest.mark.parametrize("variable", ["PLUGINS", "DISABLE_PLUGINS", "PLUGIN_ORDER"])
@pytest.mark.parametrize("value", ['["otel"', "[1, 2]"])
def test_a_list_of_plugins_that_is_not_one_is_an_error_naming_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"KAFKAESK_{variable}", value)

    with pytest.raises(ConfigurationError, match=f"KAFKAESK_{variable}"):
        Application().load_plugins()


def test_a_function_of_the_service_is_a_hook_by_its_name() -> None:
    app = Application(entry_points=False)

    @app.hook
    async def wrap_publish(message: Any, call_next: Any) -> Any:
        return await call_next(message)

    (info,) = app.plugins.list()
    assert (info.name, info.hooks) == (f"{__name__}.wrap_publish", ("wrap_publish",))
    with pytest.raises(PluginError, match="wrap_pubish"):

        @app.hook
        async def wrap_pubish(message: Any, call_next: Any) -> Any: ...
