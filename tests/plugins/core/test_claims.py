"""What plugins own, and what they declare: options, streams, subscriptions, schemas."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    InvalidSchemaError,
    PluginError,
    Router,
    Subscription,
    SubscriptionError,
    hookimpl,
)
from kafkaesk_core.plugin import set_option

H = TypeVar("H", bound=Callable[..., Awaitable[Any]])


class Limit(BaseModel):
    """The value of the plugin's option."""

    per_second: int


class Limiter:
    """Claims an option, checks it, and notes what it was asked about."""

    name = "limiter"
    claimed_options = frozenset({"limit"})

    def __init__(self) -> None:
        self.checked: list[Any] = []

    @hookimpl
    def check_subscription(self, subscription: Subscription) -> None:
        limit = subscription.options.get("limit")
        if limit is not None and not isinstance(limit, Limit):
            raise ValueError(f"limit={limit!r} is no Limit")
        self.checked.append(limit)


def limited(per_second: int) -> Callable[[H], H]:
    """A decorator that the plugin ships."""
    return lambda func: set_option(func, "limit", Limit(per_second=per_second))


async def handle(data: bytes) -> None: ...


def new_app(*plugins: object, **options: Any) -> Application:
    return Application(["embedded://"], plugins=plugins, entry_points=False, **options)


async def start(app: Application) -> None:
    async with app:
        pass


# --- options


async def test_the_option_of_a_subscription_reaches_the_plugin_that_claims_it() -> None:
    plugin = Limiter()
    app = new_app(plugin)
    app.subscribe("a", "first", options={"limit": Limit(per_second=5)})(handle)
    app.subscribe("b", "second")(handle)
    app.subscribe("c", "third", skip_plugins=["limiter"])(handle)

    await start(app)

    assert plugin.checked == [Limit(per_second=5), None]


def test_a_decorator_of_a_plugin_sets_an_option_above_and_below_subscribe() -> None:
    app = new_app(Limiter())

    @app.subscribe("a", "below")
    @limited(1)
    async def below(data: bytes) -> None: ...

    @limited(2)
    @app.subscribe("a", "above")
    async def above(data: bytes) -> None: ...

    app.subscribe("a", "both", options={"limit": Limit(per_second=3)})(below)
    app.subscribe("a", "partial")(functools.partial(below))

    found = [one.options["limit"].per_second for one in app.subscriptions]
    assert found == [1, 2, 3, 1]


def test_two_handlers_do_not_share_their_options() -> None:
    app = new_app(Limiter())

    @app.subscribe("a", "one")
    @limited(1)
    async def one(data: bytes) -> None: ...

    @app.subscribe("a", "other")
    async def other(data: bytes) -> None: ...

    assert [dict(s.options) for s in app.subscriptions] == [{"limit": Limit(per_second=1)}, {}]


def test_what_takes_no_attributes_is_refused_by_the_decorator() -> None:
    class Service:
        async def handle(self, data: bytes) -> None: ...

    with pytest.raises(TypeError, match=r"give options=\{'limit': ...\} where it is subscribed"):
        limited(1)(Service().handle)


async def test_a_wrong_option_is_an_error_of_its_handler() -> None:
    app = new_app(Limiter())
    app.subscribe("a", "a", options={"limit": 5})(handle)

    with pytest.raises(
        SubscriptionError, match=r"handle: limit=5 is no Limit \(plugin 'limiter'\)$"
    ):
        await app.initialize()


async def test_an_error_that_names_its_handler_itself_stays_as_it_is() -> None:
    class Strict:
        @hookimpl
        def check_subscription(self, subscription: Subscription) -> None:
            raise SubscriptionError(f"handler {subscription.handler_name}: not allowed")

    app = new_app(Strict())
    app.subscribe("a", "a")(handle)

    with pytest.raises(SubscriptionError, match=r"^handler [\w.]+\.handle: not allowed$"):
        await app.initialize()


async def test_a_check_that_fails_otherwise_is_a_failure_of_the_plugin() -> None:
    class Broken:
        @hookimpl
        def check_subscription(self, subscription: Subscription) -> None:
            raise OSError("no disk")

    app = new_app(Broken())
    app.subscribe("a", "a")(handle)

    with pytest.raises(PluginError, match="plugin 'broken' failed in check_subscription: OSErr"):
        await app.initialize()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"limt": 1}, r"has the option 'limt', .*; did you mean 'limit'\? \(claimed: limit\)"),
        (
            {"pace": Limit(per_second=1)},
            r"'pace', .*its value is of the package (tests|test_claims)",
        ),
        ({"pace": 1}, r"has the option 'pace', which no active plugin claims \(claimed: limit\)"),
    ],
)
async def test_an_option_that_nobody_claims_stops_the_start(
    options: dict[str, Any], told: str
) -> None:
    app = new_app(Limiter())
    app.subscribe("a", "a", options=options)(handle)

    with pytest.raises(SubscriptionError, match=told):
        await app.initialize()


async def test_an_option_of_a_schema_is_claimed_too() -> None:
    app = new_app(Limiter())
    app.schema("Fine", options={"limit": 1})({"type": "object"})
    await start(app)
    app.schema("Wrong", options={"pace": 1})({"type": "object"})

    assert app.schemas["Fine:1"].options == {"limit": 1}
    with pytest.raises(InvalidSchemaError, match="schema Wrong:1 has the option 'pace'"):
        await app.initialize()


