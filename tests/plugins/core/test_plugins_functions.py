"""Plugins made of one function, as `@app.hook` makes them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kafkaesk_core.app_protocol import App
from kafkaesk_core.errors import PluginError
from kafkaesk_core.hooks import ConsumeCall, hookimpl
from kafkaesk_core.plugins.contract import function_plugin
from kafkaesk_core.plugins.manager import Plugins

# Any in this file: stand-ins for messages, which the chain only passes on.
APP = cast(App, object())


async def wrap_consume(message: Any, call_next: ConsumeCall) -> Any:
    return f"wrapped {await call_next(message)}"


async def dedupe(message: Any, call_next: ConsumeCall, subscription: Any) -> Any:
    return f"{subscription} {await call_next(message)}"


async def echo(message: Any) -> Any:
    return message


async def test_a_function_named_like_a_hook_is_a_plugin_named_by_its_module() -> None:
    plugins = Plugins()
    name = plugins.register(function_plugin(wrap_consume))

    chain = plugins.chain("wrap_consume", echo, subscription="s", app=APP)

    assert name == f"{__name__}.wrap_consume"
    assert await chain("m") == "wrapped m"


async def test_a_function_of_any_name_implements_the_hook_it_is_given() -> None:
    plugins = Plugins()
    plugins.register(function_plugin(dedupe, "wrap_consume"))

    chain = plugins.chain("wrap_consume", echo, subscription="s", app=APP)

    (info,) = plugins.list()
    assert info.name == f"{__name__}.dedupe"
    assert info.value == f"{__name__}:dedupe"
    assert info.hooks == ("wrap_consume",)
    assert await chain("m") == "s m"


def test_a_function_keeps_its_tryfirst() -> None:
    @hookimpl(tryfirst=True)
    def zulu(message: Any) -> None: ...

    def alpha(message: Any) -> None: ...

    plugins = Plugins()
    plugins.register(function_plugin(alpha, "published"))
    plugins.register(function_plugin(zulu, "published"))

    assert [name.rsplit(".")[-1] for name in plugins.layers("published")] == ["zulu", "alpha"]


def test_a_function_may_name_its_stage_and_is_innermost_without_one() -> None:
    def alpha(message: Any) -> None: ...

    def zulu(message: Any) -> None: ...

    plugins = Plugins()
    plugins.register(function_plugin(alpha, "published"))
    plugins.register(function_plugin(zulu, "published", stage="observe"))

    assert [name.rsplit(".")[-1] for name in plugins.layers("published")] == ["zulu", "alpha"]


def test_one_function_serves_two_hooks_under_two_names() -> None:
    def note(event: Any) -> None: ...

    plugins = Plugins()
    plugins.register(function_plugin(note, "partitions_assigned"), "a")
    plugins.register(function_plugin(note, "partitions_revoked"), "b")

    assert plugins.layers("partitions_assigned") == ["a"]
    assert plugins.layers("partitions_revoked") == ["b"]


def test_a_function_whose_name_is_no_hook_is_refused_with_the_closest() -> None:
    async def wrap_consum(message: Any, call_next: ConsumeCall) -> Any: ...

    with pytest.raises(PluginError, match="unknown hook 'wrap_consum'; did you mean") as caught:
        Plugins().register(function_plugin(wrap_consum))

    assert caught.value.plugin == f"{__name__}.wrap_consum"


def test_two_functions_of_one_name_in_one_module_are_refused() -> None:
    plugins = Plugins()
    plugins.register(function_plugin(wrap_consume))

    with pytest.raises(PluginError, match="the name is taken"):
        plugins.register(function_plugin(wrap_consume))


async def test_blame_names_a_function_plugin() -> None:
    async def faulty(message: Any, call_next: ConsumeCall) -> Any:
        raise LookupError("a bug")

    plugins = Plugins()
    plugins.register(function_plugin(faulty, "wrap_consume"), "faulty")
    chain = plugins.chain("wrap_consume", echo, subscription="s", app=APP)

    with pytest.raises(LookupError) as caught:
        await chain("m")

    assert plugins.find_raiser(caught.value) == ("faulty", "wrap_consume")
