"""What registration refuses, and the words it says."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core.errors import PluginError
from kafkaesk_core.hooks import HOOK_API, hookimpl
from kafkaesk_core.plugins.manager import Plugins

# Any in this file: most of these plugins are wrong on purpose.


def refusal(plugin: object, name: str = "p") -> PluginError:
    plugins = Plugins()
    with pytest.raises(PluginError) as caught:
        plugins.register(plugin, name)
    assert plugins.list() == []
    assert plugins.layers("wrap_publish") == []
    return caught.value


class Fine:
    @hookimpl
    async def wrap_publish(self, message: Any, call_next: Any) -> Any:
        return await call_next(message)


def test_a_wrap_hook_that_is_not_async_is_refused_with_its_place() -> None:
    class NotAsync:
        @hookimpl
        def wrap_publish(self, message: Any, call_next: Any) -> Any:
            return call_next(message)

    error = refusal(NotAsync())

    line = NotAsync.wrap_publish.__code__.co_firstlineno
    place = f"(test_plugins_contract.py:{line})"
    assert str(error) == f"plugin 'p': wrap_publish must be 'async def' {place}"
    assert (error.plugin, error.hook) == ("p", "wrap_publish")


def test_a_wrap_hook_that_yields_is_refused() -> None:
    class Generator:
        @hookimpl
        async def wrap_publish(self, message: Any, call_next: Any) -> AsyncIterator[None]:
            yield

    assert "wrap_publish must be 'async def' without yield" in str(refusal(Generator()))


def test_the_first_two_arguments_in_another_order_are_refused() -> None:
    class Swapped:
        @hookimpl
        async def wrap_publish(self, call_next: Any, message: Any) -> Any:
            return await call_next(message)

    text = "plugin 'p': wrap_publish(call_next, message) must start with (message, call_next) ("
    assert str(refusal(Swapped())).startswith(text)


def test_a_wrap_hook_without_call_next_is_refused() -> None:
    class Short:
        @hookimpl
        async def wrap_consume(self, message: Any, subscription: Any) -> Any: ...

    text = "wrap_consume(message, subscription) must start with (message, call_next)"
    assert text in str(refusal(Short()))


def test_an_unknown_hook_is_refused_with_the_closest_known_one() -> None:
    class Misspelt:
        @hookimpl
        async def wrap_pubish(self, message: Any, call_next: Any) -> Any: ...

    assert str(refusal(Misspelt())) == (
        "plugin 'p': unknown hook 'wrap_pubish'; did you mean 'wrap_publish'? "
        "(mark it optionalhook=True if it is for a newer core)"
    )


def test_an_unknown_hook_marked_optional_is_for_a_newer_core_and_accepted() -> None:
    class Newer:
        @hookimpl(optionalhook=True)
        async def wrap_teleport(self, message: Any, call_next: Any) -> Any: ...

    plugins = Plugins()
    plugins.register(Newer())

    (info,) = plugins.list()
    assert info.hooks == ()


def test_a_method_with_a_hook_s_name_and_no_mark_is_refused() -> None:
    class Unmarked(Fine):
        async def wrap_consume(self, message: Any, call_next: Any) -> Any: ...

    assert str(refusal(Unmarked())) == (
        "plugin 'p': wrap_consume() has the name of a hook but no @hookimpl; "
        "decorate it or rename it"
    )


def test_a_counter_with_a_hook_s_name_is_no_hook() -> None:
    class Counting(Fine):
        published = 0

    plugins = Plugins()
    plugins.register(Counting())

    assert plugins.notifier("published") is None


def test_wrapper_true_is_refused_because_the_runtime_awaits() -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def wrap_publish(self, message: Any, call_next: Any) -> Iterator[Any]:
            yield

    assert str(refusal(Wrapper())) == (
        "plugin 'p': wrap_publish is awaited by the runtime and cannot be wrapper=True; "
        "write async def wrap_publish(self, message, call_next)"
    )


def test_a_wrapper_of_a_notification_is_refused_too() -> None:
    class Wrapper:
        @hookimpl(hookwrapper=True)
        def published(self, message: Any) -> Iterator[Any]:
            yield

    text = "published is called by the runtime itself and cannot be wrapper=True"
    assert text in str(refusal(Wrapper()))


def test_a_notification_declared_async_is_refused() -> None:
    class Async:
        @hookimpl
        async def published(self, message: Any) -> None: ...

    text = "plugin 'p': published is a notification and must be a plain 'def' ("
    assert str(refusal(Async())).startswith(text)


def test_bind_parameter_declared_async_is_refused() -> None:
    class Async:
        @hookimpl
        async def bind_parameter(self, parameter: Any) -> None: ...

    assert "bind_parameter is called once at start and must be a plain" in str(refusal(Async()))


def test_a_lifespan_that_is_a_bare_generator_is_refused_and_a_decorated_one_accepted() -> None:
    class Bare:
        @hookimpl
        async def lifespan(self) -> AsyncIterator[None]:
            yield

    class Decorated:
        @hookimpl
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            yield

    assert "decorate it with @contextlib.asynccontextmanager" in str(refusal(Bare()))
    Plugins().register(Decorated())


def test_a_class_is_refused_because_an_instance_is_meant() -> None:
    assert str(refusal(Fine)) == (
        "plugin 'p': got the class Fine, expected an instance; did you forget '()'?"
    )


def test_an_unknown_argument_is_refused_with_the_known_ones() -> None:
    class Misspelt:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: Any, subscripton: Any) -> Any: ...

    text = str(refusal(Misspelt()))

    assert "wrap_consume has no argument 'subscripton'; did you mean 'subscription'?" in text
    assert "known are message, call_next, subscription, app" in text


def test_a_required_keyword_only_argument_is_refused_because_hooks_pass_by_position() -> None:
    class Keyword:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: Any, *, app: Any) -> Any: ...

    class Optional:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: Any, *, app: Any = None) -> Any: ...

    for plugin in (Keyword(), Optional()):
        assert "is keyword-only, which hooks do not pass" in str(refusal(plugin))


def test_a_private_keyword_only_argument_with_a_default_is_accepted() -> None:
    class Private:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: Any, *, depth: int = 0) -> Any: ...

    Plugins().register(Private())


def test_star_arguments_are_refused_because_nothing_would_arrive_in_them() -> None:
    class Star:
        @hookimpl
        def published(self, **everything: Any) -> None: ...

    assert "published: *everything gets nothing; name the arguments" in str(refusal(Star()))


def test_a_wrong_stage_is_refused_with_the_closest_one() -> None:
    class Observing(Fine):
        stage = "observer"

    assert str(refusal(Observing())) == (
        "plugin 'p': stage 'observer' is not one of observe, recover, transform, deliver; "
        "did you mean 'observe'?"
    )


def test_a_plugin_for_another_hook_api_is_refused() -> None:
    class Old(Fine):
        hook_api = HOOK_API + 1

    text = f"is written for hook API {HOOK_API + 1}, this kafkaesk-core has {HOOK_API}"
    assert text in str(refusal(Old()))


def test_claimed_headers_must_be_a_set_because_a_string_is_one_of_letters() -> None:
    class Letters(Fine):
        claimed_headers = "traceparent"

    assert "claimed_headers is 'traceparent', expected a frozenset" in str(refusal(Letters()))


def test_a_dataclass_compared_by_equality_is_refused() -> None:
    @dataclasses.dataclass
    class Equal(Fine):
        limit: int = 1

    @dataclasses.dataclass(eq=False)
    class Identical(Fine):
        limit: int = 1

    assert "Equal is compared by ==" in str(refusal(Equal()))
    plugins = Plugins()
    plugins.register(Identical(), "a")
    plugins.register(Identical(), "b")
    assert plugins.layers("wrap_publish") == ["a", "b"]


def test_a_pydantic_model_as_plugin_is_refused() -> None:
    class Model(BaseModel):
        limit: int = 1

        @hookimpl
        async def wrap_publish(self, message: Any, call_next: Any) -> Any: ...

    assert "keep pydantic models for its settings" in str(refusal(Model()))


def test_an_object_without_any_hook_is_refused() -> None:
    class Nothing:
        pass

    assert "Nothing implements no hook" in str(refusal(Nothing()))


def test_a_name_that_is_taken_is_refused_naming_who_has_it() -> None:
    plugins = Plugins()
    plugins.register(Fine(), "p", source="kafkaesk-fine")

    with pytest.raises(PluginError) as caught:
        plugins.register(Fine(), "p")

    assert "the name is taken by" in str(caught.value)
    assert ":Fine from kafkaesk-fine; give this one another" in str(caught.value)
    assert len(plugins.list()) == 1


def test_one_object_registered_twice_is_refused_naming_its_first_name() -> None:
    plugins = Plugins()
    plugin = Fine()
    plugins.register(plugin, "a")

    with pytest.raises(PluginError, match="'b' is registered already, as 'a'"):
        plugins.register(plugin, "b")


def test_properties_of_a_plugin_are_not_evaluated() -> None:
    class Lazy(Fine):
        @property
        def connection(self) -> Any:
            raise AssertionError("evaluated")

        @property
        def published(self) -> Any:
            raise AssertionError("evaluated")

    Plugins().register(Lazy())


def test_a_refused_plugin_can_be_registered_once_it_is_repaired() -> None:
    class Repairable(Fine):
        stage = "nowhere"

    plugin = Repairable()
    plugins = Plugins()
    with pytest.raises(PluginError, match="stage"):
        plugins.register(plugin, "p")

    plugin.stage = "observe"
    plugins.register(plugin, "p")

    assert plugins.layers("wrap_publish") == ["p"]


def test_static_and_class_methods_and_modules_implement_hooks() -> None:
    class Static:
        @staticmethod
        @hookimpl
        async def wrap_publish(message: Any, call_next: Any) -> Any: ...

        @classmethod
        @hookimpl
        def published(cls, message: Any) -> None: ...

    @hookimpl
    async def wrap_publish(message: Any, call_next: Any) -> Any: ...

    module = ModuleType("shop.hooks")
    vars(module)["wrap_publish"] = wrap_publish
    plugins = Plugins()
    plugins.register(Static())
    plugins.register(module)

    assert plugins.layers("wrap_publish") == ["shop.hooks", "static"]
    assert plugins.layers("published") == ["static"]


def test_a_method_that_implements_a_hook_under_another_name_says_which() -> None:
    class Renamed:
        @hookimpl(specname="published")
        def count(self, message: Any) -> None: ...

    plugins = Plugins()
    plugins.register(Renamed())

    (info,) = plugins.list()
    assert info.hooks == ("published",)
