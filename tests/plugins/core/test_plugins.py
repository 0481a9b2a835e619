"""The registry of one application: order, late changes, lifespans, parameters, schemas."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkaesk_core.app_protocol import App
from kafkaesk_core.errors import PluginError
from kafkaesk_core.hooks import hookimpl
from kafkaesk_core.message import IncomingMessage
from kafkaesk_core.plugins.manager import Plugins
from kafkaesk_core.router import Subscription
from kafkaesk_core.schema.registry import SchemaRegistration

# Any in this file: stand-ins for messages, and plugins that answer wrongly on purpose.
APP = cast(App, object())
STAGES = ["observe", "recover", "transform", None]


class Layer:
    """Implements a chain, an observer and a lifespan, in the normal place of its stage."""

    def __init__(self, name: str = "layer", stage: str | None = None) -> None:
        self.name, self.stage = name, stage

    @hookimpl
    async def wrap_publish(self, message: Any, call_next: Any) -> Any:
        return [self.name, *await call_next(message)]

    @hookimpl
    def published(self, message: Any) -> None:
        message.append(self.name)

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        NOTES.append(f"{self.name} in")
        yield
        NOTES.append(f"{self.name} out")


NOTES: list[str] = []


class First(Layer):
    @hookimpl(tryfirst=True)
    async def wrap_publish(self, message: Any, call_next: Any) -> Any:
        return [self.name, *await call_next(message)]


class Last(Layer):
    @hookimpl(trylast=True)
    async def wrap_publish(self, message: Any, call_next: Any) -> Any:
        return [self.name, *await call_next(message)]


async def nothing(message: Any) -> list[str]:
    return []


async def called(plugins: Plugins) -> list[str]:
    return await plugins.chain("wrap_publish", nothing, app=APP)("m")


async def test_stages_decide_the_order_whatever_the_order_of_registration() -> None:
    plugins = Plugins()
    for name, stage in [("c", "transform"), ("a", "observe"), ("d", None), ("b", "recover")]:
        plugins.register(Layer(name, stage), source="app" if stage is None else "package")

    assert await called(plugins) == ["a", "b", "c", "d"]
    assert plugins.layers("wrap_publish") == ["a", "b", "c", "d"]


def test_a_package_s_plugin_without_a_stage_is_a_transform_and_outside_the_service_s_own() -> None:
    plugins = Plugins()
    plugins.register(Layer("a"), source="app")
    plugins.register(Layer("b"), source="package")

    assert plugins.layers("wrap_publish") == ["b", "a"]
    assert [info.stage for info in plugins.list()] == [None, "transform"]


def test_tracing_that_a_service_passes_in_code_is_outside_retry_because_it_names_its_stage() -> (
    None
):
    plugins = Plugins()
    plugins.register(Layer("dead-letter", "recover"), source="package")
    plugins.register(Layer("tracing", "observe"), source="app")

    assert plugins.layers("wrap_publish") == ["tracing", "dead-letter"]


async def test_tryfirst_is_outermost_and_trylast_innermost_within_a_stage_only() -> None:
    plugins = Plugins()
    for plugin in (
        Layer("b", "recover"),
        Last("a", "recover"),
        First("c", "recover"),
        Layer("d", "observe"),
        First("e", "transform"),
    ):
        plugins.register(plugin)

    assert await called(plugins) == ["d", "c", "b", "a", "e"]


def test_the_order_list_overrides_stages_and_the_rest_follows_by_the_rule() -> None:
    plugins = Plugins(order=["z", "b", "absent"])
    for name, stage in [("a", "observe"), ("b", "transform"), ("c", None), ("z", None)]:
        plugins.register(Layer(name, stage))

    assert plugins.layers("wrap_publish") == ["z", "b", "a", "c"]


def test_observers_and_lifespans_have_the_order_of_the_layers() -> None:
    plugins = Plugins()
    for name, stage in [("c", "transform"), ("a", "observe"), ("b", "recover")]:
        plugins.register(Layer(name, stage))
    message: list[str] = []

    notify = plugins.notifier("published", app=APP)
    assert notify is not None
    notify(message, None, None)

    assert message == ["a", "b", "c"]
    assert plugins.layers("lifespan") == ["a", "b", "c"]


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(STAGES)),
        unique_by=lambda entry: entry[0],
    ),
    st.randoms(use_true_random=False),
    st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=3),
)
def test_the_order_depends_on_the_plugins_and_not_on_when_they_were_registered(
    entries: list[tuple[str, str | None]], random: Any, order: list[str]
) -> None:
    shuffled = random.sample(entries, len(entries))
    one, other = Plugins(order=order), Plugins(order=order)
    for name, stage in entries:
        one.register(Layer(name, stage))
    for name, stage in shuffled:
        other.register(Layer(name, stage))

    layers = one.layers("wrap_publish")

    named = [name for name in order if name in layers]
    depths = [STAGES.index(dict(entries)[name]) for name in layers[len(named) :]]
    assert layers == other.layers("wrap_publish")
    assert layers[: len(named)] == named
    assert depths == sorted(depths)


async def test_a_plugin_registered_late_takes_its_place_and_the_application_is_told() -> None:
    changes: list[list[str]] = []
    plugins = Plugins(on_change=lambda: changes.append(plugins.layers("wrap_publish")))
    plugins.register(Layer("a", "observe"))
    plugins.register(Layer("c", "transform"))
    old = plugins.chain("wrap_publish", nothing, app=APP)

    plugins.register(Layer("b", "recover"))

    assert changes == [["a"], ["a", "c"], ["a", "b", "c"]]
    assert await called(plugins) == ["a", "b", "c"]
    assert await old("m") == ["a", "c"]


def test_a_plugin_is_unregistered_by_name_or_object_and_the_application_is_told() -> None:
    changes: list[str] = []
    plugins = Plugins(on_change=lambda: changes.append("changed"))
    one = Layer("one")
    plugins.register(one)
    plugins.register(Layer("two"))

    plugins.unregister(one)
    plugins.unregister("two")

    assert plugins.list() == []
    assert changes == ["changed"] * 4
    assert plugins.chain("wrap_publish", nothing, app=APP) is nothing


def test_unregistering_what_is_not_registered_names_the_closest() -> None:
    plugins = Plugins()
    plugins.register(Layer("tracing"))

    with pytest.raises(PluginError, match="'tracin' is registered; did you mean 'tracing'"):
        plugins.unregister("tracin")
    with pytest.raises(PluginError, match="no plugin <"):
        plugins.unregister(Layer("other"))


def test_a_plugin_is_called_by_its_attribute_or_by_its_class() -> None:
    class DeadLetter:
        claimed_headers = frozenset({"x-error"})

    class HTTPAudit2:
        claimed_headers = frozenset({"x-audit"})

    plugins = Plugins()

    assert plugins.register(Layer("a")) == "a"
    assert plugins.register(Layer("b"), "c") == "c"
    assert plugins.register(DeadLetter()) == "dead-letter"
    assert plugins.register(HTTPAudit2()) == "httpaudit2"


def test_the_list_is_sorted_and_can_be_written_as_json() -> None:
    plugins = Plugins()
    plugins.register(Layer("tracing", "observe"), source="kafkaesk-otel")
    plugins.register(Layer("audit"))

    rows = json.loads(json.dumps([dataclasses.asdict(info) for info in plugins.list()]))

    assert [row["name"] for row in rows] == ["audit", "tracing"]
    assert rows[1] == {
        "name": "tracing",
        "source": "kafkaesk-otel",
        "value": f"{__name__}:Layer",
        "version": "",
        "status": "active",
        "reason": "",
        "hooks": ["lifespan", "published", "wrap_publish"],
        "stage": "observe",
    }


def test_hooks_cannot_be_called_through_the_registry() -> None:
    public = {name for name in dir(Plugins()) if not name.startswith("_")}

    assert public == {
        "bind_parameter",
        "codec",
        "of_stage",
        "only_observes",
        "upcasts",
        "find_raiser",
        "chain",
        "check_subscription",
        "claimed_headers",
        "claimed_options",
        "claimed_streams",
        "declare",
        "declare_schema",
        "layers",
        "log_layers",
        "get",
        "hindrances",
        "reports",
        "lifespans",
        "name_failure",
        "list",
        "load_entry_points",
        "note_raiser",
        "notifier",
        "observer_errors",
        "register",
        "unregister",
    }


async def test_lifespans_are_entered_outermost_first_and_left_in_reverse() -> None:
    NOTES.clear()
    plugins = Plugins()
    plugins.register(Layer("b", "transform"))
    plugins.register(Layer("a", "observe"))

    async with AsyncExitStack() as stack:
        for lifespan in plugins.lifespans(APP):
            await stack.enter_async_context(lifespan)

    assert NOTES == ["a in", "b in", "b out", "a out"]


def test_a_lifespan_that_fails_or_returns_something_else_is_an_error_naming_the_plugin() -> None:
    class Fails:
        @hookimpl
        def lifespan(self) -> Any:
            raise ValueError("no address")

    class Forgets:
        @hookimpl
        def lifespan(self, app: App) -> Any:
            return None

    for plugin, text in [
        (Fails(), "plugin 'fails' failed in lifespan: ValueError: no address"),
        (Forgets(), "plugin 'forgets': lifespan returned NoneType, expected an async context"),
    ]:
        plugins = Plugins()
        plugins.register(plugin)
        with pytest.raises(PluginError) as caught:
            plugins.lifespans(APP)
        assert text in str(caught.value)
        assert caught.value.hook == "lifespan"


async def a_handler(data: dict[str, Any], span: int = 0) -> None: ...


SUBSCRIPTION = Subscription("orders", a_handler, "workers", pattern="orders")
PARAMETER = inspect.Parameter("span", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=int)


class Binder:
    def __init__(self, name: str, answer: Any, stage: str | None = None) -> None:
        self.name, self.answer, self.stage = name, answer, stage

    @hookimpl
    def bind_parameter(self, parameter: inspect.Parameter, subscription: Subscription) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if parameter.annotation is int else None


def test_a_parameter_is_bound_by_the_outermost_plugin_that_claims_it() -> None:
    def bind(message: IncomingMessage) -> int:
        return message.offset

    plugins = Plugins()
    plugins.register(Binder("silent", None, "observe"))
    plugins.register(Binder("claims", bind, "recover"))
    plugins.register(Binder("late", ValueError("not asked"), "transform"))

    assert plugins.bind_parameter(PARAMETER, SUBSCRIPTION) is bind


def test_a_parameter_nobody_claims_is_bound_to_nothing() -> None:
    plugins = Plugins()
    plugins.register(Binder("claims-int", lambda message: 1))

    bound = plugins.bind_parameter(PARAMETER.replace(annotation=str), SUBSCRIPTION)

    assert bound is None
    assert Plugins().bind_parameter(PARAMETER, SUBSCRIPTION) is None


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (ValueError("no tracer"), "plugin 'p' failed in bind_parameter: ValueError: no tracer"),
        ("span", "plugin 'p': bind_parameter returned str, expected a function or None"),
    ],
)
def test_a_plugin_that_fails_to_bind_a_parameter_is_named(answer: Any, text: str) -> None:
    plugins = Plugins()
    plugins.register(Binder("p", answer))

    with pytest.raises(PluginError, match=text):
        plugins.bind_parameter(PARAMETER, SUBSCRIPTION)


def test_claimed_headers_are_the_union_of_all_plugins() -> None:
    class Trace(Layer):
        claimed_headers = frozenset({"traceparent", "tracestate"})

    class Hops(Layer):
        claimed_headers = frozenset({"kafkaesk-hops"})

    plugins = Plugins()
    assert plugins.claimed_headers == frozenset()

    for plugin in (Trace("a"), Hops("b"), Layer("c")):
        plugins.register(plugin)

    assert plugins.claimed_headers == {"traceparent", "tracestate", "kafkaesk-hops"}


class Listener:
    def __init__(self, name: str, stage: str | None = None) -> None:
        self.name, self.stage, self.known = name, stage, list[str]()

    @hookimpl
    def schema_registered(self, schema: SchemaRegistration, app: App) -> None:
        self.known.append(schema.id)
        if schema.id == "Bad":
            raise ValueError("not this one")


def schema(name: str) -> SchemaRegistration:
    return SchemaRegistration(name, 1, document={"type": "object"})


def test_a_schema_is_told_to_plugins_of_now_and_replayed_to_those_registered_later() -> None:
    plugins = Plugins()
    early, late = Listener("early"), Listener("late")
    plugins.register(early)

    plugins.declare_schema(schema("A"), APP)
    plugins.register(late)
    plugins.declare_schema(schema("B"), APP)

    assert early.known == ["A", "B"]
    assert late.known == ["A", "B"]


def test_replay_happens_when_the_plugin_is_registered_whole() -> None:
    plugins = Plugins()
    seen: list[list[str]] = []

    class Looks:
        @hookimpl
        def schema_registered(self) -> None:
            seen.append(plugins.layers("wrap_publish"))

        @hookimpl
        async def wrap_publish(self, message: Any, call_next: Any) -> Any: ...

    plugins.declare_schema(schema("A"), APP)
    plugins.register(Looks())

    assert seen == [["looks"]]


def test_a_declaration_a_plugin_raised_on_reaches_the_others_and_is_logged_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plugins = Plugins()
    one, two, late = Listener("one", "observe"), Listener("two"), Listener("late")
    plugins.register(one)
    plugins.register(two)

    plugins.declare_schema(schema("Bad"), APP)
    plugins.declare_schema(schema("Good"), APP)
    plugins.register(late)

    assert one.known == two.known == late.known == ["Bad", "Good"]
    assert plugins.observer_errors.total() == 3
    assert "plugin 'late' failed in schema_registered" in caplog.text


def test_two_applications_share_nothing() -> None:
    one, two = Plugins(), Plugins()
    one.register(Layer("a"))
    one.declare_schema(schema("A"), APP)
    listener = Listener("listener")

    two.register(listener)

    assert [info.name for info in two.list()] == ["listener"]
    assert listener.known == []


async def test_a_module_is_one_plugin_for_the_whole_process() -> None:
    @hookimpl
    async def wrap_publish(message: Any, call_next: Any) -> list[str]:
        vars(module)["count"] += 1
        return [str(vars(module)["count"]), *await call_next(message)]

    module = ModuleType("shared")
    vars(module).update(wrap_publish=wrap_publish, count=0)
    one, two = Plugins(), Plugins()
    one.register(module)
    two.register(module)

    assert await called(one) == ["1"]
    assert await called(two) == ["2"]