async def test_the_option_of_a_plugin_that_is_disabled_has_no_effect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who switches a plugin off need not change the code."""
    app = Application(["embedded://"], disable_plugins=["headers", "logging", "otel"])
    app.subscribe("a", "a", options={"headers": True})(handle)

    with caplog.at_level(logging.INFO, "kafkaesk.plugins"):
        await start(app)

    assert "option 'headers' has no effect, its plugin is disabled" in caplog.text


@pytest.mark.parametrize("options", [5, ["limit"], {1: 2}, {"": 2}])
def test_options_that_are_no_dict_of_names_are_refused(options: Any) -> None:
    app = new_app()

    with pytest.raises(SubscriptionError, match="give a dict of the names that plugins claim"):
        app.subscribe("a", "a", options=options)(handle)
    with pytest.raises(InvalidSchemaError, match="options must be a dict of the names"):
        app.schema("A", options=options)({"type": "object"})


# --- streams


class Owner:
    """Owns streams, and reads one of them."""

    name = "owner"
    claimed_streams = frozenset({"dlq.*", "retry.*"})


def test_a_pattern_takes_no_stream_of_a_plugin_and_a_literal_name_does() -> None:
    claimed = Owner.claimed_streams
    everything = Subscription("id", handle, "group", pattern="*")
    wide = Subscription("id", handle, "group", pattern="dlq.orders*")
    literal = Subscription("id", handle, "group", pattern="dlq.orders")
    listed = Subscription("id", handle, "group", topics=["dlq.orders", "other"])

    assert everything.matches("orders", claimed)
    assert everything.matches("orders.dlq.x", claimed)
    assert not everything.matches("dlq.orders", claimed)
    assert not everything.matches("retry.group.60", claimed)
    assert not wide.matches("dlq.orders", claimed)
    assert literal.matches("dlq.orders", claimed)
    assert listed.matches("dlq.orders", claimed)
    assert everything.shared_with(literal) is not None
    assert everything.shared_with(literal, claimed) is None


async def test_a_group_with_a_pattern_leaves_the_streams_of_plugins_alone(
    kafkaesk_app: Application,
) -> None:
    app = kafkaesk_app
    app.plugins.register(Owner())
    by_pattern: list[str] = []
    by_name: list[str] = []

    @app.subscribe("*", "everything")
    async def take(data: bytes, record: Any) -> None:
        by_pattern.append(record.topic)

    @app.subscribe("dlq.orders", "everything")
    async def dead(data: bytes, record: Any) -> None:
        by_name.append(record.topic)

    async with app:
        for stream in ("retry.a.60", "dlq.other", "dlq.orders", "orders"):
            await (await app.raw_publish(stream, b"data"))
        await app.consume_for(2, seconds=20)

    prefix = app.settings.topic_prefix
    assert by_pattern == [f"{prefix}orders"]
    assert by_name == [f"{prefix}dlq.orders"]


def test_claims_must_be_sets_of_texts() -> None:
    class Letters:
        claimed_streams = "dlq.*"

    class Numbers:
        claimed_options = frozenset({1})

    for plugin in (Letters(), Numbers()):
        with pytest.raises(PluginError, match=r"claimed_\w+ is .*, expected a frozenset of str"):
            new_app(plugin)


# --- declarations


class Reader:
    """Subscribes to a stream of its own for each group of the service, and has a schema."""

    name = "reader"

    def __init__(self) -> None:
        self.handled: list[bytes] = []

    @hookimpl
    def declare(self, router: Router, app: Any) -> None:
        for subscription in app.subscriptions:
            stream = f"copy.{subscription.group}"
            router.subscribe_to_topics([stream], stream)(self._handle)
        router.schema("Copied", streams=["copied"])({"type": "object"})

    async def _handle(self, data: bytes) -> None:
        self.handled.append(data)


async def test_a_plugin_subscribes_and_registers_schemas_at_each_start(
    embedded_app: Application,
) -> None:
    plugin, app = Reader(), embedded_app
    app.plugins.register(plugin)
    app.subscribe("orders", "billing")(handle)

    for _ in range(2):
        async with app:
            assert [one.group for one in app.subscriptions] == ["billing", "copy.billing"]
            await app.raw_publish("copy.billing", b"data")
            await app.consume_for(1, seconds=20)
    app.subscribe("orders", "shipping")(handle)
    async with app:
        groups = [one.group for one in app.subscriptions]

    assert plugin.handled == [b"data"] * 2
    assert "Copied:1" in app.schemas
    assert groups == ["billing", "shipping", "copy.billing", "copy.shipping"]


async def test_what_a_plugin_declares_wrong_names_the_plugin() -> None:
    class Wrong:
        @hookimpl
        def declare(self, router: Router) -> None:
            router.subscribe("no/topic", "group")(handle)

    app = new_app(Wrong())

    with pytest.raises(PluginError, match="plugin 'wrong' failed in declare: SubscriptionError: "):
        await app.initialize()


def test_a_plugin_that_only_claims_streams_is_one() -> None:
    app = new_app(Owner())

    assert [info.name for info in app.plugins.list()] == ["owner"]
    assert app.plugins.claimed_streams == {"dlq.*", "retry.*"}
