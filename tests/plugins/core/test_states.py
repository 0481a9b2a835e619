"""How plugins and subscriptions are: `health`, `report`, and what `status()` shows of handlers."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from kafkaesk_core import App, Application, IncomingMessage, PluginError, Retry, Skip, hookimpl
from kafkaesk_testing import eventually


class Breaker:
    """Is open or closed."""

    name = "breaker"

    def __init__(self) -> None:
        self.is_open = False

    @hookimpl
    def health(self) -> Iterator[str]:
        if self.is_open:
            yield "the breaker of billing is open"

    @hookimpl
    def report(self, app: App) -> dict[str, Any]:
        return {"open": self.is_open, "groups": {one.group for one in app.subscriptions}}


class Failing:
    """Fails in both."""

    @hookimpl
    def health(self) -> str:
        return "fine"

    @hookimpl
    def report(self) -> dict[str, Any]:
        raise OSError("no disk")


async def handle(data: bytes) -> None: ...


async def test_a_plugin_degrades_the_application_and_reports(embedded_app: Application) -> None:
    plugin = Breaker()
    embedded_app.plugins.register(plugin)
    embedded_app.subscribe("orders", "billing")(handle)
    stopped = embedded_app.status(), embedded_app.health()

    async with embedded_app:
        well = embedded_app.health()
        plugin.is_open = True
        ill, status = embedded_app.health(), embedded_app.status()

    assert stopped[0].plugins == {}
    assert not well.is_degraded
    assert ill.reasons == ("plugin 'breaker': the breaker of billing is open",)
    assert ill.is_live
    assert ill.is_ready
    assert status.plugins == {"breaker": {"open": True, "groups": ["billing"]}}
    assert json.loads(json.dumps(status.as_dict()))["plugins"] == status.plugins


async def test_a_plugin_that_fails_there_is_told_and_harms_no_other(
    embedded_app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    embedded_app.plugins.register(Failing())
    embedded_app.plugins.register(Breaker())

    async with embedded_app:
        health, status = embedded_app.health(), embedded_app.status()
        embedded_app.health()

    assert health.is_live
    assert health.reasons == (
        "plugin 'failing' failed in health: TypeError: returned 'fine', expected a list of texts",
    )
    assert status.plugins["breaker"]["open"] is False
    assert status.plugins["failing"] == {
        "error": "plugin 'failing' failed in report: OSError: no disk"
    }
    assert embedded_app.plugins.observer_errors == {"failing.health": 2, "failing.report": 1}
    assert caplog.text.count("plugin 'failing' failed in health (first failure)") == 1


def test_a_method_that_only_has_the_name_of_a_later_hook_is_none() -> None:
    class Older:
        claimed_headers = frozenset({"older"})

        def health(self) -> bool:
            return True

        def declare(self, exchange: str, durable: bool) -> None: ...

    class Forgot:
        claimed_headers = frozenset({"forgot"})

        def health(self, app: Any) -> list[str]:
            return []

    app = Application(plugins=[Older()], entry_points=False)

    assert app.plugins.list()[0].hooks == ()
    with pytest.raises(PluginError, match=r"health\(\) has the name of a hook but no @hookimpl"):
        app.plugins.register(Forgot())


async def test_the_status_of_a_subscription_has_its_results_and_its_last_error(
    kafkaesk_app: Application,
) -> None:
    app = kafkaesk_app
    app.configure(partitions=1)

    def decide(error: BaseException, message: IncomingMessage) -> Skip | Retry:
        return Skip("given up") if message.key == b"skip" else Retry(delay=60)

    @app.subscribe("orders", "billing", ordering="key", on_error=decide)
    async def bill(data: bytes, record: ConsumerRecord) -> None:
        if record.key in (b"skip", b"retry"):
            raise ConnectionError(f"no answer about {data.decode()}")

    app.subscribe("other", "billing")(handle)

    async with app:
        for key in (b"fine", b"skip", b"retry"):
            await app.raw_publish("orders", b"an order", key)
        consuming = asyncio.create_task(app.consume_forever())
        await eventually(lambda: app.status().groups and results(app).get("retry"), within=20)
        (group,) = app.status().groups
        await app.stop()
        await consuming

    first, second = group.subscriptions
    assert (first.handler.rpartition(".")[2], first.streams) == ("bill", ("orders",))
    assert first.results == {"done": 1, "skip": 1, "retry": 1}
    assert (first.running, first.parked) == (0, 1)
    assert first.last_error is not None
    assert first.last_error.error == "ConnectionError: no answer about an order"
    assert (first.last_error.partition, first.last_error.offset) == (0, 2)
    assert first.last_error.topic == f"{app.settings.topic_prefix}orders"
    assert (second.results, second.last_error) == ({}, None)
    json.dumps(app.status().as_dict())


def results(app: Application) -> dict[str, int]:
    return app.status().groups[0].subscriptions[0].results


DECLARES_AND_RUNS = {
    *("configure", "override", "plugins", "hook", "load_plugins", "chains", "mount", "on"),
    *("subscribe", "subscribe_to_pattern", "subscribe_to_topics", "schema"),
    *("publishes", "publications", "mounted"),
    *("initialize", "finalize", "shutdown", "consume_for", "consume_forever", "health_check"),
}
"""What hooks need not do, or must not."""


def test_app_in_hooks_is_as_wide_as_the_application() -> None:
    public = {name for name in dir(Application) if not name.startswith("_")}

    assert public - DECLARES_AND_RUNS == {n for n in vars(App) if n[0] != "_"} - {"schema"}
    for name in public - DECLARES_AND_RUNS:
        narrow, wide = vars(App)[name], inspect.getattr_static(Application, name)
        assert isinstance(narrow, property) == isinstance(wide, property), name
        if not isinstance(narrow, property):
            assert inspect.signature(narrow) == inspect.signature(wide), name
