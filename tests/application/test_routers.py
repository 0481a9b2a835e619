"""Routers and decorators: what is mounted twice or in a circle, and what is declared bare."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from kafkaesk_core import (
    Application,
    ConfigurationError,
    InvalidSchemaError,
    Router,
    SubscriptionError,
)

wrong: Any = Application  # used in wrong ways on purpose


class Order(BaseModel):
    number: int


async def handle(data: bytes) -> None: ...


async def handle_event() -> None: ...


def router_of(*mounted: Router) -> Router:
    router = Router()
    for inner in mounted:
        router.mount(inner)
    return router


def test_a_router_cannot_be_mounted_in_itself() -> None:
    router = router_of()
    router.subscribe("orders")(handle)

    with pytest.raises(ConfigurationError, match="the router itself"):
        router.mount(router)

    assert len(router.subscriptions) == 1


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_routers_cannot_be_mounted_in_a_circle(depth: int) -> None:
    inner = router_of()
    inner.subscribe("orders")(handle)
    outer = inner
    for _ in range(depth):
        outer = router_of(outer)

    with pytest.raises(ConfigurationError, match=r"makes a circle.*in one direction only"):
        inner.mount(outer)

    assert len(inner.subscriptions) == len(outer.subscriptions) == 1


def test_a_router_is_mounted_once_whatever_the_way() -> None:
    shared = router_of()
    shared.subscribe("orders")(handle)
    app, left, right = Application(), router_of(shared), router_of(shared)
    app.mount(left)

    for again in (left, shared, right):
        with pytest.raises(ConfigurationError, match=r"handle> is mounted already.*mount it once"):
            app.mount(again)

    assert len(app.subscriptions) == 1


def test_a_router_that_is_in_the_application_cannot_come_in_again_from_below() -> None:
    shared, left = router_of(), router_of()
    app = Application()
    app.mount(shared)
    app.mount(left)

    with pytest.raises(ConfigurationError, match="mounted already"):
        left.mount(shared)


def test_a_router_may_be_mounted_in_several_applications() -> None:
    router = router_of()
    router.subscribe("orders")(handle)

    for app in (Application(), Application()):
        app.mount(router)

        assert len(app.subscriptions) == 1


def test_what_is_declared_after_the_mount_reaches_the_application() -> None:
    inner = router_of()
    app = Application()
    app.mount(router_of(inner))

    inner.subscribe("orders", "billing")(handle)
    inner.schema("Order")(Order)

    assert [subscription.group for subscription in app.subscriptions] == ["billing"]
    assert list(app.schemas) == ["Order:1"]


def test_a_schema_needs_no_parentheses() -> None:
    app = Application()

    @app.schema
    class Payment(BaseModel):
        amount: int

    @app.schema()
    class Refund(BaseModel):
        amount: int

    assert Payment(amount=1).amount == Refund(amount=1).amount
    assert list(app.schemas) == ["Payment:1", "Refund:1"]


def test_event_handlers_are_declared_by_call_and_by_decorator() -> None:
    app = Application()

    @app.on("initialize")
    async def begin() -> None: ...

    assert app.on("finalize", handle_event) is handle_event
    assert begin.__name__ == "begin"


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (lambda app: app.subscribe(handle), r"@app.subscribe\('orders.placed'\) above handle"),
        (lambda app: app.subscribe_to_pattern(handle), r"@app.subscribe_to_pattern\('ord"),
        (lambda app: app.subscribe_to_topics(handle), r"@app.subscribe_to_topics\(\['orders"),
        (lambda app: app.on(handle_event), r"@app.on\('initialize'\) above handle_event"),
        (lambda app: app.schema(5), "takes the schema's name, got 5"),
        (lambda app: app.schema(handle), "takes the schema's name, got <function handle"),
        (lambda app: app.schema(int), "is not a pydantic model"),
        (lambda app: app.schema({"type": "object"}), "takes the schema's name, got {'type'"),
    ],
)
def test_a_decorator_without_what_it_needs_is_refused_at_once(
    use: Callable[[Any], Any], told: str
) -> None:
    with pytest.raises(Exception, match=told):
        use(wrong())


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (5, "takes an async function, got 5"),
        (lambda data: handle(data), "is called without arguments"),
        (handle, "handle is called without arguments: missing a required argument: 'data'"),
        (print, "print must be an 'async def' function; call blocking"),
    ],
)
def test_an_event_handler_that_cannot_be_called_is_refused(handler: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        wrong().on("initialize", handler)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timeout_seconds": "5"}, "timeout_seconds='5'; give a number"),
        ({"timeout_seconds": True}, "timeout_seconds=True"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds=nan"),
        ({"timeout_seconds": -1}, "timeout_seconds=-1"),
        ({"concurrency": True}, "concurrency=True"),
        ({"concurrency": 2.0}, "concurrency=2.0"),
        ({"concurrency": -2}, "concurrency=-2"),
        ({"batch_size": "5"}, "batch_size='5'"),
        ({"batch_timeout": "1"}, "batch_timeout='1'; give 0 or more"),
        ({"batch_timeout": float("inf")}, "batch_timeout=inf"),
        ({"drain_timeout": "1"}, "drain_timeout='1'"),
        ({"cancel_grace": 0}, "cancel_grace=0"),
        ({"commit_timeout": [1]}, r"commit_timeout=\[1\]"),
        ({"max_uncommitted": 1.5}, "max_uncommitted=1.5"),
        ({"max_record_age": "old"}, "max_record_age='old'"),
        ({"skip_plugins": "otel"}, "skip_plugins='otel'; give a list of plugin names"),
        ({"skip_plugins": 5}, "skip_plugins=5"),
        ({"skip_plugins": ["otel", 5]}, r"skip_plugins=\['otel', 5\]"),
        ({"skip_plugins": {"otel": True}}, "skip_plugins={'otel'"),
        ({"ordering": None}, "ordering=None; use one of partition, key"),
        ({"ordering": ["key"]}, "ordering="),
        ({"on_error": None}, "on_error=None; use 'stop'"),
        ({"on_error": lambda error: None}, r"on_error=.*cannot be called with \(error, message"),
        ({"on_error": handle}, "on_error=<.*, an 'async def' function; use a plain 'def'"),
    ],
)
def test_an_option_of_a_wrong_type_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SubscriptionError, match=f"handle: has {told}"):
        wrong().subscribe("orders", **options)(handle)


async def takes_record_by_position(data: bytes, record: Any, /) -> None: ...


async def yields(data: bytes) -> Any:
    yield data


def yields_in_a_thread(data: bytes) -> Any:
    yield data


@functools.wraps(handle)
def decorated(data: bytes) -> Any:
    return handle(data)


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (takes_record_by_position, "'record' is positional-only.*move it behind the '/'"),
        (yields, "is a generator; remove its 'yield'"),
        (yields_in_a_thread, "is a generator; remove its 'yield'"),
        (decorated, "inside of a decorator that is not.*make the decorator's inner function"),
        (Order, "must be an 'async def' function, or a 'def' function for a thread, got <class"),
        (5, "must be an 'async def' function, or a 'def' function for a thread, got 5"),
        (handle_event, "takes no parameter; its first parameter receives the data"),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused(handler: Any, told: str) -> None:
    with pytest.raises(SubscriptionError, match=told):
        wrong().subscribe("orders", "group")(handler)


@pytest.mark.parametrize(
    ("subscribe", "told"),
    [
        (lambda app: app.subscribe("or ders"), "stream 'or ders' cannot be a topic; .* 249"),
        (lambda app: app.subscribe(".."), r"stream '..' cannot be a topic"),
        (lambda app: app.subscribe("o" * 250), "stream 'ooo.*' cannot be a topic"),
        (lambda app: app.subscribe("orders/*"), "matches no topic because of its '/'"),
        (lambda app: app.subscribe(r"orders\..*"), r"because of its '\\\\'.*not a regular expre"),
        (lambda app: app.subscribe("orders[*"), r"because of its '\['"),
        (lambda app: app.subscribe_to_topics(["orders.*"]), r"stream 'orders\.\*' cannot be"),
        (lambda app: app.subscribe_to_topics("orders"), "is subscribed to 'orders'; give"),
        (lambda app: app.subscribe("orders", ""), "has the consumer group ''"),
    ],
)
def test_a_name_that_no_topic_can_have_is_refused(subscribe: Any, told: str) -> None:
    """It would be waited for without end."""
    with pytest.raises(Exception, match=told):
        subscribe(wrong())(handle)


def test_a_schema_of_a_stream_that_no_topic_can_be_is_refused() -> None:
    with pytest.raises(InvalidSchemaError, match="'Order': stream 'a b' cannot be a topic"):
        Application().schema(streams=["a b"])(Order)


@pytest.mark.parametrize("pattern", ["*", "orders.?", "orders.[a-z]*", "[!x]*", "a_b-c.D9"])
def test_patterns_and_names_that_topics_can_have_are_taken(pattern: str) -> None:
    app = Application()

    app.subscribe(pattern)(handle)

    assert [subscription.streams for subscription in app.subscriptions] == [(pattern,)]
