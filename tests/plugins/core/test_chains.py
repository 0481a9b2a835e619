"""Compiled chains, called as the publisher and the consumer call them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, cast

import pytest

from kafkaesk_core.app_protocol import App
from kafkaesk_core.errors import Retry, Skip, Stop
from kafkaesk_core.hooks import ConsumeCall, PublishCall, hookimpl
from kafkaesk_core.message import OutgoingMessage
from kafkaesk_core.plugins.chains import Raiser
from kafkaesk_core.plugins.manager import Plugins

# Any in this file: stand-ins for messages, which the chain only passes on.
APP = cast(App, object())
CONSTANTS: dict[str, Any] = {"subscription": "a subscription", "app": APP}


class Trace:
    """A layer that notes when it is entered and left."""

    def __init__(self, name: str, notes: list[str], stage: str = "transform") -> None:
        self.name, self.notes, self.stage = name, notes, stage

    @hookimpl
    async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
        self.notes.append(f"{self.name} in")
        try:
            return await call_next(message)
        finally:
            self.notes.append(f"{self.name} out")


def plugins_of(*plugins: object) -> Plugins:
    registry = Plugins()
    for plugin in plugins:
        registry.register(plugin)
    return registry


def chain_of(*plugins: object, terminal: Callable[[Any], Awaitable[Any]]) -> Any:
    return plugins_of(*plugins).chain("wrap_consume", terminal, **CONSTANTS)


async def echo(message: Any) -> Any:
    return f"handled {message}"


def test_a_chain_without_plugins_is_the_innermost_function_itself() -> None:
    plugins = Plugins()

    chain = plugins.chain("wrap_consume", echo, **CONSTANTS)

    assert chain is echo


def test_a_chain_whose_only_plugin_is_skipped_is_the_innermost_function_itself() -> None:
    plugins = plugins_of(Trace("tracing", []))

    chain = plugins.chain("wrap_consume", echo, skip={"tracing"}, **CONSTANTS)

    assert chain is echo


async def test_layers_are_nested_outermost_first() -> None:
    notes: list[str] = []
    chain = chain_of(
        Trace("inner", notes, "transform"), Trace("outer", notes, "observe"), terminal=echo
    )

    result = await chain("m")

    assert result == "handled m"
    assert notes == ["outer in", "inner in", "inner out", "outer out"]


async def test_a_layer_gets_the_arguments_it_names_in_any_order_and_no_others() -> None:
    got: list[Any] = []

    class Curious:
        @hookimpl
        async def wrap_commit(
            self, offsets: Any, call_next: Any, app: App, reason: str, newer: int = 7
        ) -> None:
            got.extend([app, reason, newer])
            await call_next(offsets)

    committed: list[Any] = []

    async def commit(offsets: Any) -> None:
        committed.append(offsets)

    chain = plugins_of(Curious()).chain("wrap_commit", commit, reason="interval", **CONSTANTS)
    await chain({"t": 1})

    assert got == [APP, "interval", 7]
    assert committed == [{"t": 1}]


async def test_an_argument_with_a_default_is_passed_when_this_core_has_it() -> None:
    got: list[Any] = []

    class Careful:
        @hookimpl
        async def wrap_consume(
            self, message: Any, call_next: ConsumeCall, newer: str = "absent", app: Any = None
        ) -> Any:
            got.extend([newer, app])
            return await call_next(message)

    await chain_of(Careful(), terminal=echo)("m")

    assert got == ["absent", APP]


def test_compiling_without_a_constant_that_hooks_may_ask_for_is_refused() -> None:
    plugins = Plugins()

    with pytest.raises(TypeError, match="needs subscription"):
        plugins.chain("wrap_consume", echo, app=APP)


async def test_a_layer_may_hand_on_another_message_and_another_result() -> None:
    class Shout:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            return (await call_next(message + "!")).upper()

    result = await chain_of(Shout(), terminal=echo)("m")

    assert result == "HANDLED M!"


async def test_a_layer_that_does_not_call_the_next_one_skips_the_message() -> None:
    handled: list[Any] = []

    async def handle(message: Any) -> None:
        handled.append(message)

    class Drop:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            return None

    await chain_of(Drop(), terminal=handle)("m")

    assert handled == []


async def test_call_next_may_be_called_again_so_that_a_plugin_retries() -> None:
    attempts: list[Any] = []

    async def fail_twice(message: Any) -> str:
        attempts.append(message)
        if len(attempts) < 3:
            raise ConnectionError("not yet")
        return "done"

    class Again:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            while True:
                try:
                    return await call_next(message)
                except ConnectionError:
                    continue

    result = await chain_of(Again(), terminal=fail_twice)("m")

    assert result == "done"
    assert attempts == ["m", "m", "m"]


async def test_a_retrying_layer_runs_the_layers_inside_it_again() -> None:
    notes: list[str] = []
    outcomes = iter([ConnectionError("not yet"), None])

    async def handle(message: Any) -> None:
        if error := next(outcomes):
            raise error

    class Again:
        stage = "recover"

        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            try:
                return await call_next(message)
            except ConnectionError:
                return await call_next(message)

    inner, outer = Trace("inner", notes), Trace("outer", notes, "observe")
    await chain_of(Again(), inner, outer, terminal=handle)("m")

    assert notes == ["outer in", "inner in", "inner out", "inner in", "inner out", "outer out"]


@pytest.mark.parametrize(
    "error", [ValueError("bad"), Retry("later"), Skip("no"), Stop("halt"), KeyboardInterrupt()]
)
async def test_exceptions_and_dispositions_pass_through_layers_untouched(
    error: BaseException,
) -> None:
    async def fail(message: Any) -> None:
        raise error

    notes: list[str] = []
    chain = chain_of(Trace("a", notes), Trace("b", notes), terminal=fail)

    caught = None
    try:
        await chain("m")
    except BaseException as raised:
        caught = raised

    assert caught is error
    assert notes == ["a in", "b in", "b out", "a out"]


async def test_a_layer_may_replace_or_swallow_an_exception() -> None:
    async def fail(message: Any) -> None:
        raise ValueError("inner")

    class Replace:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            try:
                return await call_next(message)
            except ValueError as error:
                raise RuntimeError("replaced") from error

    class Swallow:
        stage = "recover"

        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            try:
                return await call_next(message)
            except RuntimeError as error:
                return f"swallowed {error}"

    result = await chain_of(Replace(), Swallow(), terminal=fail)("m")

    assert result == "swallowed replaced"


async def test_except_exception_in_a_layer_eats_neither_cancellation_nor_dispositions() -> None:
    started = asyncio.Event()

    async def hang(message: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    async def skip(message: Any) -> None:
        raise Skip("not mine")

    class Swallow:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            try:
                return await call_next(message)
            except Exception:
                return "swallowed"

    task = asyncio.ensure_future(chain_of(Swallow(), terminal=hang)("m"))
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(Skip):
        await chain_of(Swallow(), terminal=skip)("m")


async def test_a_context_variable_set_in_a_layer_is_current_in_the_handler_and_below_it() -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: list[str] = []

    class Tenant:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            token = tenant.set(message)
            try:
                return await call_next(message)
            finally:
                tenant.reset(token)

    async def handle(message: Any) -> None:
        seen.append(tenant.get())
        seen.append(await asyncio.create_task(read()))
        seen.append(await asyncio.to_thread(tenant.get))

    async def read() -> str:
        return tenant.get()

    await chain_of(Tenant(), terminal=handle)("a")

    assert seen == ["a", "a", "a"]
    assert tenant.get() == "nobody"


async def test_context_variables_of_concurrent_messages_do_not_mix() -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    both = asyncio.Barrier(2)

    class Tenant:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            tenant.set(message)
            return await call_next(message)

    async def handle(message: Any) -> tuple[str, str]:
        async with both:
            return message, tenant.get()

    chain = chain_of(Tenant(), terminal=handle)
    results = await asyncio.gather(*(asyncio.create_task(chain(m)) for m in "ab"))

    assert results == [("a", "a"), ("b", "b")]


async def test_layers_and_handler_run_in_the_caller_s_task() -> None:
    tasks: list[Any] = []

    class Note:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            tasks.append(asyncio.current_task())
            return await call_next(message)

    async def handle(message: Any) -> None:
        tasks.append(asyncio.current_task())

    await chain_of(Note(), terminal=handle)("m")

    assert tasks == [asyncio.current_task()] * 2


async def test_a_layer_around_publish_gets_the_message_and_what_the_next_one_returned() -> None:
    message = OutgoingMessage("content", "prefix-content", b"x")

    class Header:
        @hookimpl
        async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Any:
            message.headers.append(("x-tenant", b"a"))
            return await call_next(message)

    async def send(message: OutgoingMessage) -> Any:
        return message.headers

    delivery = await plugins_of(Header()).chain("wrap_publish", send, app=APP)(message)

    assert delivery == [("x-tenant", b"a")]


async def test_a_layer_that_forgets_to_return_what_call_next_gave_gives_the_caller_none() -> None:
    class Forgetful:
        @hookimpl
        async def wrap_publish(self, message: Any, call_next: PublishCall) -> Any:
            await call_next(message)

    delivery = await plugins_of(Forgetful()).chain("wrap_publish", echo, app=APP)("m")

    assert delivery is None


async def test_an_exception_leaves_no_reference_cycle_behind() -> None:
    class Local:
        pass

    left: list[weakref.ref[Local]] = []

    async def fail(message: Any) -> None:
        local = Local()
        left.append(weakref.ref(local))
        raise ValueError("inner")

    chain = chain_of(Trace("a", []), Trace("b", []), terminal=fail)
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            await chain("m")
        is_alive = left[0]() is not None
    finally:
        gc.enable()

    assert not is_alive


def test_observers_are_called_outermost_first_with_the_arguments_they_name() -> None:
    got: list[tuple[Any, ...]] = []

    class All:
        stage = "observe"

        @hookimpl
        def published(self, message: Any, metadata: Any, error: Any) -> None:
            got.append(("all", message, metadata, error))

    class Reordered:
        stage = "recover"

        @hookimpl
        def published(self, app: Any, error: Any, message: Any) -> None:
            got.append(("reordered", app, error, message))

    class One:
        @hookimpl
        def published(self, metadata: Any) -> None:
            got.append(("one", metadata))

    class Nothing:
        stage = "transform"

        @hookimpl
        def published(self) -> None:
            got.append(("nothing",))

    class Optional:
        @hookimpl
        def published(self, metadata: Any, newer: int = 7, app: Any = None) -> None:
            got.append(("optional", metadata, newer, app))

    notify = plugins_of(All(), Reordered(), One(), Nothing(), Optional()).notifier(
        "published", app=APP
    )
    assert notify is not None
    notify("m", "metadata", None)

    assert got == [
        ("all", "m", "metadata", None),
        ("reordered", APP, None, "m"),
        ("nothing",),
        ("one", "metadata"),
        ("optional", "metadata", 7, APP),
    ]


def test_a_notifier_nobody_listens_to_is_none() -> None:
    plugins = plugins_of(Trace("a", []))

    notify = plugins.notifier("published", app=APP)

    assert notify is None


def test_an_observer_that_raises_is_logged_by_name_and_counted_and_the_next_one_is_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []

    class Broken:
        stage = "observe"

        @hookimpl
        def published(self, message: Any) -> None:
            raise ValueError("no such metric")

    class Fine:
        @hookimpl
        def published(self, message: Any) -> None:
            told.append(message)

    plugins = plugins_of(Broken(), Fine())
    notify = plugins.notifier("published", app=APP)
    assert notify is not None
    notify("m", None, None)

    assert told == ["m"]
    assert plugins.observer_errors == {"broken.published": 1}
    assert "plugin 'broken' failed in published" in caplog.text
    assert "no such metric" in caplog.text


def test_an_observer_that_always_raises_does_not_flood_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        @hookimpl
        def published(self) -> None:
            raise ValueError("no such metric")

    plugins = plugins_of(Broken())
    notify = plugins.notifier("published", app=APP)
    assert notify is not None
    for _ in range(120):
        notify("m", None, None)

    assert plugins.observer_errors["broken.published"] == 120
    told = [record.args[1] for record in caplog.records if record.args]  # type: ignore[index]  # a tuple here
    assert told == ["first failure", "10 failures so far", "100 failures so far"]


def test_cancellation_passes_through_an_observer() -> None:
    class Cancelled:
        @hookimpl
        def published(self) -> None:
            raise asyncio.CancelledError

    notify = plugins_of(Cancelled()).notifier("published", app=APP)
    assert notify is not None

    with pytest.raises(asyncio.CancelledError):
        notify("m", None, None)


async def raiser_of_chain(plugins: Plugins, terminal: Any) -> Raiser | None:
    chain = plugins.chain("wrap_consume", terminal, **CONSTANTS)
    try:
        await chain("m")
    except Exception as error:
        return plugins.find_raiser(error)
    raise AssertionError("nothing was raised")


class Culprit:
    def __init__(self, name: str, guilty: str) -> None:
        self.name, self.guilty = name, guilty

    @hookimpl
    async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
        if self.name == self.guilty:
            raise LookupError("a bug in a plugin")
        return await call_next(message)


async def test_the_plugin_that_raised_is_named_with_its_hook_and_not_the_layers_around_it() -> None:
    plugins = plugins_of(Trace("outer", [], "observe"), Culprit("faulty", "faulty"))

    assert await raiser_of_chain(plugins, echo) == ("faulty", "wrap_consume")


async def test_of_two_plugins_of_one_class_the_one_that_raised_is_named() -> None:
    plugins = plugins_of(Culprit("one", "two"), Culprit("two", "two"))

    assert await raiser_of_chain(plugins, echo) == ("two", "wrap_consume")


async def test_no_plugin_is_named_when_the_handler_raised() -> None:
    async def handle(message: Any) -> None:
        raise LookupError("a bug in the handler")

    class Core:
        async def handle(self, message: Any) -> None:
            raise LookupError("a bug in the handler")

    plugins = plugins_of(Trace("outer", []))

    assert await raiser_of_chain(plugins, handle) is None
    assert await raiser_of_chain(plugins, Core().handle) is None
    assert await raiser_of_chain(plugins, functools.partial(handle)) is None


async def test_an_error_names_the_layer_that_replaced_the_handler_s_error() -> None:
    async def fail(message: Any) -> None:
        raise ValueError("inner")

    class Replace:
        @hookimpl
        async def wrap_consume(self, message: Any, call_next: ConsumeCall) -> Any:
            try:
                return await call_next(message)
            except ValueError as error:
                raise RuntimeError("replaced") from error

    plugins = plugins_of(Replace(), Trace("outer", [], "observe"))

    assert await raiser_of_chain(plugins, fail) == ("replace", "wrap_consume")


async def test_an_error_names_a_publish_layer_below_a_handler() -> None:
    class Refuse:
        @hookimpl
        async def wrap_publish(self, message: OutgoingMessage, call_next: PublishCall) -> Any:
            raise PermissionError("not this topic")

    plugins = plugins_of(Refuse(), Trace("outer", []))
    publish = plugins.chain("wrap_publish", echo, app=APP)

    async def handle(message: Any) -> None:
        await publish(message)

    assert await raiser_of_chain(plugins, handle) == ("refuse", "wrap_publish")


def test_no_plugin_is_named_for_an_error_that_was_never_raised() -> None:
    assert plugins_of(Trace("a", [])).find_raiser(ValueError()) is None
